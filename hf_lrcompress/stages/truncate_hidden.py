"""Stage: keep some of the hidden dimensions, then distil from the model that had them all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from transformers import PretrainedConfig

from hf_lrcompress.models.rebuilding import masked_lm_on_meta
from hf_lrcompress.stages.protocol import Stage, StageTask
from hf_lrcompress.surgery.hidden_truncation import truncate_hidden


@dataclass(frozen=True)
class TruncateHidden(Stage):
    """Settings of hidden truncation.

    Args:
        hidden_size (`int`, *optional*, defaults to 564): The new hidden size.
        method (`str`, *optional*, defaults to `"truncate"`): Which dimensions, see [`select_dims`].
        training (`Mapping`, *optional*): Training arguments of this stage.
    """

    distils: ClassVar[bool] = True
    hidden_size: int = 564
    method: str = "truncate"
    training: Mapping[str, Any] = field(default_factory=dict)

    def resized(self, config: PretrainedConfig) -> PretrainedConfig:
        return truncate_hidden(masked_lm_on_meta(config), self.hidden_size, self.method).config

    def run(self, task: StageTask) -> dict[str, Any]:
        teacher, tokenizer = task.load_parent()
        student = truncate_hidden(teacher, self.hidden_size, self.method)
        return task.train_student(student, teacher, tokenizer, self.training)
