"""Which dimensions to keep: those that explain the most of all of them."""

import torch


def pivoted_cholesky(covariance: torch.Tensor, count: int) -> torch.Tensor:
    """Choose dimensions one after another, each the one that explains the most of what is left.

    With A the covariance that the chosen ones leave, dimension j explains Σ_i A_ij² / A_jj of all variance; after it is chosen
    A − A_j A_jᵀ / A_jj is left: pivoted Cholesky, with the pivot that lowers the trace most.

    Args:
        covariance (`torch.Tensor` of shape `(size, size)`): Covariance of all dimensions.
        count (`int`): How many to choose.

    Returns:
        `torch.LongTensor` of shape `(count,)`: Dimensions, ascending.
    """
    left = covariance.double().clone()
    smallest = torch.finfo(torch.float64).eps * left.diagonal().max().clamp_min(1e-300)
    chosen = torch.zeros(len(left), dtype=torch.bool, device=left.device)
    for _ in range(count):
        explained = left.square().sum(dim=0) / left.diagonal().clamp_min(smallest)
        pivot = explained.masked_fill(chosen, -1.0).argmax()
        chosen[pivot] = True
        column = left[:, pivot].clone()
        left -= torch.outer(column, column) / column[pivot].clamp_min(smallest)
    return chosen.nonzero().flatten().cpu()


def explained_share(covariance: torch.Tensor, keep: torch.Tensor) -> float:
    """The share of the variance of all dimensions that linear functions of the kept ones explain.

    Args:
        covariance (`torch.Tensor` of shape `(size, size)`): Covariance of all dimensions.
        keep (`torch.LongTensor` of shape `(kept,)`): Dimensions that are kept.

    Returns:
        `float`: From 0 to 1.
    """
    covariance = covariance.double()
    keep = keep.to(covariance.device)
    values, vectors = torch.linalg.eigh(covariance[keep][:, keep])
    used = values > len(values) * torch.finfo(torch.float64).eps * values.max()
    projected = vectors.T[used] @ covariance[keep]
    explained = (projected.square() / values[used, None]).sum()
    return (explained / covariance.diagonal().sum()).item()
