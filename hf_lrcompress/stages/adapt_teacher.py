"""Stage: continue masked-LM training of the multilingual teacher on the target language."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from hf_lrcompress.stages.protocol import StageTask
from hf_lrcompress.stages.training import TrainingStage, train_student


@dataclass(frozen=True)
class AdaptTeacher(TrainingStage):
    """Settings of the adaptation.

    Args:
        training (`Mapping`, *optional*): Training arguments of this stage; they go before those of the run.
    """

    without_effect: ClassVar[frozenset[str]] = frozenset(  # it has no teacher
        {
            "losses",
            "alpha",
            "distillation_loss",
            "distillation_positions",
            "temperature",
            "relation_heads",
            "relation_layer",
            "hidden_layers",
        }
    )

    decided: ClassVar[Mapping[str, Any]] = {"alpha": 1.0, "losses": None}

    def run(self, task: StageTask) -> dict[str, Any]:
        """Train the parent itself."""
        model, tokenizer = task.load_parent()
        return train_student(task, model, None, tokenizer, self.arguments(task.inputs, str(task.stage_dir)))
