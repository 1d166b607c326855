"""Attention in the precision that trains fastest on a CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F


@contextmanager
def attention_for_training(device: torch.device, compiled: bool = False) -> Iterator[None]:
    """What a training step runs in: on a CPU fused attention is computed in fp32, whatever autocast says.

    There its backward pass in bf16 is 4 to 15 times slower than in fp32 (torch 2.13), which is half of a step. The function
    is replaced for so long, not called in a mode: layers that are computed again in the backward pass must find it too.

    Args:
        device (`torch.device`): Where the model is.
        compiled (`bool`, *optional*, defaults to `False`): Whether its layers are compiled: they are then left alone.
    """
    functions: Any = F
    fused = functions.scaled_dot_product_attention
    if device.type == "cpu" and not compiled:
        functions.scaled_dot_product_attention = partial(_in_fp32, fused)
    try:
        yield
    finally:
        functions.scaled_dot_product_attention = fused


def _in_fp32(fused: Callable, query: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Fused attention of tensors that are cast, and its result cast back; without gradients in bf16, which is faster then."""
    if not torch.is_grad_enabled():
        return fused(query, *args, **kwargs)
    with torch.autocast("cpu", enabled=False):
        given = [_cast(value) for value in (query, *args)]
        result = fused(*given, **{name: _cast(value) for name, value in kwargs.items()})
    return result.to(query.dtype)


def _cast(value: Any) -> Any:
    """A tensor of low precision in fp32; everything else as it is."""
    is_low = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if is_low else value
