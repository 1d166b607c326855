"""The training that stages share: its checkpoints, and the base of the stages that train."""

import logging
import os
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
)
from transformers.trainer import TRAINING_ARGS_NAME

from hf_lrcompress.distillation.checkpoints import newest_whole
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.figures.of_runs import plot_training
from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.stages.inputs import RunInputs
from hf_lrcompress.stages.protocol import Stage, StageContext
from hf_lrcompress.stages.training_arguments import training_arguments, with_effect

logger = logging.getLogger(__name__)

PARENT = "parent"


@dataclass(frozen=True)
class TrainingStage(Stage):
    """Base of the stages that train a model.

    Args:
        training (`Mapping`, *optional*): Training arguments of this stage; they go before those of the run.
    """

    training: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def arguments(self, inputs: RunInputs, output_dir: str) -> DistillationConfig | None:
        """The run's training arguments with the stage's own."""
        return self.configured(inputs, output_dir)

    def configured(self, inputs: RunInputs, output_dir: str) -> DistillationConfig:
        """What it trains by, if it trains."""
        settings = {"sentence_pooling": inputs.sentence_pooling} | self.merged(inputs.training)
        return training_arguments(settings, output_dir, inputs.seed)

    def merged(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """The training arguments of the run with the stage's own; of `alpha` and `losses` those of the stage, if it has any."""
        instead = {"losses": "alpha", "alpha": "losses"}
        replaced = {instead[key] for key in self.training if key in instead}
        return {key: value for key, value in training.items() if key not in replaced} | dict(self.training)

    def settings_that_matter(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """All settings, with the training arguments that the stage ends up with."""
        return asdict(self) | {"training": with_effect(self.merged(training))}


@dataclass(frozen=True)
class DistillingStage(TrainingStage):
    """Base of the stages that cut a model and distil what is left from a larger one.

    Args:
        training (`Mapping`, *optional*): Training arguments of this stage; they go before those of the run.
        distil (`bool`, *optional*, defaults to `True`): Whether to train; if not, the model stays as the surgery leaves it.
        distil_from (`str`, *optional*, defaults to `"parent"`):
            The teacher: `"parent"` is the model that is cut, as in the paper; or an earlier stage by its name, or `"teacher"`.

    Raises:
        ValueError: If a teacher is named that no training needs.
    """

    distil: bool = field(default=True, kw_only=True)
    distil_from: str = field(default=PARENT, kw_only=True)

    def __post_init__(self) -> None:
        if not self.distil and self.distil_from != PARENT:
            raise ValueError(f"distil_from {self.distil_from!r} does nothing with distil: false; leave one out")

    @abstractmethod
    def uncut(self, config: PretrainedConfig) -> Self:
        """The stage with the size that the model has: it trains, and cuts nothing."""

    def arguments(self, inputs: RunInputs, output_dir: str) -> DistillationConfig | None:
        """As those of every stage that trains, checked in any case; `None` without distillation."""
        arguments = super().arguments(inputs, output_dir)
        return arguments if self.distil else None

    def teacher(self, parent: str, inputs: RunInputs) -> str | None:
        """The parent, or the model that is named; nothing without distillation."""
        if not self.distil:
            return None
        return parent if self.distil_from == PARENT else self.distil_from

    def distilled(
        self, context: StageContext, student: PreTrainedModel, parent: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
    ) -> dict[str, Any]:
        """Train the cut model, or save it as it is; what was measured."""
        arguments = self.arguments(context.inputs, str(context.stage_dir))
        if arguments is None or not context.trains:
            context.save(student, tokenizer)
            return {}
        teacher = parent if self.distil_from == PARENT else context.inputs.load_model(context.models[self.distil_from])
        return train_student(context, student, teacher, tokenizer, arguments)


def train_student(
    context: StageContext,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerFast,
    arguments: DistillationConfig,
) -> dict[str, Any]:
    """Train `student`, from the last checkpoint in the stage's directory if there is one, and save it.

    Args:
        context ([`StageContext`]): With the texts to train and evaluate on.
        student ([`~transformers.PreTrainedModel`]): Trained in place.
        teacher ([`~transformers.PreTrainedModel`] or `None`): What it is compared with.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer of both.
        arguments ([`DistillationConfig`]): How to train; its `output_dir` is the stage's directory.

    Returns:
        `dict`: `steps`, if no checkpoint was resumed from `train_loss`, where it was evaluated on the way `evaluations`, see
        [`evaluations_of`], and if `auto_find_batch_size` found another than was asked for `per_device_train_batch_size`.
    """
    asked_for = arguments.per_device_train_batch_size
    os.environ.setdefault("WANDB_RUN_GROUP", context.stage_dir.resolve().parent.name)  # as project is for trackio
    trainer = DistillationTrainer(
        student,
        arguments,
        teacher_model=teacher,
        train_dataset=context.inputs.training_examples(context.inputs.train, tokenizer),
        eval_dataset=context.inputs.training_examples(context.inputs.validation, tokenizer),
        processing_class=tokenizer,
    )
    trainer.add_callback(AtCheckpoints(context))
    if logger.getEffectiveLevel() > logging.WARNING:  # --quiet
        for callback in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(callback)
    checkpoint = newest_whole(context.stage_dir)
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    _end_wandb_run()
    trainer.save_model(str(context.stage_dir))
    if trainer.is_world_process_zero():
        plot_training(trainer.state.log_history, context.stage_dir / "training.png")
        save_tokenizer(tokenizer, context.stage_dir)  # the Trainer of transformers 5 names a class that 4 does not have
    (context.stage_dir / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle, which nobody should be asked to trust
    measured: dict[str, Any] = {"steps": result.global_step}
    if not checkpoint:
        measured["train_loss"] = result.training_loss  # the Trainer's is of the steps since it was resumed
    if evaluations := evaluations_of(trainer.state.log_history):
        measured["evaluations"] = evaluations
    if arguments.per_device_train_batch_size != asked_for:
        measured["per_device_train_batch_size"] = arguments.per_device_train_batch_size
    return measured


class AtCheckpoints(TrainerCallback):
    """Calls `at_checkpoint` of a stage's context."""

    def __init__(self, context: StageContext) -> None:
        self.context = context

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        """A checkpoint has been saved."""
        self.context.at_checkpoint()


def evaluations_of(history: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """What a training was evaluated at on the way: a row a step, with `loss`, each loss by its name and `mlm_accuracy`.

    Args:
        history (`Sequence[Mapping]`): `state.log_history` of a Trainer; of a step that was evaluated twice the last counts.
    """
    rows = {}
    for logged in history:
        if "eval_loss" in logged:
            measured = {key: value for key, value in logged.items() if key.endswith(("loss", "accuracy"))}
            rows[logged["step"]] = {"step": logged["step"]} | {key[len("eval_") :]: measured[key] for key in measured}
    return [rows[step] for step in sorted(rows)]


def _end_wandb_run() -> None:
    """The Trainer leaves a wandb run open, and the next stage would go on in it. TensorBoard and trackio it closes itself."""
    wandb = sys.modules.get("wandb")
    if wandb and wandb.run:
        wandb.finish()
