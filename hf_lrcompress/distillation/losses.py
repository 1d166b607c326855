"""Losses over a whole vocabulary that never hold (tokens × vocabulary) logits.

All take *features*, the input of the output layer, with that layer's weight and bias: `logits = features @ weight.T + bias`.
"""

from typing import Any

import torch
from torch.nn import functional as F

from hf_lrcompress.distillation.cross_entropy import bias_or_zeros

CHUNK_LOGITS = 2**24
"""Logits held at once where all of a token's are needed together (64 MB in fp32)."""


def rows_per_chunk(vocab_size: int) -> int:
    """How many tokens' logits are held at once."""
    return max(1, CHUNK_LOGITS // vocab_size)


@torch.no_grad()
def linear_predictions(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of every token, and whether its label is the most likely one: each of shape `(tokens,)`.

    For evaluation, without gradients. Arguments as in [`linear_cross_entropy`].
    """
    losses = []
    correct = []
    rows = rows_per_chunk(weight.shape[0])
    for chunk, target in zip(features.split(rows), labels.split(rows), strict=True):
        logits = F.linear(chunk, weight, bias).float()
        losses.append(F.cross_entropy(logits, target, reduction="none"))
        correct.append(logits.argmax(dim=-1) == target)
    return torch.cat(losses), torch.cat(correct)


class _LinearMSE(torch.autograd.Function):
    """See [`linear_mse`]. Four vocabulary-sized products: two Gram matrices here, two in the backward pass.

    The student's weight is also an output, for another loss: that one's gradient comes to the backward pass here, which adds its
    own in place. Autograd would hold two gradients as large as the vocabulary.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h_s: torch.Tensor,
        w_s: torch.Tensor,
        b_s: torch.Tensor,
        h_t: torch.Tensor,
        w_t: torch.Tensor,
        b_t: torch.Tensor,
        g_tt: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        delta = b_s - b_t
        g_ss = w_s.T @ w_s
        g_st = w_s.T @ w_t
        toward = h_s @ g_ss - h_t @ g_st.T
        w_delta = w_s.T @ delta
        loss = (toward * h_s).sum(dim=1) - ((h_s @ g_st - h_t @ g_tt) * h_t).sum(dim=1)
        loss = loss + 2 * (h_s @ w_delta - h_t @ (w_t.T @ delta)) + delta @ delta
        ctx.save_for_backward(h_s, w_s, h_t, w_t, delta, toward + w_delta)
        ctx.set_materialize_grads(False)
        return loss, w_s

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor | None, d_weight: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        h_s, w_s, h_t, w_t, delta, toward = ctx.saved_tensors
        if grad is None:
            grad = h_s.new_zeros(len(h_s))
        grad = 2 * grad[:, None]
        scaled = grad * h_s
        sum_s = scaled.sum(dim=0)
        sum_t = (grad * h_t).sum(dim=0)
        d_weight = torch.zeros_like(w_s) if d_weight is None else d_weight
        d_weight.addmm_(w_s, h_s.T @ scaled).addmm_(w_t, h_t.T @ scaled, alpha=-1).addr_(delta, sum_s)
        d_bias = w_s @ sum_s - w_t @ sum_t + grad.sum() * delta
        return grad * toward, d_weight, d_bias, None, None, None, None


def linear_mse(
    student_features: torch.Tensor,
    student_weight: torch.Tensor,
    student_bias: torch.Tensor | None,
    teacher_features: torch.Tensor,
    teacher_weight: torch.Tensor,
    teacher_bias: torch.Tensor | None,
    teacher_gram: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Squared error between student and teacher logits, summed over the whole vocabulary, without the logits.

    Exact: for each token, with Gram matrices `G_ss = W_sᵀW_s`, `G_st = W_sᵀW_t`, `G_tt = W_tᵀW_t` and `Δb = b_s − b_t`,

        ‖W_s h_s + b_s − W_t h_t − b_t‖² = h_s·G_ss h_s − 2 h_s·G_st h_t + h_t·G_tt h_t
                                           + 2 h_s·W_sᵀΔb − 2 h_t·W_tᵀΔb + Δb·Δb

    Time and memory do not grow with tokens × vocabulary. Computed in fp32, outside autocast. The value is a difference of large
    numbers: where the features and weights of student and teacher differ by 1 % of their size its relative error is 1e-4, at
    0.1 % it is 1e-2, and closer than that the value is noise; the error of the gradients is 1e-4 and 1e-3 there. Only the
    student's tensors get gradients.

    Args:
        student_features (`torch.Tensor` of shape `(tokens, hidden)`): The inputs of the student's output layer.
        student_weight (`torch.Tensor` of shape `(vocabulary, hidden)`): That layer's weight.
        student_bias (`torch.Tensor` of shape `(vocabulary,)` or `None`): Its bias.
        teacher_features (`torch.Tensor` of shape `(tokens, teacher's hidden)`): The inputs of the teacher's output layer.
        teacher_weight (`torch.Tensor` of shape `(vocabulary, teacher's hidden)`): That layer's weight.
        teacher_bias (`torch.Tensor` of shape `(vocabulary,)` or `None`): Its bias.
        teacher_gram (`torch.Tensor` of shape `(teacher's hidden, teacher's hidden)`, *optional*):
            [`gram`] of the teacher's weight, which does not change from step to step.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: The losses, of shape `(tokens,)`, in fp32; and the student's weight as another loss
        of the same step should take it, so that the two share one gradient. That loss must own the gradient that it gives, as
        [`linear_cross_entropy`] does.
    """
    if teacher_gram is None:
        teacher_gram = gram(teacher_weight)
    student = (student_features, student_weight, bias_or_zeros(student_weight, student_bias))
    teacher = (teacher_features.detach(), teacher_weight.detach(), bias_or_zeros(teacher_weight, teacher_bias).detach())
    tensors = (*student, *teacher, teacher_gram)
    with torch.autocast(student_features.device.type, enabled=False):
        loss, weight = _LinearMSE.apply(*(tensor.float() for tensor in tensors))
    return loss, weight if student_weight.dtype == torch.float32 else student_weight


@torch.no_grad()
def gram(weight: torch.Tensor) -> torch.Tensor:
    """WᵀW in fp32: shape `(vocabulary, hidden)` → `(hidden, hidden)`."""
    with torch.autocast(weight.device.type, enabled=False):
        return weight.float().T @ weight.float()
