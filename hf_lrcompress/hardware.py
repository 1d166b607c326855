"""What the machine can do."""

import resource
import sys

import torch


def computes_in_bf16() -> bool:
    """Whether this machine has bf16 arithmetic (rather than emulating it)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    on_cpu = not torch.accelerator.is_available() and torch.backends.mkldnn.is_available()
    return on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def peak_memory_mb() -> float:
    """Peak memory so far: of the GPU where there is one, otherwise of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
