"""Masked-token accuracy at the same places of the same text for every model of a run, whatever its vocabulary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.distillation.losses import linear_predictions
from hf_lrcompress.distillation.observing import Wanted, observe
from hf_lrcompress.distillation.shared_tokens import Span, batches_by_length, encode_with_places, shared_spans
from hf_lrcompress.files import fingerprint
from hf_lrcompress.models.eval_mode import in_eval_mode

Predictions = tuple[torch.Tensor, torch.Tensor]
"""Of masked tokens the cross-entropies and whether they were found, each of shape `(masked tokens,)`."""


@dataclass(frozen=True)
class MaskedText:
    """Texts and the tokens in them that a model is asked for.

    Args:
        texts (`tuple[str, ...]`): The texts, each scored by itself.
        spans (`tuple[tuple[Span, ...], ...]`): For each text the characters of its masked tokens.
        max_length (`int`): Tokens at which a text is cut, special tokens among them.
    """

    texts: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...]
    max_length: int

    @property
    def fingerprint(self) -> str:
        """A hash of texts and places: equal only where accuracies can be compared."""
        return fingerprint(self.texts, self.spans, self.max_length)


def mask_text(
    texts: Sequence[str],
    tokenizers: Sequence[PreTrainedTokenizerFast],
    max_length: int,
    probability: float = 0.15,
    seed: int = 42,
) -> MaskedText:
    """Choose tokens to mask that all tokenizers have in common: the same characters as the same token.

    Args:
        texts (`Sequence[str]`): The texts.
        tokenizers (`Sequence[PreTrainedTokenizerFast]`): Those of all models to compare.
        max_length (`int`): Tokens at which a text is cut.
        probability (`float`, *optional*, defaults to 0.15): Share of the common tokens to mask, at least one a text.
        seed (`int`, *optional*, defaults to 42): Seeds the choice.

    Raises:
        ValueError: If the tokenizers have no token in common in any text.
    """
    random = np.random.default_rng(seed)
    kept: list[str] = []
    masked: list[tuple[Span, ...]] = []
    for text, spans in zip(texts, shared_spans(texts, tokenizers, max_length), strict=True):
        if spans:
            count = max(1, round(probability * len(spans)))
            chosen = random.choice(len(spans), count, replace=False)
            kept.append(text)
            masked.append(tuple(spans[i] for i in sorted(chosen)))
    if not kept:
        raise ValueError("the validation text has no token that the tokenizers share; is it in the right language?")
    return MaskedText(tuple(kept), tuple(masked), max_length)


@torch.no_grad()
def masked_token_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, masked: MaskedText, batch_size: int = 32
) -> dict[str, float]:
    """Mask the chosen tokens (all by the mask token, all of a text at once) and see how many the model finds again.

    Args:
        model ([`~transformers.PreTrainedModel`]): A masked LM; its mode is left as it was.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer, one of those that the tokens were chosen with.
        masked ([`MaskedText`]): Texts and tokens.
        batch_size (`int`, *optional*, defaults to 32): Texts at a time.

    Returns:
        `dict`: `mlm_accuracy` (share found), `mlm_loss` (mean cross-entropy in nats, over the model's own vocabulary: a smaller
        vocabulary has fewer wrong answers) and `masked_tokens` (how many there are).

    Raises:
        ValueError: If the model has no masked-LM head, or the tokenizer other tokens at the chosen places.
    """
    layer = model.get_output_embeddings()
    if layer is None:
        raise ValueError(f"a {type(model).__name__} predicts no tokens; load it with AutoModelForMaskedLM")

    def predict(inputs: BatchEncoding, labels: torch.Tensor) -> Predictions:
        chosen = labels != -100
        features = observe(model, Wanted(features=True), **inputs).features
        return linear_predictions(features[chosen], layer.weight, layer.bias, labels[chosen])

    with in_eval_mode(model):
        return _count(predict, tokenizer, masked, batch_size, model.device)


def accuracy_of_logits(model: Callable[..., Any], tokenizer: PreTrainedTokenizerFast, masked: MaskedText) -> dict[str, float]:
    """[`masked_token_accuracy`] of what is no PyTorch model, text by text: all logits of a text are held at once.

    Args:
        model (`Callable`): Takes what the tokenizer makes; what it gives has `logits`, of shape `(batch, sequence, vocabulary)`.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer, one of those that the tokens were chosen with.
        masked ([`MaskedText`]): Texts and tokens.
    """

    def predict(inputs: BatchEncoding, labels: torch.Tensor) -> Predictions:
        chosen = labels != -100
        logits = model(**inputs).logits[chosen]
        return F.cross_entropy(logits, labels[chosen], reduction="none"), logits.argmax(dim=-1) == labels[chosen]

    return _count(predict, tokenizer, masked, batch_size=1, device=torch.device("cpu"))


def _count(
    predict: Callable[[BatchEncoding, torch.Tensor], Predictions],
    tokenizer: PreTrainedTokenizerFast,
    masked: MaskedText,
    batch_size: int,
    device: torch.device,
) -> dict[str, float]:
    found = 0
    loss = 0.0
    count = 0
    for rows in batches_by_length(masked.texts, batch_size):
        losses, correct = predict(*_masked_batch(tokenizer, masked, rows, device))
        found += int(correct.sum())
        loss += losses.sum().item()
        count += len(losses)
    return {"mlm_accuracy": found / count, "mlm_loss": loss / count, "masked_tokens": count}


def _masked_batch(
    tokenizer: PreTrainedTokenizerFast, masked: MaskedText, rows: list[int], device: torch.device
) -> tuple[BatchEncoding, torch.Tensor]:
    """Inputs with mask tokens, and labels of shape `(batch, sequence)`: -100 at tokens that are not masked."""
    texts = [masked.texts[row] for row in rows]
    spans = [masked.spans[row] for row in rows]
    inputs, places = encode_with_places(tokenizer, texts, spans, masked.max_length)
    labels = inputs["input_ids"].masked_fill(~places, -100)
    inputs["input_ids"][places] = tokenizer.mask_token_id
    return inputs.to(device), labels.to(device)
