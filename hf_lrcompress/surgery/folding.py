"""Folding: what is removed of an input is predicted from what is kept, inside the linear map that reads it."""

import torch
from torch import nn

RIDGE = 1e-4
"""Ridge of the least squares, a share of the mean second moment of the kept inputs."""
SMALLEST_RIDGE = 1e-30
"""Where all that is kept is 0."""


def selection(keep: torch.Tensor, size: int) -> torch.Tensor:
    """The basis that keeps some dimensions as they are.

    Args:
        keep (`torch.LongTensor` of shape `(kept,)`): Dimensions to keep.
        size (`int`): How many there are.

    Returns:
        `torch.Tensor` of shape `(kept, size)`: In fp64, one 1 a row.
    """
    return torch.eye(size, dtype=torch.float64, device=keep.device)[keep]


def predictor(moment: torch.Tensor, basis: torch.Tensor, constant: bool = True) -> torch.Tensor:
    """The affine map that predicts a whole input x from z = B x, by ridge least squares.

    With C the second moments of x, what Bᵀz leaves of x is predicted by (C Bᵀ − BᵀB C Bᵀ)(B C Bᵀ + λ)⁻¹. With a constant C is
    centred, and the mean is predicted exactly. Of dimensions that are kept as they are nothing is left to predict.

    Args:
        moment (`torch.Tensor` of shape `(size + 1, size + 1)`): Second moments of x, see [`Moments.mean`].
        basis (`torch.Tensor` of shape `(kept, size)`): B, with orthonormal rows; for kept dimensions a [`selection`].
        constant (`bool`, *optional*, defaults to `True`): Whether the map may add a constant.

    Returns:
        `torch.Tensor` of shape `(size, kept + 1)`: T, so that x ≈ T [z; 1].
    """
    mean, second = centred(moment, constant)
    cross = second @ basis.T
    given = basis @ cross
    weight = basis.T + ridge(given, cross - basis.T @ given)
    shift = mean - weight @ (basis @ mean)
    return torch.cat([weight, shift[:, None]], dim=1)


def ridge(second: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """The linear map of least squares, cross · (second + λ)⁻¹.

    Args:
        second (`torch.Tensor` of shape `(kept, kept)`): Second moments of what is given, E zzᵀ.
        cross (`torch.Tensor` of shape `(size, kept)`): Moments of what is wanted with what is given, E xzᵀ.

    Returns:
        `torch.Tensor` of shape `(size, kept)`: W, so that x ≈ W z.
    """
    return torch.linalg.solve(with_ridge(second), cross.T).T


def centred(moment: torch.Tensor, constant: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and second moments, `(size,)` and `(size, size)`: of an affine map around the mean, of a linear one around 0."""
    mean = moment[:-1, -1] if constant else torch.zeros_like(moment[:-1, -1])
    return mean, moment[:-1, :-1] - torch.outer(mean, mean)


def with_ridge(second: torch.Tensor) -> torch.Tensor:
    """Second moments plus λ, so that they have an inverse: shape `(size, size)`."""
    strength = RIDGE * second.diagonal().mean().clamp_min(SMALLEST_RIDGE)
    return second + strength * torch.eye(len(second), dtype=second.dtype, device=second.device)


def linear_at(model: nn.Module, path: str) -> nn.Linear:
    """The linear module at a path.

    Args:
        model (`nn.Module`): The model.
        path (`str`): The path.

    Returns:
        `nn.Linear`: The module.

    Raises:
        TypeError: If it is another module.
    """
    module = model.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise TypeError(f"{path} is a {type(module).__name__}, not a linear module")
    return module


def augmented(linear: nn.Linear) -> torch.Tensor:
    """Weight and bias in one matrix.

    Returns:
        `torch.Tensor` of shape `(out_features, in_features + 1)`: In fp64; the last column is the bias, or zeros.
    """
    weight = linear.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach().double()
    return torch.cat([weight, bias[:, None]], dim=1)


def folded(affine: torch.Tensor, predict: torch.Tensor) -> torch.Tensor:
    """An affine map after a predictor.

    Args:
        affine (`torch.Tensor` of shape `(out_features, size + 1)`): Weight and bias, see [`augmented`].
        predict (`torch.Tensor` of shape `(size, kept + 1)`): From [`predictor`].

    Returns:
        `torch.Tensor` of shape `(out_features, kept + 1)`: Weight and bias for the kept dimensions.
    """
    product = affine[:, :-1] @ predict
    product[:, -1] += affine[:, -1]
    return product


def write(linear: nn.Linear | nn.Conv1d, affine: torch.Tensor) -> None:
    """Set weight and bias, in place; the constant of a layer without a bias is left out.

    Args:
        linear (`nn.Linear`): The layer.
        affine (`torch.Tensor` of shape `(out_features, in_features + 1)`): Weight and bias.
    """
    with torch.no_grad():
        linear.weight.copy_(affine[:, :-1])
        if linear.bias is not None:
            linear.bias.copy_(affine[:, -1])
