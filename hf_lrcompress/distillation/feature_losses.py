"""Losses between hidden states or attention of student and teacher: one value a token or a sentence, in fp32."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

EARLIER_DEPTHS = 0.25
"""Weight of every depth but the last, which weighs 1."""
FEWEST_COMPARED = 3
"""Sentences of a batch: two have one similarity, with which nothing is correlated."""


def hidden_state_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared difference of hidden states, mean over dimensions (TinyBERT, Jiao et al. 2020, eq. 8).

    Args:
        student (`torch.Tensor` of shape `(tokens, hidden)`): The student's states, projected to the teacher's size.
        teacher (`torch.Tensor` of shape `(tokens, hidden)`): The teacher's states.

    Returns:
        `torch.Tensor` of shape `(tokens,)`.
    """
    return (student.float() - teacher.float()).square().mean(dim=-1)


def hidden_state_cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 − cosine of hidden states (DistilBERT, Sanh et al. 2019). Arguments and shapes as in [`hidden_state_mse`]."""
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)


def mean_over_depths(losses: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weighted mean over depths, Σ wᵢ·lossᵢ / Σ wᵢ, where w is 1 for the last depth and ¼ for those before.

    Args:
        losses (`Sequence` of `torch.Tensor` of shape `(tokens,)`): The losses at every depth, the embeddings' first.

    Returns:
        `torch.Tensor` of shape `(tokens,)`.
    """
    total = losses[-1] + EARLIER_DEPTHS * sum(losses[:-1])
    return total / (1 + EARLIER_DEPTHS * (len(losses) - 1))


def mean_pooled(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of a sentence's token states, without padding.

    Args:
        states (`torch.Tensor` of shape `(batch, sequence, hidden)`): Hidden states.
        mask (`torch.BoolTensor` of shape `(batch, sequence)`): False at padding.

    Returns:
        `torch.Tensor` of shape `(batch, hidden)`, in fp32.
    """
    weights = mask.float() / mask.sum(dim=1, keepdim=True).clamp(min=1)
    with torch.autocast(states.device.type, enabled=False):
        return (weights[:, None] @ states.float())[:, 0]


def pooled(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """A vector a sentence, in fp32: shape `(batch, hidden)`.

    Args:
        states (`torch.Tensor` of shape `(batch, sequence, hidden)`): Hidden states.
        mask (`torch.BoolTensor` of shape `(batch, sequence)`): False at padding.
        pooling (`str`): `"mean"`, see [`mean_pooled`], or `"cls"`: the state of the first token that is no padding.
    """
    if pooling != "cls":
        return mean_pooled(states, mask)
    first = mask.int().argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), first].float()


def similarity_disagreement(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 − Pearson's correlation of what student and teacher find alike: of each sentence's similarities to the batch's others.

    The similarity of two sentences is the cosine of their vectors less the batch's mean (see `similarity.py`). Nothing is
    projected: what is compared is what a user of the student computes.

    Args:
        student (`torch.Tensor` of shape `(batch, student's size)`): A vector a sentence.
        teacher (`torch.Tensor` of shape `(batch, teacher's size)`): The teacher's; sizes may differ.

    Returns:
        `torch.Tensor` of shape `(batch,)`; zeros where there are fewer than [`FEWEST_COMPARED`]: nothing correlates.
    """
    if len(student) < FEWEST_COMPARED:
        return 0 * student.float().sum(dim=1)
    return 1 - F.cosine_similarity(_varying_similarities(student), _varying_similarities(teacher), dim=-1)


def _varying_similarities(vectors: torch.Tensor) -> torch.Tensor:
    """Each row's centred cosine similarities to the others, less their mean: shape `(batch, batch - 1)`."""
    count = len(vectors)
    directions = F.normalize(vectors.float() - vectors.float().mean(dim=0))
    with torch.autocast(vectors.device.type, enabled=False):
        similarities = directions @ directions.T
    # After each element of the diagonal come `count` others, up to the next.
    others = similarities.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)
    return others - others.mean(dim=1, keepdim=True)


def self_attention_relations(
    student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], mask: torch.Tensor, relation_heads: int
) -> torch.Tensor:
    r"""KL(teacher ‖ student) of self-attention relations, mean over relations and heads.

    A relation is softmax(X Xᵀ / √d) with X the queries, keys or values of one relation head of width d: its size does not depend
    on the hidden size, so nothing is projected (MiniLMv2, Wang et al. 2021, eq. 3–6).

    Args:
        student (three `torch.Tensor` of shape `(batch, sequence, hidden)`): Queries, keys and values of one student layer.
        teacher (three `torch.Tensor` of shape `(batch, sequence, hidden)`): The same of one teacher layer; sizes may differ.
        mask (`torch.BoolTensor` of shape `(batch, sequence)`): False at padding.
        relation_heads (`int`): Heads to split into; must divide both hidden sizes.

    Returns:
        `torch.Tensor` of shape `(tokens that are not padding,)`.
    """
    losses = []
    for s, t in zip(student, teacher, strict=True):
        log_s = _log_relation(s.float(), mask, relation_heads)
        log_t = _log_relation(t.float(), mask, relation_heads)
        terms = torch.where(log_t.isneginf(), 0.0, log_t.exp() * (log_t - log_s))  # no relation with padding
        losses.append(terms.sum(dim=-1).mean(dim=1)[mask])
    return torch.stack(losses).mean(dim=0)


def _log_relation(vectors: torch.Tensor, mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Log-softmax over keys of scaled products: shape `(batch, heads, sequence, sequence)`."""
    split = vectors.unflatten(-1, (heads, -1)).transpose(1, 2)
    with torch.autocast(vectors.device.type, enabled=False):
        scores = split @ split.transpose(-1, -2) / split.shape[-1] ** 0.5
    return scores.masked_fill(~mask[:, None, None, :], -torch.inf).log_softmax(dim=-1)
