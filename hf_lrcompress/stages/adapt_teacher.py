"""Stage: continue masked-LM training of the multilingual teacher on the target language."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hf_lrcompress.stages.protocol import Stage, StageTask


@dataclass(frozen=True)
class AdaptTeacher(Stage):
    """Args: training (`Mapping`): Training arguments of this stage."""

    without_effect: ClassVar[frozenset[str]] = frozenset(  # it has no teacher
        {"alpha", "distillation_loss", "distillation_positions", "temperature", "feature_loss", "feature_weight"}
    )
    training: Mapping[str, Any] = field(default_factory=dict)

    def run(self, task: StageTask) -> dict[str, Any]:
        model, tokenizer = task.load_parent()
        return task.train_student(model, None, tokenizer, self.training)
