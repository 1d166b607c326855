"""Stage: keep some of the hidden dimensions, then distil from the model that had them all."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.models.architectures import architecture_of
from hf_lrcompress.models.rebuilding import hidden_multiple, with_hidden_size
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.stages.protocol import Cut, StageContext
from hf_lrcompress.stages.training import DistillingStage
from hf_lrcompress.surgery.hidden_truncation import METHODS, truncate_hidden, truncation_record

LEAST_SHARE = 0.2
"""What must be left of the hidden size to meet a budget; the paper's 564, 456 and 312 of 768 are about ¾, 0.6 and 0.4."""


@dataclass(frozen=True)
class TruncateHidden(DistillingStage):
    """Settings of hidden truncation.

    Args:
        hidden_size (`int`, *optional*, defaults to 564): The new hidden size.
        method (`str`, *optional*, defaults to `"truncate"`): How, see [`truncate_hidden`]; `"truncate"` is the paper's.
        calibration_blocks (`int`, *optional*, defaults to 256): Blocks of training text that `"calibrated"` measures.
        training, distil, distil_from: See [`DistillingStage`].
    """

    cut_rank: ClassVar[int | None] = 3
    hidden_size: int = 564
    method: str = "truncate"
    calibration_blocks: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise ValueError(f"truncate_hidden: method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.calibration_blocks < 1:
            raise ValueError(f"truncate_hidden: calibration_blocks must be 1 or more, got {self.calibration_blocks}")

    def resized(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model with fewer dimensions."""
        return truncate_hidden(model, self.hidden_size)  # all methods make the same sizes

    def check(self, inputs: RunInputs, models: Mapping[str, ModelSource]) -> None:
        """Refuse too little text to calibrate on."""
        if self.method == "calibrated":
            inputs.check_calibration(self.calibration_blocks)

    def cuts(self, config: PretrainedConfig) -> Iterator[Cut]:
        """The largest number of dimensions first."""
        old_size = config.hidden_size
        for size in _smaller_sizes(config):
            reason = f"{size / old_size:.0%} of {old_size}; it costs most, so it is cut last"
            yield Cut("hidden_size", size, with_hidden_size(config, size), reason)

    def with_size(self, size: int, model: PreTrainedModel) -> "TruncateHidden":
        """Keep `size` dimensions."""
        return replace(self, hidden_size=size)

    def uncut(self, config: PretrainedConfig) -> Self:
        """Keep all hidden dimensions."""
        return replace(self, hidden_size=config.hidden_size)

    def run(self, context: StageContext) -> dict[str, Any]:
        """Cut, and distil from the parent."""
        parent, tokenizer = context.load_parent()
        if self.method == "calibrated":
            moments = context.inputs.moments(parent, tokenizer, self.calibration_blocks)
            student = truncate_hidden(parent, self.hidden_size, self.method, moments)
            record = {"calibration": truncation_record(parent.config, self.hidden_size, moments)}
        else:
            student = truncate_hidden(parent, self.hidden_size, self.method)
            record = {}
        return record | self.distilled(context, student, parent, tokenizer)


def _smaller_sizes(config: PretrainedConfig) -> list[int]:
    """The smaller sizes that the class can be built with, descending."""
    step = hidden_multiple(config)
    embedding_sizes = {getattr(config, key, None) for key in architecture_of(config).same_as_hidden}
    least = round(LEAST_SHARE * config.hidden_size / step) * step
    ascending = range(max(step, least), config.hidden_size, step)
    return [size for size in reversed(ascending) if size not in embedding_sizes]
