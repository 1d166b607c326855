"""Stage: keep the tokens that the target language uses most."""

from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from hf_lrcompress.data import load_corpus
from hf_lrcompress.rebuilding import changed
from hf_lrcompress.stages.stage import Stage, StageTask
from hf_lrcompress.surgery.token_selection import select_tokens
from hf_lrcompress.surgery.vocab_trimming import trim_vocab
from hf_lrcompress.vocabulary_certificate import certify_vocabulary, write_certificate


@dataclass(frozen=True)
class TrimVocab(Stage):
    """Settings of vocabulary trimming.

    Args:
        vocab_size (`int`, *optional*, defaults to 40000): Tokens to keep, special tokens among them.
        keep (`tuple[str, ...]`, *optional*): Tokens to keep in any case, spelled as in the vocabulary, see [`select_tokens`].
    """

    vocab_size: int = 40_000
    keep: tuple[str, ...] = ()

    def resized(self, config: PretrainedConfig) -> PretrainedConfig:
        if not 1 <= self.vocab_size <= config.vocab_size:
            raise ValueError(f"vocab_size {self.vocab_size} is larger than the model's {config.vocab_size}; choose a smaller one")
        return changed(config, vocab_size=self.vocab_size)

    def select(self, tokenizer: PreTrainedTokenizerFast, counts: torch.Tensor) -> torch.LongTensor:
        """The tokens to keep."""
        return select_tokens(tokenizer, counts, self.vocab_size, self.keep)

    def run(self, task: StageTask) -> dict[str, Any]:
        model, tokenizer = task.load_parent()
        keep_ids = self.select(tokenizer, task.token_counts)
        trimmed = trim_vocab(model, tokenizer, keep_ids)
        task.save(trimmed.model, trimmed.tokenizer)
        covered = task.token_counts[keep_ids].sum() / task.token_counts.sum()
        metrics = {"tokens_covered": covered.item()}
        if PartialState().is_main_process:
            texts, models = load_corpus(task.validation)["text"], (model.eval(), trimmed.model.eval())
            certificate = certify_vocabulary(tokenizer, trimmed.tokenizer, keep_ids, texts, models, task.token_counts)
            write_certificate(certificate, task.stage_dir)
            metrics["certificate"] = certificate.to_mapping()
        return metrics
