"""What the machine can do."""

import torch


def computes_in_bf16() -> bool:
    """Whether this machine has bf16 arithmetic (rather than emulating it)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    on_cpu = not torch.accelerator.is_available() and torch.backends.mkldnn.is_available()
    return on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()
