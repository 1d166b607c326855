"""Stage: keep the tokens that the target language uses most."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.figures.of_runs import plot_vocabulary
from hf_lrcompress.models.rebuilding import resized_on_meta, with_vocab_size
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.stages.protocol import Cut, Stage, StageContext
from hf_lrcompress.surgery.vocab_trimming import config_tokens, trim_vocab, trimmed_config
from hf_lrcompress.texts.corpus import CorpusSource, corpus_fingerprint, load_corpus
from hf_lrcompress.texts.languages import Language
from hf_lrcompress.vocabulary.candidates import covered_share
from hf_lrcompress.vocabulary.certificate import certify_vocabulary, write_certificate
from hf_lrcompress.vocabulary.coverage import check_coverage
from hf_lrcompress.vocabulary.selection import check_one_rule, padded_size, select_tokens, weighted_counts
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer

logger = logging.getLogger(__name__)

BUDGET_SIZE = 40_000
"""Tokens to keep where a budget decides (the paper's)."""


@dataclass(frozen=True)
class TrimVocab(Stage):
    """Settings of vocabulary trimming.

    Args:
        vocab_size (`int`, *optional*, defaults to 40000): Tokens to keep, special tokens among them.
        min_count (`int`, *optional*):
            Instead: keep all tokens that occur at least so often, and those that must stay. Their number becomes `vocab_size`,
            whatever it was, see [`TrimVocab.sized`].
        coverage (`float`, *optional*):
            Instead: keep the fewest tokens that make up this share of what the teacher's tokenizer made of the text (0.999), see
            [`select_tokens`]. Their number becomes `vocab_size` as well.
        pad_to_multiple_of (`int`, *optional*):
            Keep more, until the number of tokens is a multiple of this (64), as tensor cores like it: the teacher's next most
            frequent ones. No row of the embeddings is without a token.
        keep (`tuple[str, ...]`, *optional*): Tokens to keep in any case, spelled as in the vocabulary, see [`select_tokens`].
        also (`Mapping[str, Mapping]`, *optional*):
            Texts in other languages or domains to count too, by a name: the keys of a [`CorpusSource`] and a `weight`, where the
            training text has 1, whatever the sizes. With `{"en": {"files": ["en.txt"], "weight": 0.25}}` English makes a fifth.

    Raises:
        ValueError: If a text of `also` has no weight or is no [`CorpusSource`], if `min_count`, `coverage` or
            `pad_to_multiple_of` is out of range, or if both of the first two are given.
    """

    cut_rank: ClassVar[int | None] = 2
    vocab_size: int = 40_000
    min_count: int | None = None
    coverage: float | None = None
    pad_to_multiple_of: int | None = None
    keep: tuple[str, ...] = ()
    also: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.min_count is not None and self.min_count < 1:
            raise ValueError(f"trim_vocab: min_count must be 1 or more, got {self.min_count}")
        try:
            check_one_rule(self._given_size, self.min_count, self.coverage)
            padded_size(self.vocab_size, self.pad_to_multiple_of)
        except ValueError as error:
            raise ValueError(f"trim_vocab: {error}") from error
        self.other_texts()

    @property
    def _given_size(self) -> int | None:
        """`vocab_size`, where the text does not decide it."""
        return self.vocab_size if self.min_count is None and self.coverage is None else None

    def other_texts(self) -> dict[str, tuple[CorpusSource, float]]:
        """The texts of `also` and their weights."""
        return {name: _weighted_text(name, settings) for name, settings in self.also.items()}

    def resized(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model with fewer tokens."""
        size = padded_size(self.vocab_size, self.pad_to_multiple_of)
        if size < 1:
            raise ValueError(f"vocab_size must be 1 or more, got {self.vocab_size}")
        if size > model.config.vocab_size:
            padded = "" if size == self.vocab_size else f", padded to {size},"
            raise ValueError(
                f"vocab_size {self.vocab_size}{padded} is larger than the model's {model.config.vocab_size}; choose a smaller one"
            )
        return resized_on_meta(model, with_vocab_size(model.config, size))

    def sized(self, inputs: RunInputs) -> "TrimVocab":
        """The stage whose `vocab_size` is what the text makes it; that is counted only if it has to be."""
        if self._given_size is not None:
            return self
        stage = replace(self, vocab_size=len(self.select(inputs)))
        if stage != self:
            why = f"occur {self.min_count} times or more" if self.min_count else f"make up {self.coverage:.4%} of the text's"
            logger.info("trim_vocab: %d tokens %s, or must stay", stage.vocab_size, why)
        return stage

    def cuts(self, config: PretrainedConfig) -> Iterator[Cut]:
        """The paper's number of tokens, or the configuration's if that is smaller."""
        size = padded_size(min(BUDGET_SIZE, self.vocab_size), self.pad_to_multiple_of)
        if config.vocab_size > size:
            why = (
                "no measurable loss, fewer do not generalise" if self.vocab_size >= BUDGET_SIZE else "as the configuration has it"
            )
            reason = f"the most frequent of {config.vocab_size:,}; {why}"
            yield Cut("vocab_size", size, with_vocab_size(config, size), reason)

    def with_size(self, size: int, model: PreTrainedModel) -> "TrimVocab":
        """Keep `size` tokens."""
        return replace(self, vocab_size=size)

    def check_budget(self) -> None:
        """Refuse `min_count` and `coverage`, with which the text decides the size."""
        if self._given_size is None:
            rule = "coverage" if self.min_count is None else "min_count"
            raise ValueError(f"trim_vocab.{rule} and a target both decide the vocabulary's size; leave one out")

    def settings_that_matter(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """Of the texts of `also` the weights: their files may be moved, and what they hold is among the inputs."""
        weights = {name: weight for name, (_, weight) in self.other_texts().items()}
        return super().settings_that_matter(training) | {"also": weights}

    def inputs(self, language: Language) -> Any:
        """What the texts of `also` consist of."""
        return {name: corpus_fingerprint(source) for name, (source, _) in self.other_texts().items()} or None

    def paths(self) -> list[str]:
        """The files of `also`."""
        return [file for source, _ in self.other_texts().values() for file in source.files]

    def count(self, inputs: RunInputs) -> torch.Tensor:
        """How often each of the teacher's tokens occurs, by the weights of the texts: shape `(len(tokenizer),)`.

        For `min_count` no less often than in the training text: beside small texts a large one counts less than it has.
        """
        of_training = inputs.token_counts(inputs.train)
        if not self.also:
            return of_training
        counts = {"train": of_training}
        weights = {"train": 1.0}
        for name, (source, weight) in self.other_texts().items():
            counts[f"also {name}"] = inputs.token_counts(source)
            weights[f"also {name}"] = weight
        weighted = weighted_counts(counts, weights)
        return weighted if self.min_count is None else torch.maximum(weighted, of_training.double())

    def select(self, inputs: RunInputs) -> torch.Tensor:
        """The teacher's tokens to keep, ascending."""
        return select_tokens(
            inputs.tokenizer,
            self.count(inputs),
            self._given_size,
            self._kept(inputs),
            self.min_count,
            self.coverage,
            self.pad_to_multiple_of,
        )

    def _kept(self, inputs: RunInputs) -> list[str]:
        """`keep`, and the tokens that the teacher's config names."""
        return [*self.keep, *config_tokens(inputs.teacher_config, inputs.tokenizer)]

    def check(self, inputs: RunInputs, models: Mapping[str, ModelSource]) -> None:
        """Refuse texts that cannot be read."""
        with PartialState().main_process_first():
            for source in (inputs.train, *(source for source, _ in self.other_texts().values())):
                load_corpus(source)

    def changed_tokenizer(self, inputs: RunInputs) -> PreTrainedTokenizerFast:
        """The trimmed tokenizer, once it is known to do for the validation text."""
        keep_ids = self.select(inputs)
        trimmed_config(inputs.teacher_config, inputs.tokenizer, keep_ids)
        trimmed = trim_tokenizer(inputs.tokenizer, keep_ids)
        counts = self.count(inputs)
        check_coverage(inputs.tokenizer, trimmed, keep_ids, inputs.validation_texts, counts, self._kept(inputs))
        return trimmed

    def run(self, context: StageContext) -> dict[str, Any]:
        """Trim the parent and its tokenizer, and certify what became of the validation text."""
        model, tokenizer = context.load_parent()
        counts = self.count(context.inputs)
        keep_ids = self.select(context.inputs)
        trimmed = trim_vocab(model, tokenizer, keep_ids)
        context.save(trimmed.model, trimmed.tokenizer)
        metrics: dict[str, Any] = {"tokens_covered": covered_share(counts, keep_ids.tolist())}
        if PartialState().is_main_process:
            texts = context.inputs.validation_texts
            models = (model.eval(), trimmed.model.eval())
            keep = self._kept(context.inputs)
            certificate = certify_vocabulary(tokenizer, trimmed.tokenizer, keep_ids, texts, models, counts, keep)
            write_certificate(certificate, context.stage_dir)
            plot_vocabulary(certificate, context.stage_dir / "vocabulary_curve.png")
            metrics["certificate"] = certificate.to_mapping()
        return metrics


def _weighted_text(name: str, settings: Any) -> tuple[CorpusSource, float]:
    """A text of `also` and its weight."""
    keys = dict(settings) if isinstance(settings, Mapping) else {}
    weight = keys.pop("weight", None)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ValueError(f"trim_vocab: also: {name} needs a weight of more than 0; the training text has 1")
    keys = {key: tuple(value) if isinstance(value, list) else value for key, value in keys.items()}
    try:
        return CorpusSource(**keys), weight
    except (TypeError, ValueError) as error:
        raise ValueError(f"trim_vocab: also: {name}: {error}") from error
