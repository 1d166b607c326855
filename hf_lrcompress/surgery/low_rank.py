"""Low-rank weight matrices: the variant of hidden truncation that the paper tried."""

import torch
from transformers import PreTrainedModel

from hf_lrcompress.models.rebuilding import rebuild


def with_low_rank(model: PreTrainedModel, rank: int) -> PreTrainedModel:
    """Replace every weight matrix with a hidden dimension by its best approximation of a lower rank.

    By Eckart and Young (1936) that is the matrix projected on its `rank` first singular vectors.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        rank (`int`): The rank.

    Returns:
        [`~transformers.PreTrainedModel`]: A new model of the same sizes.
    """
    approximated = rebuild(model, model.config)
    with torch.no_grad():
        for parameter in approximated.parameters():
            if parameter.ndim == 2 and model.config.hidden_size in parameter.shape:
                parameter.copy_(low_rank(parameter, rank))
    return approximated


def low_rank(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    """The best approximation of a matrix by one of a lower rank.

    Args:
        matrix (`torch.Tensor` of shape `(rows, columns)`): The matrix.
        rank (`int`): The rank.

    Returns:
        `torch.Tensor` of shape `(rows, columns)`.
    """
    if len(matrix) < matrix.shape[1]:
        return low_rank(matrix.T, rank).T
    _, vectors = torch.linalg.eigh((matrix.T @ matrix).double())
    first = vectors[:, -rank:].to(matrix.dtype)
    return (matrix @ first) @ first.T
