"""Softmax cross-entropy over a whole vocabulary, for training, that never holds (tokens × vocabulary) logits."""

from typing import Any

import torch

TOKENS_AT_ONCE = 256
"""Tokens whose cross-entropy is computed at once: enough for fast products (128 MB in bf16 at a vocabulary of 250,000)."""

SLICE = 2**12
"""Rows of the vocabulary in one product on a CPU, so that `TOKENS_AT_ONCE` × `SLICE` logits stay in its cache."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy behind a linear layer; the gradients are made in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        device = features.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        d_weight = torch.zeros_like(weight, dtype=torch.float32)
        d_bias = torch.zeros_like(bias, dtype=torch.float32)
        loss = torch.zeros((), device=features.device)
        d_features = torch.zeros_like(features)
        chunks = [tensor.split(TOKENS_AT_ONCE) for tensor in (features, labels, d_features)]
        with torch.autocast(device, enabled=False):
            for x, target, d_chunk in zip(*chunks, strict=True):
                part, d_x = _cross_entropy_chunk(x.float(), target, weight, bias, d_weight, d_bias, dtype)
                loss += part
                d_chunk.copy_(d_x)
        ctx.gradients = d_features, d_weight.to(weight.dtype), d_bias.to(bias.dtype)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients = ctx.gradients
        ctx.gradients = None  # scaled in place: one of them is as large as the vocabulary
        if gradients is None:
            raise RuntimeError("linear_cross_entropy keeps its gradients for one backward pass only")
        return *(saved.mul_(grad) for saved in gradients), None


def _cross_entropy_chunk(
    x: torch.Tensor,
    labels: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    d_weight: torch.Tensor,
    d_bias: torch.Tensor,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed loss of a few tokens, in nats, and its gradient by their features.

    One pass over the vocabulary keeps exp(logit − maximum so far), as an online softmax does (Milakov & Gimelshein 2018); the
    final scale of a token is then applied to `x` and not to its logits. The label's own term is left out of the products and
    added in fp32: of a probability near 1, bf16 would leave nothing of p − 1.

    Args:
        x (`torch.FloatTensor` of shape `(tokens, hidden)`): Their features.
        labels (`torch.LongTensor` of shape `(tokens,)`): Their token ids.
        weight (`torch.Tensor` of shape `(vocabulary, hidden)`): The output layer's weight.
        bias (`torch.Tensor` of shape `(vocabulary,)`): Its bias.
        d_weight (`torch.FloatTensor` of shape `(vocabulary, hidden)`): The weight's gradient is added to it, in place.
        d_bias (`torch.FloatTensor` of shape `(vocabulary,)`): The bias's gradient is added to it, in place.
        dtype (`torch.dtype`): What products over the vocabulary are made in.

    Returns:
        `tuple`: The loss, a scalar, and the gradient, of shape `(tokens, hidden)`, both in fp32.
    """
    label_weight = weight[labels].float()
    label_logit = (x * label_weight).sum(dim=1) + bias[labels]
    top = label_logit  # the largest logit so far
    others = torch.zeros_like(label_logit)
    d_x = torch.zeros_like(x)
    kept = []
    step = SLICE if x.device.type == "cpu" else len(weight)
    for start, w, b in zip(range(0, len(weight), step), weight.split(step), bias.split(step), strict=True):
        w = w.to(dtype)
        logits = torch.addmm(b.to(dtype), x.to(dtype), w.T)
        before = top
        top = torch.maximum(top, logits.amax(dim=1))
        exponentials = torch.sub(logits, top[:, None]).exp_().to(dtype)
        _drop_labels(exponentials, labels - start)
        shrink = (before - top).exp_()
        others = others * shrink + exponentials.sum(dim=1, dtype=torch.float32)
        d_x.mul_(shrink[:, None]).add_(exponentials @ w)
        kept.append((exponentials, top))
    log_sum = top + (others + (label_logit - top).exp()).log()
    missing = others * (top - log_sum).exp()  # 1 − p of the label
    d_x.mul_((top - log_sum).exp_()[:, None]).addcmul_(label_weight, missing[:, None], value=-1)
    for (exponentials, maximum), d_w, d_b in zip(kept, d_weight.split(step), d_bias.split(step), strict=True):
        scale = (maximum - log_sum).exp_()
        d_w += exponentials.T @ (x * scale[:, None]).to(dtype)
        d_b += exponentials.T @ scale.to(dtype)
    d_weight.index_add_(0, labels, x * missing[:, None], alpha=-1)
    d_bias.index_add_(0, labels, missing, alpha=-1)
    return (log_sum - label_logit).sum(), d_x


def _drop_labels(exponentials: torch.Tensor, labels: torch.Tensor) -> None:
    """Set the entry of each row's label to 0, where this slice of the vocabulary has it."""
    column = labels.clamp(0, exponentials.shape[1] - 1)[:, None]
    inside = column == labels[:, None]
    exponentials.scatter_(1, column, exponentials.gather(1, column).masked_fill(inside, 0))


def linear_cross_entropy(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of `features @ weight.T + bias` with `labels`, summed over tokens, for training.

    Args:
        features (`torch.Tensor` of shape `(tokens, hidden)`): Only the tokens that have a label.
        weight (`torch.Tensor` of shape `(vocabulary, hidden)`): The output layer's weight.
        bias (`torch.Tensor` of shape `(vocabulary,)` or `None`): Its bias.
        labels (`torch.LongTensor` of shape `(tokens,)`): Token ids.

    Returns:
        `torch.Tensor`: A scalar in fp32.
    """
    return _LinearCrossEntropy.apply(features, weight, bias_or_zeros(weight, bias), labels)


def bias_or_zeros(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """An output layer's bias, of shape `(vocabulary,)`: zeros where it has none."""
    return weight.new_zeros(weight.shape[0]) if bias is None else bias
