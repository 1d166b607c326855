"""What makes the training of adapters cheaper on a CPU. It computes the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hf_lrcompress.machine import computes_in_bf16

RANDOM_BITS = 16


@contextmanager
def fast_dropout() -> Iterator[None]:
    """What a training step runs in: on a CPU dropout is [`dropout_by_words`], that of modules and that of attention alike."""
    functions: Any = F
    plain = functions.dropout
    if not torch.accelerator.is_available():
        functions.dropout = dropout_by_words
    try:
        yield
    finally:
        functions.dropout = plain


def dropout_by_words(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Dropout that draws 16 random bits for a value.

    Torch draws 64, one value at a time, which on a CPU takes as long as a matrix product. The probability is rounded to 1/65536.
    Arguments as in [`torch.nn.functional.dropout`]; nothing is done in place.
    """
    if not training or not p:
        return input
    dropped = round(p * 2**RANDOM_BITS)
    words = torch.empty(-(-input.numel() * RANDOM_BITS // 64), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: input.numel()].view_as(input)
    kept = (draws >= dropped - 2 ** (RANDOM_BITS - 1)).to(input.dtype)
    return input * kept.mul_(1 / (1 - dropped / 2**RANDOM_BITS))


def attention_implementation() -> str | None:
    """The attention to load a model with; `None` is the library's own choice.

    On a CPU torch's fused attention has no dropout, and in bf16 its backward pass is several times slower for short texts.
    """
    return None if torch.accelerator.is_available() else "eager"


def make_cheap(model: nn.Module) -> None:
    """Cast frozen linear layers to bf16 once, where autocast would at every step.

    Args:
        model (`torch.nn.Module`): Changed in place; what is trained stays in fp32.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear) and computes_in_bf16() and not any(p.requires_grad for p in module.parameters()):
            module.to(torch.bfloat16)
