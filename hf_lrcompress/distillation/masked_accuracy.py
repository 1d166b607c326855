"""Masked-token accuracy at the same places of the same text for every model of a run, whatever its vocabulary."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.distillation.losses import linear_predictions
from hf_lrcompress.distillation.observing import Wanted, observe

Span = tuple[int, int]
"""First character of a token in its text, and the one after its last."""


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
        return hashlib.sha256(json.dumps([self.texts, self.spans, self.max_length]).encode()).hexdigest()[:16]


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
        seed (`int`, *optional*, defaults to 42): Of the choice.

    Raises:
        ValueError: If the tokenizers have no token in common in any text.
    """
    common = [set.intersection(*pieces) for pieces in zip(*(_pieces(t, texts, max_length) for t in tokenizers), strict=True)]
    random, kept, spans = np.random.default_rng(seed), [], []
    for text, pieces in zip(texts, common, strict=True):
        places = sorted((start, end) for _, start, end in pieces)
        if places:
            chosen = random.choice(len(places), max(1, round(probability * len(places))), replace=False)
            kept.append(text)
            spans.append(tuple(places[i] for i in sorted(chosen)))
    if not kept:
        raise ValueError("the validation text has no token that the tokenizers share; is it in the right language?")
    return MaskedText(tuple(kept), tuple(spans), max_length)


def _pieces(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_length: int) -> list[set[tuple[str, int, int]]]:
    """Token and span of the ordinary tokens that share their characters with no other token."""
    special = set(tokenizer.all_special_ids)
    pieces = []
    for encoding in tokenizer(list(texts), truncation=True, max_length=max_length).encodings:
        times = Counter(encoding.offsets)
        pieces.append(
            {
                (token, *span)
                for token, token_id, span in zip(encoding.tokens, encoding.ids, encoding.offsets, strict=True)
                if token_id not in special and span[0] < span[1] and times[span] == 1
            }
        )
    return pieces


@torch.no_grad()
def masked_token_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, masked: MaskedText, batch_size: int = 32
) -> dict[str, float]:
    """Mask the chosen tokens (all by the mask token, all of a text at once) and see how many the model finds again.

    Returns:
        `dict`: `mlm_accuracy` (share found), `mlm_loss` (mean cross-entropy in nats, over the model's own vocabulary: a smaller
        vocabulary has fewer wrong answers) and `masked_tokens` (how many there are).
    """
    was_training = model.training
    model.eval()
    order = sorted(range(len(masked.texts)), key=lambda i: len(masked.texts[i]))
    found, loss, count = 0, 0.0, 0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        inputs, labels = _masked_batch(tokenizer, masked, rows, model.device)
        chosen = labels != -100
        layer = model.get_output_embeddings()
        features = observe(model, Wanted(features=True), **inputs).features
        losses, correct = linear_predictions(features[chosen], layer.weight, layer.bias, labels[chosen])
        found += int(correct.sum())
        loss += losses.sum().item()
        count += len(losses)
    model.train(was_training)
    return {"mlm_accuracy": found / count, "mlm_loss": loss / count, "masked_tokens": count}


def _masked_batch(tokenizer: PreTrainedTokenizerFast, masked: MaskedText, rows: list[int], device: torch.device):
    inputs = tokenizer(
        [masked.texts[row] for row in rows],
        truncation=True,
        max_length=masked.max_length,
        padding=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    offsets = inputs.pop("offset_mapping").tolist()
    labels = torch.full_like(inputs["input_ids"], -100)
    for i, row in enumerate(rows):
        wanted = set(masked.spans[row])
        places = [j for j, span in enumerate(offsets[i]) if tuple(span) in wanted]
        if len(places) != len(wanted):
            raise ValueError("the tokenizer splits the masked text differently; make the MaskedText with this tokenizer too")
        labels[i, places] = inputs["input_ids"][i, places]
    inputs["input_ids"][labels != -100] = tokenizer.mask_token_id
    return inputs.to(device), labels.to(device)
