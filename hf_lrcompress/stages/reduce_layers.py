"""Stage: keep some of the layers, then distil from the model that had them all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from transformers import PretrainedConfig

from hf_lrcompress.models.rebuilding import masked_lm_on_meta
from hf_lrcompress.stages.protocol import Stage, StageTask
from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers


@dataclass(frozen=True)
class ReduceLayers(Stage):
    """Settings of layer reduction.

    Args:
        num_hidden_layers (`int`, *optional*, defaults to 6): Layers to keep.
        strategy (`str`, *optional*, defaults to `"stride"`): Which, see [`select_layers`].
        keep_layers (`tuple[int, ...]`, *optional*): Exactly these layers (from 0), instead of the two above.
        training (`Mapping`, *optional*): Training arguments of this stage.
    """

    distils: ClassVar[bool] = True
    num_hidden_layers: int = 6
    strategy: str = "stride"
    keep_layers: tuple[int, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    def resized(self, config: PretrainedConfig) -> PretrainedConfig:
        return reduce_layers(masked_lm_on_meta(config), self._select(config)).config

    def run(self, task: StageTask) -> dict[str, Any]:
        teacher, tokenizer = task.load_parent()
        keep_layers = self._select(teacher.config)
        student = reduce_layers(teacher, keep_layers)
        return {"keep_layers": keep_layers} | task.train_student(student, teacher, tokenizer, self.training)

    def _select(self, config: PretrainedConfig) -> list[int]:
        if self.keep_layers:
            return list(self.keep_layers)
        return select_layers(config.num_hidden_layers, self.num_hidden_layers, self.strategy)
