"""Second moments: what a surgery knows of the text that a model will be used on."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

LAST_HIDDEN_STATE = "last_hidden_state"
"""Stands for a path: what the encoder returns, which no module of a model without a head reads."""


@dataclass(frozen=True)
class Moments:
    """Second moments of what the modules of a model are given, summed over tokens.

    Every input x of a module is taken with a 1 behind it, so that one matrix has the moments, the sums and the count:
    Σ [x; 1][x; 1]ᵀ. `a + b` are the moments of both texts.

    Args:
        sums (`Mapping[str, torch.Tensor]`): For the path of a module the sum, fp64 of shape `(size + 1, size + 1)`.
    """

    sums: Mapping[str, torch.Tensor]

    def __post_init__(self) -> None:
        for path, moment in self.sums.items():
            if moment.ndim != 2 or moment.shape[0] != moment.shape[1]:
                raise ValueError(f"the moments of {path} must be a square matrix, not of shape {tuple(moment.shape)}")
            if not torch.isfinite(moment).all():
                raise ValueError(f"the moments of {path} are not finite; measure them in fp32 or bf16")

    def __add__(self, other: "Moments") -> "Moments":
        if set(self.sums) != set(other.sums):
            raise ValueError("moments of two models cannot be added; measure both texts on the same one")
        return Moments({path: moment + other.sums[path] for path, moment in self.sums.items()})

    def check(self, model: nn.Module) -> None:
        """Refuse a model that they cannot have been measured on: one with fewer layers would be given those of other layers.

        Args:
            model (`torch.nn.Module`): The model that is cut.

        Raises:
            ValueError: If it lacks a module that was measured.
        """
        paths = {path for path, _ in model.named_modules()} | {LAST_HIDDEN_STATE}
        unknown = sorted(self.sums.keys() - paths)
        if unknown:
            why = "which this model does not have; measure them on the model that is cut"
            raise ValueError(f"there are moments of {unknown[0]}, {why}")

    def mean(self, path: str, size: int) -> torch.Tensor:
        """The second moments of a module's input, E [x; 1][x; 1]ᵀ.

        Args:
            path (`str`): Path of the module.
            size (`int`): The size that the module's input has.

        Returns:
            `torch.Tensor` of shape `(size + 1, size + 1)`: In fp64.

        Raises:
            ValueError: If the module was not measured, or had an input of another size.
        """
        moment = self.sums.get(path)
        if moment is None or len(moment) != size + 1:
            raise ValueError(f"there are no moments of {path} with {size} dimensions; measure them on the model that is cut")
        return moment / moment[-1, -1]


def centred(moment: torch.Tensor) -> torch.Tensor:
    """The covariance E xxᵀ − E x E xᵀ.

    Args:
        moment (`torch.Tensor` of shape `(size + 1, size + 1)`): Second moments from [`Moments.mean`].

    Returns:
        `torch.Tensor` of shape `(size, size)`.
    """
    mean = moment[:-1, -1]
    return moment[:-1, :-1] - torch.outer(mean, mean)
