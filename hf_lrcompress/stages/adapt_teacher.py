"""Stage: continue masked-LM training of the multilingual teacher on the target language."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.stages.protocol import StageContext
from hf_lrcompress.stages.training import TrainingStage, train_student
from hf_lrcompress.stages.training_arguments import LOSS_ARGUMENTS


@dataclass(frozen=True)
class AdaptTeacher(TrainingStage):
    """Settings of the adaptation.

    The losses of the run are those of its students; the teacher is trained by masked LM alone. `training.losses` of this stage
    may add others, against the teacher as it was: they keep what it knew.

    Args:
        training (`Mapping`, *optional*): Training arguments of this stage; they go before those of the run.
        new_head (`bool`, *optional*, defaults to `False`): Train a new masked-LM head, for a teacher that was saved without one.
    """

    new_head: bool = False

    @property
    def gives_new_head(self) -> bool:
        """As it is set."""
        return self.new_head

    def check(self, inputs: RunInputs, models: Mapping[str, ModelSource]) -> None:
        """Refuse a new head where none is used, and stages before it that would use it untrained."""
        if self.new_head and inputs.objective != "masked_lm":
            raise ValueError(f"new_head does nothing with objective: {inputs.objective}; leave it out")
        if self.new_head and len(models) > 1:
            raise ValueError("with new_head, adapt_teacher must be the first stage: before it the head is untrained")

    def merged(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """The training arguments of the run but for its losses, with the stage's own."""
        common = {key: value for key, value in training.items() if key not in LOSS_ARGUMENTS}
        losses = {} if "losses" in self.training else {"alpha": 1.0}
        return common | losses | dict(self.training)

    def teacher(self, parent: str, inputs: RunInputs) -> str | None:
        """The parent, if there is a loss against it."""
        return parent if self.configured(inputs, ".").needs_teacher else None

    def run(self, context: StageContext) -> dict[str, Any]:
        """Train the parent itself."""
        model, tokenizer = context.load_parent()
        arguments = self.configured(context.inputs, str(context.stage_dir))
        teacher = context.inputs.load_model(context.parent) if arguments.needs_teacher else None
        return train_student(context, model, teacher, tokenizer, arguments)
