"""What all stages share: a stage's settings, its task, and how a model is loaded, trained and saved."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from transformers import AutoModelForMaskedLM, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_lrcompress.architectures import write_keys_of_4
from hf_lrcompress.data import CorpusSource, load_corpus, tokenize_corpus
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.hardware import computes_in_bf16
from hf_lrcompress.languages import Language
from hf_lrcompress.remote_code import detach_from_repository
from hf_lrcompress.saved_tokenizer import save_tokenizer

OWNED_BY_THE_STAGE = ("output_dir", "do_train", "resume_from_checkpoint", "seed", "push_to_hub")


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


def load_masked_lm(name_or_dir: str, revision: str | None = None) -> PreTrainedModel:
    """Load a masked LM in fp32; every weight must be in the checkpoint.

    Raises:
        ValueError: If the checkpoint has no masked-LM head, or lacks other weights.
    """
    model, info = AutoModelForMaskedLM.from_pretrained(
        name_or_dir, revision=revision, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"{name_or_dir} lacks {len(missing)} weights of {type(model).__name__} (such as {missing[0]}); "
            "choose a checkpoint that was saved with its masked-LM head"
        )
    write_keys_of_4(model.config)
    detach_from_repository(model.config)
    return model


def training_arguments(settings: Mapping[str, Any], output_dir: str, seed: int) -> DistillationConfig:
    """Training arguments from a configuration's `training` section.

    Where `bf16` and `fp16` are not set, bf16 is used if the hardware computes in it.

    Raises:
        ValueError: If a key is unknown or belongs to the stage, or a value is out of range.
    """
    known = {field.name: field.default for field in fields(DistillationConfig) if field.name not in OWNED_BY_THE_STAGE}
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"unknown training argument {key!r}; see transformers.TrainingArguments and DistillationConfig")
        _check_type(key, value, known[key])
    precision = {} if "bf16" in settings or "fp16" in settings else {"bf16": computes_in_bf16()}
    defaults = {
        "save_total_limit": 1,
        "logging_steps": 50,
        "report_to": "none",
        "run_name": Path(output_dir).resolve().name,
        "project": Path(output_dir).resolve().parent.name,
        "trackio_space_id": None,  # as in transformers 5: 4 would put a Space on the Hub that nobody asked for
        "disable_tqdm": False,
        "use_cpu": not torch.accelerator.is_available(),
    }
    try:
        return DistillationConfig(output_dir=output_dir, seed=seed, **(defaults | precision | dict(settings)))
    except TypeError as error:
        raise ValueError(f"training: {error}") from error


def _check_type(key: str, value: Any, default: Any) -> None:
    """A number or a switch must be one: YAML has `no` as text, which would count as true or fail much later."""
    wanted = {bool: bool, int: int, float: int | float}.get(type(default))
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool)):
        name = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise ValueError(f"training: {key} must be {name}, got {value!r}")
    if key in ("per_device_train_batch_size", "gradient_accumulation_steps") and value < 1:
        raise ValueError(f"training: {key} must be 1 or more, got {value}")


def _end_wandb_run() -> None:
    """The Trainer leaves a wandb run open, and the next stage would go on in it. TensorBoard and trackio it closes itself."""
    wandb = sys.modules.get("wandb")
    if wandb and wandb.run:
        wandb.finish()


def _last_checkpoint(stage_dir: Path) -> str | None:
    """The newest checkpoint that was written whole: its trainer state is written last."""
    whole = [path.parent for path in stage_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None
