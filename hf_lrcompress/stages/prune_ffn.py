"""Stage: remove the feed-forward neurons that matter least for masked-LM on the validation text."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import PretrainedConfig

from hf_lrcompress.calibration.importance import score_neurons
from hf_lrcompress.models.architectures import intermediate_size_of, layers_of
from hf_lrcompress.models.rebuilding import masked_lm_on_meta
from hf_lrcompress.stages.protocol import Stage, StageTask
from hf_lrcompress.stages.training import training_arguments
from hf_lrcompress.surgery.ffn_pruning import prune_ffn, select_neurons


@dataclass(frozen=True)
class PruneFFN(Stage):
    """Settings of FFN pruning.

    Args:
        intermediate_size (`int`, *optional*, defaults to 2048): Neurons to keep in each layer.
        batch_size (`int`, *optional*, defaults to 8): Blocks whose gradient makes one importance term.
    """

    training_settings: ClassVar[frozenset[str]] = frozenset(["bf16", "fp16"])
    intermediate_size: int = 2048
    batch_size: int = 8

    def resized(self, config: PretrainedConfig) -> PretrainedConfig:
        model = masked_lm_on_meta(config)
        scores = torch.zeros(len(layers_of(model)), intermediate_size_of(config))
        return prune_ffn(model, select_neurons(scores, self.intermediate_size)).config

    def run(self, task: StageTask) -> dict[str, Any]:
        scored, tokenizer = task.load_parent()
        blocks = task.blocks(task.validation, tokenizer)
        bf16 = training_arguments(task.training, str(task.stage_dir), task.seed).bf16
        scores = score_neurons(scored, blocks, tokenizer, batch_size=self.batch_size, seed=task.seed, bf16=bf16)
        keep_neurons = select_neurons(scores, self.intermediate_size)
        kept_share = scores.gather(1, keep_neurons).sum() / scores.sum()
        task.save(prune_ffn(task.load_parent()[0], keep_neurons), tokenizer)
        return {"importance_kept": kept_share.item()}
