"""Stage: keep some of the layers, then distil from the model that had them all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PretrainedConfig

from hf_lrcompress.architectures import changed
from hf_lrcompress.stages.stage import Stage, StageTask
from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers


@dataclass(frozen=True)
class ReduceLayers(Stage):
    """Settings of layer reduction.

    Args:
        num_hidden_layers (`int`, *optional*, defaults to 6): Layers to keep.
        strategy (`str`, *optional*, defaults to `"stride"`): Which, see [`select_layers`].
        training (`Mapping`, *optional*): Training arguments of this stage.
    """

    num_hidden_layers: int = 6
    strategy: str = "stride"
    training: Mapping[str, Any] = field(default_factory=dict)

    def resized(self, config: PretrainedConfig) -> PretrainedConfig:
        keep_layers = select_layers(config.num_hidden_layers, self.num_hidden_layers, self.strategy)
        return changed(config, num_hidden_layers=len(keep_layers))

    def run(self, task: StageTask) -> dict[str, Any]:
        teacher, tokenizer = task.load_parent()
        keep_layers = select_layers(teacher.config.num_hidden_layers, self.num_hidden_layers, self.strategy)
        student = reduce_layers(teacher, keep_layers)
        return {"keep_layers": keep_layers} | task.train_student(student, teacher, tokenizer, self.training)
