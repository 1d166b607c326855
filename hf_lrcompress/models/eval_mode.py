"""Running a model without dropout, and the mode of its parts."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and back to what it was, part by part."""
    with mode_kept(model):
        model.eval()
        yield


@contextmanager
def mode_kept(model: nn.Module) -> Iterator[None]:
    """Put each part back into the mode that it was in."""
    modes = modes_of(model)
    try:
        yield
    finally:
        set_modes(model, modes)


def modes_of(model: nn.Module) -> dict[str, bool]:
    """Whether each module is in training mode, by name: an encoder may be frozen under a head that learns."""
    return {name: module.training for name, module in model.named_modules()}


def set_modes(model: nn.Module, modes: dict[str, bool]) -> None:
    """Put each module into its mode; one that has no name there into that of the nearest around it."""
    for name, module in model.named_modules():
        while name not in modes:
            name = name.rpartition(".")[0]
        module.training = modes[name]
