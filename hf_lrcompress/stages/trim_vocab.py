"""Stage: keep the tokens that the target language uses most."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from hf_lrcompress.models.rebuilding import changed
from hf_lrcompress.stages.protocol import Stage, StageTask
from hf_lrcompress.surgery.vocab_trimming import trim_vocab
from hf_lrcompress.texts.corpus import CorpusSource, corpus_fingerprint, load_corpus
from hf_lrcompress.texts.corpus_counts import cached_counts
from hf_lrcompress.vocabulary.certificate import certify_vocabulary, write_certificate
from hf_lrcompress.vocabulary.selection import select_tokens, weighted_counts


@dataclass(frozen=True)
class TrimVocab(Stage):
    """Settings of vocabulary trimming.

    Args:
        vocab_size (`int`, *optional*, defaults to 40000): Tokens to keep, special tokens among them.
        min_count (`int`, *optional*):
            Instead: keep all tokens that occur at least so often, and those that must stay. Their number becomes `vocab_size`,
            whatever it was, see [`~planning.with_counted_vocabulary`].
        keep (`tuple[str, ...]`, *optional*): Tokens to keep in any case, spelled as in the vocabulary, see [`select_tokens`].
        also (`Mapping[str, Mapping]`, *optional*):
            Texts in other languages or domains to count too, by a name: the keys of a [`CorpusSource`] and a `weight`, where the
            training text has 1, whatever the sizes. With `{"en": {"files": ["en.txt"], "weight": 0.25}}` English makes a fifth.

    Raises:
        ValueError: If a text of `also` has no weight or is no [`CorpusSource`], or `min_count` is not positive.
    """

    vocab_size: int = 40_000
    min_count: int | None = None
    keep: tuple[str, ...] = ()
    also: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self):
        if self.min_count is not None and self.min_count < 1:
            raise ValueError(f"trim_vocab: min_count must be 1 or more, got {self.min_count}")
        self.other_texts()

    def other_texts(self) -> dict[str, tuple[CorpusSource, float]]:
        """The texts of `also` and their weights."""
        texts = {}
        for name, settings in self.also.items():
            keys = dict(settings) if isinstance(settings, Mapping) else {}
            weight = keys.pop("weight", None)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
                raise ValueError(f"trim_vocab: also: {name} needs a weight of more than 0; the training text has 1")
            try:
                texts[name] = CorpusSource(**{key: tuple(v) if isinstance(v, list) else v for key, v in keys.items()}), weight
            except (TypeError, ValueError) as error:
                raise ValueError(f"trim_vocab: also: {name}: {error}") from error
        return texts

    def inputs(self) -> Any:
        return [corpus_fingerprint(source) for source, _ in self.other_texts().values()] or None

    def paths(self) -> list[str]:
        return [file for source, _ in self.other_texts().values() for file in source.files]

    def resized(self, config: PretrainedConfig) -> PretrainedConfig:
        if not 1 <= self.vocab_size <= config.vocab_size:
            raise ValueError(f"vocab_size {self.vocab_size} is larger than the model's {config.vocab_size}; choose a smaller one")
        return changed(config, vocab_size=self.vocab_size)

    def read(self, train: CorpusSource) -> None:
        """Check the texts to count, which are then in the cache."""
        for source in (train, *(source for source, _ in self.other_texts().values())):
            load_corpus(source)

    def count(self, train: CorpusSource, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
        """Count tokens, by the weights of the texts; every process counts a part, and none what is in the cache."""
        counts = {"train": cached_counts(train, tokenizer)}
        weights = {"train": 1.0}
        for name, (source, weight) in self.other_texts().items():
            counts[f"also {name}"], weights[f"also {name}"] = cached_counts(source, tokenizer), weight
        return weighted_counts(counts, weights) if self.also else counts["train"]

    def select(self, tokenizer: PreTrainedTokenizerFast, counts: torch.Tensor) -> torch.LongTensor:
        """The tokens to keep."""
        size = None if self.min_count else self.vocab_size
        return select_tokens(tokenizer, counts, size, self.keep, self.min_count)

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
