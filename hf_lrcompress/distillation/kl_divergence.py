"""KL divergence of token distributions over a whole vocabulary, that never holds (tokens × vocabulary) logits."""

import math
from collections.abc import Iterator
from typing import Any

import torch

from hf_lrcompress.distillation.cross_entropy import bias_or_zeros

TOKENS_AT_ONCE = 512
"""Tokens whose divergence is computed at once."""
SLICE = {"cpu": 2**11}
"""Rows of the vocabulary in one product by the type of device: on a CPU so that their logits stay in its cache."""
LARGEST_SLICE = 2**15


class _LinearKL(torch.autograd.Function):
    """See [`linear_kl`]. The logits are made slice by slice of the vocabulary, and made again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        h_s: torch.Tensor,
        w_s: torch.Tensor,
        b_s: torch.Tensor,
        h_t: torch.Tensor,
        w_t: torch.Tensor,
        b_t: torch.Tensor,
        temperature: float,
    ) -> torch.Tensor:
        device = h_s.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else w_s.dtype
        x_s, x_t = h_s.to(dtype), h_t.to(dtype)
        parts = []
        with torch.autocast(device, enabled=False):
            for own_s, own_t in zip(x_s.split(TOKENS_AT_ONCE), x_t.split(TOKENS_AT_ONCE), strict=True):
                slices = zip(_slices(own_s, w_s, b_s, temperature), _slices(own_t, w_t, b_t, temperature), strict=True)
                parts.append(_divergences(h_s.new_zeros((len(own_s), 1), dtype=torch.float32), slices))
        divergence, log_sum_s, log_sum_t = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(x_s, w_s, b_s, x_t, w_t, b_t, log_sum_s, log_sum_t)
        ctx.temperature = temperature
        ctx.dtype = h_s.dtype
        return divergence[:, 0] * temperature**2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_s, w_s, b_s, x_t, w_t, b_t, log_sum_s, log_sum_t = ctx.saved_tensors
        d_features = torch.zeros_like(x_s, dtype=torch.float32)
        d_weight = torch.zeros_like(w_s, dtype=torch.float32)
        d_bias = torch.zeros_like(b_s, dtype=torch.float32)
        scale = (grad.float() * ctx.temperature)[:, None]
        step = _slice_size(x_s)
        tokens = [tensor.split(TOKENS_AT_ONCE) for tensor in (x_s, x_t, log_sum_s, log_sum_t, scale, d_features)]
        for own_s, own_t, sum_s, sum_t, factor, d_own in zip(*tokens, strict=True):
            logits = zip(_slices(own_s, w_s, b_s, ctx.temperature), _slices(own_t, w_t, b_t, ctx.temperature), strict=True)
            rows = zip(logits, w_s.split(step), d_weight.split(step), d_bias.split(step), strict=True)
            for (logits_s, logits_t), w, d_w, d_b in rows:
                p_s = logits_s.sub_(sum_s).exp_()
                p_t = logits_t.sub_(sum_t).exp_()
                d_logits = p_s.sub_(p_t).mul_(factor)
                d_b += d_logits.sum(dim=0)
                d_logits = d_logits.to(x_s.dtype)
                d_own += d_logits @ w.to(x_s.dtype)
                d_w += d_logits.T @ own_s
        return d_features.to(ctx.dtype), d_weight.to(w_s.dtype), d_bias.to(b_s.dtype), None, None, None, None


def _slice_size(features: torch.Tensor) -> int:
    return SLICE.get(features.device.type, LARGEST_SLICE)


def _slices(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, temperature: float) -> Iterator[torch.Tensor]:
    """Logits ÷ temperature in fp32, of all tokens: `(tokens, slice)` for each slice of the vocabulary."""
    step = _slice_size(features)
    for w, b in zip(weight.split(step), bias.split(step), strict=True):
        yield (features @ w.to(features.dtype).T).float().add_(b).div_(temperature)


def _divergences(zeros: torch.Tensor, slices: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
    """KL(teacher ‖ student) and the log-sum-exp of both, from slices of their logits: each of shape `(tokens, 1)`, as `zeros`.

    One pass, as an online softmax does (Milakov & Gimelshein 2018). With `p` the teacher's distribution and `z` logits,
    `KL = Σ p (z_t − z_s) + log-sum-exp z_s − log-sum-exp z_t`.
    """
    sum_s = sum_t = weighted = zeros
    top_s = top_t = zeros - math.inf
    for logits_s, logits_t in slices:
        difference = logits_t - logits_s
        before, top_t = top_t, torch.maximum(top_t, logits_t.amax(dim=1, keepdim=True))
        shrink = (before - top_t).exp()
        exponentials = logits_t.sub_(top_t).exp_()
        sum_t = sum_t * shrink + exponentials.sum(dim=1, keepdim=True)
        weighted = weighted * shrink + difference.mul_(exponentials).sum(dim=1, keepdim=True)
        before, top_s = top_s, torch.maximum(top_s, logits_s.amax(dim=1, keepdim=True))
        sum_s = sum_s * (before - top_s).exp() + logits_s.sub_(top_s).exp_().sum(dim=1, keepdim=True)
    log_sum_s = top_s + sum_s.log()
    log_sum_t = top_t + sum_t.log()
    return weighted / sum_t + log_sum_s - log_sum_t, log_sum_s, log_sum_t


def linear_kl(
    student_features: torch.Tensor,
    student_weight: torch.Tensor,
    student_bias: torch.Tensor | None,
    teacher_features: torch.Tensor,
    teacher_weight: torch.Tensor,
    teacher_bias: torch.Tensor | None,
    temperature: float = 1.0,
) -> torch.Tensor:
    """KL(teacher ‖ student) of the softened token distributions × temperature² (Hinton et al. 2015).

    Only the student's tensors get gradients. The first six arguments are those of [`linear_mse`].

    Args:
        student_features (`torch.Tensor` of shape `(tokens, hidden)`): See there.
        student_weight (`torch.Tensor` of shape `(vocabulary, hidden)`): See there.
        student_bias (`torch.Tensor` of shape `(vocabulary,)` or `None`): See there.
        teacher_features (`torch.Tensor` of shape `(tokens, teacher's hidden)`): See there.
        teacher_weight (`torch.Tensor` of shape `(vocabulary, teacher's hidden)`): See there.
        teacher_bias (`torch.Tensor` of shape `(vocabulary,)` or `None`): See there.
        temperature (`float`, *optional*, defaults to 1.0): Divides both logits.

    Returns:
        `torch.Tensor` of shape `(tokens,)`, in fp32.
    """
    student = (student_features, student_weight, bias_or_zeros(student_weight, student_bias))
    teacher = (teacher_features.detach(), teacher_weight.detach(), bias_or_zeros(teacher_weight, teacher_bias).detach())
    return _LinearKL.apply(*student, *teacher, temperature)
