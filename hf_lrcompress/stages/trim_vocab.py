"""Stage: keep the tokens that the target language uses most."""

from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig

from hf_lrcompress.architectures import changed
from hf_lrcompress.stages.stage import Stage, StageTask
from hf_lrcompress.surgery.token_selection import select_tokens
from hf_lrcompress.surgery.vocab_trimming import trim_vocab


@dataclass(frozen=True)
class TrimVocab(Stage):
    """Settings of vocabulary trimming.

    Args:
        vocab_size (`int`, *optional*, defaults to 40000): Tokens to keep, special tokens among them.
    """

    vocab_size: int = 40_000

    def resized(self, config: PretrainedConfig) -> PretrainedConfig:
        if not 1 <= self.vocab_size <= config.vocab_size:
            raise ValueError(f"vocab_size {self.vocab_size} is larger than the model's {config.vocab_size}; choose a smaller one")
        return changed(config, vocab_size=self.vocab_size)

    def run(self, task: StageTask) -> dict[str, Any]:
        model, tokenizer = task.load_parent()
        keep_ids = select_tokens(tokenizer, task.token_counts, self.vocab_size)
        trimmed = trim_vocab(model, tokenizer, keep_ids)
        task.save(trimmed.model, trimmed.tokenizer)
        covered = task.token_counts[keep_ids].sum() / task.token_counts.sum()
        return {"tokens_covered": covered.item()}
