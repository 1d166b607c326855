"""Attention in the precision that trains fastest on a CPU."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def attention_for_training(device: torch.device, compiled: bool = False) -> AbstractContextManager:
    """What a training step runs in: on a CPU fused attention is computed in fp32, whatever autocast says.

    There its backward pass in bf16 is 4 to 15 times slower than in fp32 (torch 2.13), which is half of a step.

    Args:
        device (`torch.device`): Where the model is.
        compiled (`bool`, *optional*, defaults to `False`): Whether its layers are compiled: they are then left alone.
    """
    return _AttentionInFloat32() if device.type == "cpu" and not compiled else nullcontext()


class _AttentionInFloat32(TorchFunctionMode):
    """Casts what goes into `scaled_dot_product_attention`, and its result back."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is not F.scaled_dot_product_attention:
            return function(*args, **kwargs)
        dtype = (args[0] if args else kwargs["query"]).dtype
        with torch.autocast("cpu", enabled=False):
            result = function(*map(_in_fp32, args), **{name: _in_fp32(value) for name, value in kwargs.items()})
        return result.to(dtype)


def _in_fp32(value: Any) -> Any:
    """A tensor of low precision in fp32; everything else as it is."""
    is_low = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if is_low else value
