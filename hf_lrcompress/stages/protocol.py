"""What all stages share: a stage's settings, its task, and how a model is loaded, trained and saved."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.trainer import TRAINING_ARGS_NAME

from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.models.loading import load_masked_lm
from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.stages.training import _end_wandb_run, _last_checkpoint, training_arguments
from hf_lrcompress.texts.corpus import CorpusSource, load_corpus, tokenize_corpus
from hf_lrcompress.texts.languages import Language


@dataclass(frozen=True)
class StageTask:
    """Where a stage reads and writes.

    Args:
        parent (`str`): Directory (or, for the teacher, Hub id) of the model to start from.
        revision (`str` or `None`): Git revision of the parent where it is a Hub id.
        stage_dir (`Path`): Where the stage saves its model and tokenizer; checkpoints go there while it runs.
        train, validation ([`CorpusSource`]): The texts.
        block_size (`int`): Tokens of a training example.
        seed (`int`): Of everything random.
        training (`Mapping`): Training arguments of all stages; a stage's own go first.
        token_counts (`torch.Tensor` of shape `(vocabulary,)` or `None`): What trimming goes by, of the teacher's tokens.
        language ([`Language`]): The target language.
        models (`Mapping`): The models made so far: name of the stage → directory or Hub id, and revision.
        stages (`Mapping[str, Stage]`): The stages so far.
        trains (`bool`, *optional*, defaults to `True`): If not, students are saved as the surgery leaves them.
    """

    parent: str
    revision: str | None
    stage_dir: Path
    train: CorpusSource
    validation: CorpusSource
    block_size: int
    seed: int
    training: Mapping[str, Any]
    token_counts: torch.Tensor | None
    language: Language
    models: Mapping[str, tuple[str, str | None]]
    stages: Mapping[str, "Stage"]
    trains: bool = True

    def load_parent(self) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """The parent's masked LM and tokenizer."""
        return load_masked_lm(self.parent, self.revision), AutoTokenizer.from_pretrained(self.parent, revision=self.revision)

    def blocks(self, source: CorpusSource, tokenizer: PreTrainedTokenizerFast):
        """A corpus as full blocks of tokens."""
        with PartialState().main_process_first():
            return tokenize_corpus(load_corpus(source), tokenizer, self.block_size)

    def train_student(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        tokenizer: PreTrainedTokenizerFast,
        own_training: Mapping[str, Any],
    ) -> dict[str, float]:
        """Train `student`, from the last checkpoint in the stage's directory if there is one, and save it."""
        if not self.trains:
            self.save(student, tokenizer)
            return {}
        os.environ.setdefault("WANDB_RUN_GROUP", self.stage_dir.resolve().parent.name)  # as project is for trackio
        settings = dict(self.training) | dict(own_training) | ({} if teacher else {"alpha": 1.0, "feature_loss": None})
        trainer = DistillationTrainer(
            student,
            training_arguments(settings, str(self.stage_dir), self.seed),
            teacher_model=teacher,
            train_dataset=self.blocks(self.train, tokenizer),
            eval_dataset=self.blocks(self.validation, tokenizer),
            processing_class=tokenizer,
        )
        result = trainer.train(resume_from_checkpoint=_last_checkpoint(self.stage_dir))
        _end_wandb_run()
        trainer.save_model(str(self.stage_dir))
        (self.stage_dir / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle, which nobody should be asked to trust
        return {"train_loss": result.training_loss, "steps": result.global_step}

    def save(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        """Save model and tokenizer, from the main process."""
        if PartialState().is_main_process:
            model.save_pretrained(self.stage_dir)
            save_tokenizer(tokenizer, self.stage_dir)
        PartialState().wait_for_everyone()


class Stage(ABC):
    """Base of the stages: a frozen dataclass of settings that says what sizes it makes, and makes them."""

    makes_model: ClassVar[bool] = True
    """Whether the stage leaves a model; if not, the next stage starts from the one before."""

    distils: ClassVar[bool] = False
    """Whether the model is trained against the one that it was cut from."""

    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Training arguments that change nothing here, so that the stage need not be made again for them."""

    training_settings: ClassVar[frozenset[str]] = frozenset()
    """Of the run's training arguments those that matter to a stage which does not train, so that it is made again for them."""

    def resized(self, config: PretrainedConfig) -> PretrainedConfig:
        """The config of the model that this stage makes from a model with `config`.

        Raises:
            ValueError: If the settings do not fit the model.
        """
        return config

    def inputs(self) -> Any:
        """What the stage reads besides the run's texts, for the fingerprint; `None` if there is nothing."""
        return None

    def paths(self) -> list[str]:
        """The files and directories it reads besides the run's texts: they must not lie in what would be deleted."""
        return []

    def check(self, language: Language, models: Mapping[str, tuple[str, str | None]]) -> None:  # noqa: B027 - most have nothing
        """Refuse bad input before anything is computed; `models` as in [`StageTask`].

        Raises:
            ValueError, OSError, ImportError: One line that says what is wrong and what to do.
        """

    @abstractmethod
    def run(self, task: StageTask) -> dict[str, Any]:
        """Make the model, save it in `task.stage_dir` and return what was measured."""
