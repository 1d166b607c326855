"""What makes the training of adapters cheaper on a CPU. It computes the same."""

import torch
from torch import nn

from hf_lrcompress.machine import computes_in_bf16

RANDOM_BITS = 16


class FastDropout(nn.Dropout):
    """Dropout that draws 16 random bits for a value.

    Torch draws 64, one value at a time, which on a CPU takes as long as a matrix product. The probability is rounded to 1/65536.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Drop values and scale the others, in training."""
        if not self.training or not self.p:
            return inputs
        dropped = round(self.p * 2**RANDOM_BITS)
        words = torch.empty(-(-inputs.numel() * RANDOM_BITS // 64), dtype=torch.int64).random_(-(2**63), None)
        draws = words.view(torch.int16)[: inputs.numel()].view_as(inputs)
        kept = (draws >= dropped - 2 ** (RANDOM_BITS - 1)).to(inputs.dtype)
        return inputs * kept.mul_(1 / (1 - dropped / 2**RANDOM_BITS))


def attention_for_training() -> str | None:
    """The attention to load a model with; `None` is the library's own choice.

    On a CPU torch's fused attention has no dropout, and in bf16 its backward pass is several times slower for short texts.
    """
    return None if torch.accelerator.is_available() else "eager"


def make_cheap(model: nn.Module) -> None:
    """Draw dropout's masks faster on a CPU, and cast frozen linear layers to bf16 once, where autocast would at every step.

    Args:
        model (`torch.nn.Module`): Changed in place; what is trained stays in fp32.
    """
    for module in model.modules():
        if type(module) is nn.Dropout and not torch.accelerator.is_available():
            module.__class__ = FastDropout
        if isinstance(module, nn.Linear) and computes_in_bf16() and not any(p.requires_grad for p in module.parameters()):
            module.to(torch.bfloat16)
