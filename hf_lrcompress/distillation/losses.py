"""Losses over a whole vocabulary that never hold (tokens × vocabulary) logits.

All take *features*, the input of the output layer, with that layer's weight and bias: `logits = features @ weight.T + bias`.
All return a sum over tokens, so that the caller chooses what to divide by.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 2**25
"""Logits held at once (128 MB in fp32)."""


def rows_per_chunk(vocab_size: int) -> int:
    """How many tokens' logits are held at once."""
    return max(1, CHUNK_LOGITS // vocab_size)


class _LinearCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy behind a linear layer; the gradients are made in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(ctx, features, weight, bias, labels):
        loss = torch.zeros((), device=features.device)
        d_features, d_weight = torch.empty_like(features), torch.zeros_like(weight, dtype=torch.float32)
        d_bias = torch.zeros_like(bias, dtype=torch.float32)
        rows = rows_per_chunk(weight.shape[0])
        for start in range(0, features.shape[0], rows):
            chunk, target = features[start : start + rows], labels[start : start + rows, None]
            log_probabilities = F.linear(chunk, weight, bias).float().log_softmax(dim=-1)
            loss -= log_probabilities.gather(1, target).sum()
            d_logits = log_probabilities.exp_()
            d_logits.scatter_add_(1, target, torch.full_like(target, -1, dtype=d_logits.dtype))
            d_features[start : start + rows] = d_logits @ weight
            d_weight += d_logits.T @ chunk
            d_bias += d_logits.sum(dim=0)
        ctx.save_for_backward(d_features, d_weight.to(weight.dtype), d_bias.to(bias.dtype))
        return loss

    @staticmethod
    def backward(ctx, grad):
        return *(grad.to(saved.dtype) * saved for saved in ctx.saved_tensors), None


def linear_cross_entropy(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of `features @ weight.T + bias` with `labels`, summed.

    Args:
        features (`torch.Tensor` of shape `(tokens, hidden)`): Only the tokens that have a label.
        weight (`torch.Tensor` of shape `(vocabulary, hidden)`): The output layer's weight.
        bias (`torch.Tensor` of shape `(vocabulary,)` or `None`): Its bias.
        labels (`torch.LongTensor` of shape `(tokens,)`): Token ids.

    Returns:
        `torch.Tensor`: A scalar in fp32.
    """
    bias = _bias_or_zeros(weight, bias)
    if torch.is_grad_enabled():
        return _LinearCrossEntropy.apply(features, weight, bias, labels)
    losses = [
        F.cross_entropy(F.linear(chunk, weight, bias).float(), target, reduction="sum")
        for chunk, target in _chunks(weight.shape[0], features, labels)
    ]
    return torch.stack(losses).sum() if losses else features.new_zeros((), dtype=torch.float32)


class _LinearMSE(torch.autograd.Function):
    """See [`linear_mse`]. Two vocabulary-sized products for each of its Gram matrices, two more in the backward pass."""

    @staticmethod
    def forward(ctx, h_s, w_s, b_s, h_t, w_t, b_t):
        delta = b_s - b_t
        g_ss, g_st, g_tt = w_s.T @ w_s, w_s.T @ w_t, w_t.T @ w_t
        sum_s, sum_t = h_s.sum(dim=0), h_t.sum(dim=0)
        toward = h_s @ g_ss - h_t @ g_st.T
        loss = (toward * h_s).sum() - ((h_s @ g_st - h_t @ g_tt) * h_t).sum()
        w_delta = w_s.T @ delta
        loss = loss + 2 * (sum_s @ w_delta - sum_t @ (w_t.T @ delta)) + len(h_s) * (delta @ delta)
        ctx.save_for_backward(h_s, w_s, h_t, w_t, delta, toward + w_delta)
        return loss

    @staticmethod
    def backward(ctx, grad):
        h_s, w_s, h_t, w_t, delta, toward = ctx.saved_tensors
        scale = 2 * grad
        sum_s, sum_t = h_s.sum(dim=0), h_t.sum(dim=0)
        d_weight = w_s @ (h_s.T @ h_s)
        d_weight.addmm_(w_t, h_t.T @ h_s, alpha=-1).addr_(delta, sum_s)
        d_bias = w_s @ sum_s - w_t @ sum_t + len(h_s) * delta
        return scale * toward, d_weight.mul_(scale), scale * d_bias, None, None, None


def linear_mse(
    student_features: torch.Tensor,
    student_weight: torch.Tensor,
    student_bias: torch.Tensor | None,
    teacher_features: torch.Tensor,
    teacher_weight: torch.Tensor,
    teacher_bias: torch.Tensor | None,
) -> torch.Tensor:
    r"""Squared error between student and teacher logits over the whole vocabulary, summed, without the logits.

    Exact: with Gram matrices `G_ss = W_sᵀW_s`, `G_st = W_sᵀW_t`, `G_tt = W_tᵀW_t` and `Δb = b_s − b_t`,

        Σ‖h_s W_sᵀ + b_s − h_t W_tᵀ − b_t‖² = Σ h_s G_ss h_s − 2 Σ h_s G_st h_t + Σ h_t G_tt h_t
                                              + 2 (Σh_s)·W_sᵀΔb − 2 (Σh_t)·W_tᵀΔb + N Δb·Δb

    Time and memory do not grow with tokens × vocabulary. Computed in fp32, outside autocast. The value is a difference of large
    numbers: where the features and weights of student and teacher differ by 1 % of their size its relative error is 1e-4, at
    0.1 % it is 1e-2, and closer than that the value is noise; the error of the gradients is 1e-4 and 1e-3 there. Only the
    student's tensors get gradients.

    Args:
        student_features, teacher_features (`torch.Tensor` of shape `(tokens, hidden)`): Hidden sizes may differ.
        student_weight, teacher_weight (`torch.Tensor` of shape `(vocabulary, hidden)`): The output layers' weights.
        student_bias, teacher_bias (`torch.Tensor` of shape `(vocabulary,)` or `None`): Their biases.

    Returns:
        `torch.Tensor`: A scalar in fp32.
    """
    student = (student_features, student_weight, _bias_or_zeros(student_weight, student_bias))
    teacher = (teacher_features, teacher_weight, _bias_or_zeros(teacher_weight, teacher_bias))
    with torch.autocast(student_features.device.type, enabled=False):
        return _LinearMSE.apply(*(tensor.float() for tensor in student), *(tensor.detach().float() for tensor in teacher))


def linear_kl(
    student_features: torch.Tensor,
    student_weight: torch.Tensor,
    student_bias: torch.Tensor | None,
    teacher_features: torch.Tensor,
    teacher_weight: torch.Tensor,
    teacher_bias: torch.Tensor | None,
    temperature: float = 1.0,
) -> torch.Tensor:
    """KL(teacher ‖ student) of the softened next-token distributions × temperature² (Hinton et al. 2015), summed over tokens.

    Logits are made chunk by chunk and made again in the backward pass. Arguments as in [`linear_mse`].
    """

    def chunk_loss(h_s: torch.Tensor, h_t: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = (F.linear(h_t, teacher_weight, teacher_bias).float() / temperature).log_softmax(dim=-1)
        student = (F.linear(h_s, student_weight, student_bias).float() / temperature).log_softmax(dim=-1)
        return F.kl_div(student, target, reduction="sum", log_target=True) * temperature**2

    losses = [
        checkpoint(chunk_loss, h_s, h_t, use_reentrant=False)
        for h_s, h_t in _chunks(student_weight.shape[0], student_features, teacher_features)
    ]
    return torch.stack(losses).sum()


@torch.no_grad()
def linear_argmax(features: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """The most likely token of each row of `features`: shape `(tokens, hidden)` → `(tokens,)`."""
    best = [layer(chunk).argmax(dim=-1) for (chunk,) in _chunks(layer.weight.shape[0], features)]
    return torch.cat(best) if best else features.new_zeros(0, dtype=torch.long)


def _chunks(vocab_size: int, *tensors: torch.Tensor):
    return zip(*(tensor.split(rows_per_chunk(vocab_size)) for tensor in tensors if len(tensor)), strict=True)


def _bias_or_zeros(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return weight.new_zeros(weight.shape[0]) if bias is None else bias
