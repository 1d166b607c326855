"""Stage: remove the feed-forward neurons that matter least for masked-LM on the validation text."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.calibration.importance import score_neurons
from hf_lrcompress.models.architectures import intermediate_size_of, layers_of
from hf_lrcompress.models.rebuilding import with_intermediate_size
from hf_lrcompress.stages.protocol import Cut, Stage, StageTask
from hf_lrcompress.stages.training import training_arguments
from hf_lrcompress.surgery.ffn_pruning import prune_ffn, select_neurons


@dataclass(frozen=True)
class PruneFFN(Stage):
    """Settings of FFN pruning.

    Args:
        intermediate_size (`int`, *optional*, defaults to 2048): Neurons to keep in each layer.
        batch_size (`int`, *optional*, defaults to 8): Blocks whose gradient makes one importance term.
    """

    training_settings: ClassVar[frozenset[str]] = frozenset({"bf16", "fp16"})
    cut_rank: ClassVar[int | None] = 1
    intermediate_size: int = 2048
    batch_size: int = 8

    def resized(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model with fewer neurons a layer."""
        scores = torch.zeros(len(layers_of(model)), intermediate_size_of(model.config))
        return prune_ffn(model, select_neurons(scores, self.intermediate_size))

    def cuts(self, config: PretrainedConfig) -> Iterator[Cut]:
        """Two thirds of the neurons."""
        neurons = intermediate_size_of(config)
        kept = -(-2 * neurons // 3)
        reason = f"two thirds of {neurons}; fewer degrade, and so do fewer heads"
        yield Cut("intermediate_size", kept, with_intermediate_size(config, kept), reason)

    def with_size(self, size: int, model: PreTrainedModel) -> "PruneFFN":
        """Keep `size` neurons a layer."""
        return replace(self, intermediate_size=size)

    def run(self, task: StageTask) -> dict[str, Any]:
        """Score the parent's neurons, and cut them from it."""
        inputs = task.inputs
        scored, tokenizer = task.load_parent()
        blocks = inputs.blocks(inputs.validation, tokenizer)
        bf16 = training_arguments(inputs.training, str(task.stage_dir), inputs.seed).bf16
        scores = score_neurons(scored, blocks, tokenizer, batch_size=self.batch_size, seed=inputs.seed, bf16=bf16)
        keep_neurons = select_neurons(scores, self.intermediate_size)
        kept_share = scores.gather(1, keep_neurons).sum() / scores.sum()
        parent, _ = task.load_parent()  # again: scoring has changed the first one's dropout
        task.save(prune_ffn(parent, keep_neurons), tokenizer)
        return {"importance_kept": kept_share.item()}
