"""Similarity retention: how far a model finds the same sentences and tokens alike as its teacher. No labels, no head.

Representational similarity analysis (Kriegeskorte, Mur and Bandettini 2008, Frontiers in Systems Neuroscience 2:4) compares two
representations by what is near what in each of them, so models of different width are compared without a map between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.distillation.feature_losses import pooled
from hf_lrcompress.distillation.shared_tokens import Span, batches_by_length, encode_with_places, shared_spans
from hf_lrcompress.models.eval_mode import in_eval_mode

MOST_SENTENCES = 512
MOST_TOKENS = 2000
BATCH_SIZE = 32  # sentences; the same for teacher and student, so that a model agrees with itself to the last bit


@dataclass(frozen=True)
class Sample:
    """Sentences and tokens in them.

    Args:
        texts (`tuple[str, ...]`): Different sentences.
        spans (`tuple[tuple[Span, ...], ...]`): For each sentence the characters of its chosen tokens; it may have none.
        max_length (`int`): Tokens at which a sentence is cut, special tokens among them.
        pooling (`str`, *optional*, defaults to `"mean"`): How [`~feature_losses.pooled`] makes a sentence's vector.

    Raises:
        ValueError: If there are fewer than three sentences or tokens: there is no correlation over a single pair.
    """

    texts: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...]
    max_length: int
    pooling: str = "mean"

    def __post_init__(self) -> None:
        tokens = sum(map(len, self.spans))
        if len(self.texts) < 3 or tokens < 3:
            raise ValueError(
                f"similarities need 3 different sentences and 3 tokens that the tokenizers share; the validation text has "
                f"{len(self.texts)} and {tokens}; give more text"
            )


@dataclass(frozen=True)
class SimilarityReference:
    """What a teacher finds alike.

    Args:
        sample ([`Sample`]): Sentences and tokens.
        sentence_similarities (`torch.Tensor` of shape `(sentence pairs,)`): The teacher's centred cosine similarities.
        token_similarities (`torch.Tensor` of shape `(token pairs,)`): The same for the tokens.
    """

    sample: Sample
    sentence_similarities: torch.Tensor
    token_similarities: torch.Tensor


def choose_sample(
    texts: Sequence[str],
    tokenizers: Sequence[PreTrainedTokenizerFast],
    max_length: int,
    seed: int = 42,
    pooling: str = "mean",
) -> Sample:
    """Choose at most 512 different sentences, and in them at most 2,000 tokens that all tokenizers have in common.

    Args:
        texts (`Sequence[str]`): The sentences to choose from.
        tokenizers (`Sequence[PreTrainedTokenizerFast]`): Those of all models to compare.
        max_length (`int`): Tokens at which a sentence is cut.
        seed (`int`, *optional*, defaults to 42): Seeds the choice.
        pooling (`str`, *optional*, defaults to `"mean"`): How a sentence's vector is made; what users of the teacher compute.
    """
    random = np.random.default_rng(seed)
    different = list(dict.fromkeys(texts))
    chosen = [different[i] for i in _choose(random, len(different), MOST_SENTENCES)]
    shared = shared_spans(chosen, tokenizers, max_length)
    tokens = [(row, span) for row, spans in enumerate(shared) for span in spans]
    spans: list[list[Span]] = [[] for _ in chosen]
    for i in _choose(random, len(tokens), MOST_TOKENS):
        row, span = tokens[i]
        spans[row].append(span)
    return Sample(tuple(chosen), tuple(map(tuple, spans)), max_length, pooling)


def similarity_reference(teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sample: Sample) -> SimilarityReference:
    """Compute what the teacher finds alike, once for all its students.

    Args:
        teacher ([`~transformers.PreTrainedModel`]): The teacher, with or without a head; its mode is left as it was.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer, one of those that the sample was chosen with.
        sample ([`Sample`]): Sentences and tokens.

    Raises:
        ValueError: If the tokenizer has other tokens at the chosen places.
    """
    sentences, tokens = _states(teacher, tokenizer, sample)
    return SimilarityReference(sample, centred_similarities(sentences), centred_similarities(tokens))


def similarity_retention(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, reference: SimilarityReference
) -> dict[str, float]:
    """Correlate what a model finds alike with what its teacher does.

    For the states x₁ … xₙ of a model and their mean x̄, let cᵢⱼ = cos(xᵢ − x̄, xⱼ − x̄). Retention is Pearson's correlation of
    the model's cᵢⱼ with the teacher's over all pairs i < j: 1 where they are the same, about 0 where they have nothing in common.

    Args:
        model ([`~transformers.PreTrainedModel`]): A model, with or without a head, of any width; its mode is left as it was.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer, one of those that the sample was chosen with.
        reference ([`SimilarityReference`]): What the teacher finds alike.

    Returns:
        `dict`: `sentence_similarity`, of the sentences' pooled last hidden states (means have special tokens among them, as
        sentence-transformers has it), and `token_similarity`, of the last hidden states of the chosen tokens.

    Raises:
        ValueError: If the tokenizer has other tokens at the chosen places.
    """
    sentences, tokens = _states(model, tokenizer, reference.sample)
    return {
        "sentence_similarity": correlation(centred_similarities(sentences), reference.sentence_similarities),
        "token_similarity": correlation(centred_similarities(tokens), reference.token_similarities),
    }


def centred_similarities(states: torch.Tensor) -> torch.Tensor:
    """Cosine similarities of all pairs of different rows, after the mean row is taken off: `(n, hidden)` → `(n (n - 1) / 2,)`."""
    directions = F.normalize(states - states.mean(dim=0))
    pairs = torch.ones(len(states), len(states), dtype=torch.bool).triu(diagonal=1)
    return (directions @ directions.T)[pairs]


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Pearson's correlation of two vectors; 0 where one of them does not vary, such as the similarities of states all alike."""
    first = first.double() - first.double().mean()
    second = second.double() - second.double().mean()
    norms = (first.dot(first) * second.dot(second)).sqrt().item()
    return first.dot(second).item() / norms if norms else 0.0


@torch.no_grad()
def _states(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled states of the sentences, and states of the tokens, of shape `(sentences, hidden)` and `(tokens, hidden)`."""
    sentences = []
    tokens = []
    with in_eval_mode(model):
        for rows in batches_by_length(sample.texts, BATCH_SIZE):
            texts = [sample.texts[row] for row in rows]
            spans = [sample.spans[row] for row in rows]
            inputs, places = encode_with_places(tokenizer, texts, spans, sample.max_length)
            states = model.base_model(**inputs.to(model.device)).last_hidden_state.float().cpu()
            mask = inputs["attention_mask"].cpu().bool()
            sentences.append(pooled(states, mask, sample.pooling))
            tokens.append(states[places])
    return torch.cat(sentences), torch.cat(tokens)


def _choose(random: np.random.Generator, count: int, most: int) -> list[int]:
    """At most `most` of `range(count)`, ascending."""
    chosen = random.choice(count, min(count, most), replace=False)
    return sorted(chosen.tolist())
