"""Stage: keep some of the layers, then distil from the model that had them all."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.calibration.layer_errors import measure_layers
from hf_lrcompress.models.architectures import architecture_of
from hf_lrcompress.models.rebuilding import with_layers
from hf_lrcompress.stages.inputs import on_device
from hf_lrcompress.stages.protocol import Cut, StageContext
from hf_lrcompress.stages.training import DistillingStage
from hf_lrcompress.surgery.layer_reduction import STRATEGIES, fitting_layers, reduce_layers, select_layers, with_random_layers

MEASURED = "measured"
RANDOM = "random"
MEASURED_BLOCKS = 32
"""Blocks of training text that layers are measured on: some sixty passes over them for 6 of 12 layers."""


@dataclass(frozen=True)
class ReduceLayers(DistillingStage):
    """Settings of layer reduction.

    Args:
        num_hidden_layers (`int`, *optional*, defaults to 6): Layers to keep.
        strategy (`str`, *optional*, defaults to `"stride"`):
            Which, see [`select_layers`]; or `"measured"`: those without which the last states are lost least, see
            [`measure_layers`]; or `"random"`: none, see [`with_random_layers`].
        keep_layers (`tuple[int, ...]`, *optional*): Exactly these layers (from 0), instead of the two above.
        training, distil, distil_from: See [`DistillingStage`].

    Raises:
        ValueError: If the strategy is unknown.
    """

    cut_rank: ClassVar[int | None] = 0
    num_hidden_layers: int = 6
    strategy: str = "stride"
    keep_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (*STRATEGIES, MEASURED, RANDOM)
        if self.strategy not in known:
            raise ValueError(f"reduce_layers: strategy must be one of {', '.join(known)}, got {self.strategy!r}")

    def resized(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model with fewer layers."""
        return reduce_layers(model, self._select(model.config))

    def cuts(self, config: PretrainedConfig) -> Iterator[Cut]:
        """Half of the layers."""
        layers = config.num_hidden_layers
        if layers > 1 and not architecture_of(config).shared_layers:
            reason = f"half of {layers}; with distillation it costs least for what it saves"
            yield Cut("num_hidden_layers", layers // 2, with_layers(config, layers // 2), reason)

    def with_size(self, size: int, model: PreTrainedModel) -> "ReduceLayers":
        """Keep `size` layers: those of the strategy, or the nearest that can follow one another."""
        if self._chosen_later:
            return replace(self, num_hidden_layers=size)
        wanted = select_layers(model.config.num_hidden_layers, size, self.strategy)
        fitting = fitting_layers(model, wanted)
        return replace(self, num_hidden_layers=size, keep_layers=() if fitting == wanted else tuple(fitting))

    def uncut(self, config: PretrainedConfig) -> Self:
        """Keep all layers."""
        return replace(self, num_hidden_layers=config.num_hidden_layers, keep_layers=tuple(range(config.num_hidden_layers)))

    def run(self, context: StageContext) -> dict[str, Any]:
        """Cut, and distil from the parent."""
        teacher, tokenizer = context.load_parent()
        keep_layers = self._select(teacher.config)
        if self._chosen_later == MEASURED:
            batches = list(context.inputs.calibration_batches(tokenizer, MEASURED_BLOCKS))
            with on_device(teacher):
                keep_layers = measure_layers(teacher, self.num_hidden_layers, batches)
        student = reduce_layers(teacher, keep_layers)
        if self._chosen_later == RANDOM:
            student = with_random_layers(student, context.inputs.seed)
            keep_layers = []
        return {"keep_layers": keep_layers} | self.distilled(context, student, teacher, tokenizer)

    @property
    def _chosen_later(self) -> str | None:
        """The strategy, where it is not the indices that decide: then the first layers stand for those of the student."""
        return self.strategy if self.strategy in (MEASURED, RANDOM) and not self.keep_layers else None

    def _select(self, config: PretrainedConfig) -> list[int]:
        """The layers to keep; where they are chosen later, as many as will be kept."""
        if self.keep_layers:
            return list(self.keep_layers)
        strategy = "first" if self._chosen_later else self.strategy
        return select_layers(config.num_hidden_layers, self.num_hidden_layers, strategy)
