"""Which neurons a layer can do without: they are removed step by step, the rest refitted after every step."""

import torch

from hf_lrcompress.surgery.folding import centred, with_ridge

STEPS = 64
"""Steps in which all neurons of a layer are removed."""


def elimination_costs(moment: torch.Tensor, weight: torch.Tensor, constant: bool = True) -> torch.Tensor:
    """What the removal of every neuron costs the output, in the order in which they are best removed.

    With H = (C + λ)⁻¹ of the activations' moments and W the output matrix, removing neuron i and refitting the others costs the
    expected square ‖W_i‖² / H_ii (Hassibi and Stork 1993). In each of 64 steps the cheapest go, then W and H are refitted.

    Args:
        moment (`torch.Tensor` of shape `(neurons + 1, neurons + 1)`): Second moments of the activations, see [`Moments.mean`].
        weight (`torch.Tensor` of shape `(size, neurons)`): The output matrix, in fp64.
        constant (`bool`, *optional*, defaults to `True`): Whether the output has a bias, which takes in the mean.

    Returns:
        `torch.Tensor` of shape `(neurons,)`: Never less than that of a neuron that was removed earlier.
    """
    _, second = centred(moment, constant)
    inverse = torch.linalg.inv(with_ridge(second))
    neurons = torch.arange(len(second), device=second.device)
    ranked = []
    costs = []
    while len(neurons):
        cost, order = (weight.square().sum(dim=0) / inverse.diagonal()).sort()
        removed, kept = order.tensor_split([-(-len(second) // STEPS)])
        ranked.append(neurons[removed])
        costs.append(cost[: len(removed)])
        solved = torch.linalg.solve(inverse[removed][:, removed], inverse[removed][:, kept])
        weight = weight[:, kept] - weight[:, removed] @ solved
        inverse = inverse[kept][:, kept] - inverse[kept][:, removed] @ solved
        neurons = neurons[kept]
    increasing = torch.cat(costs).cummax(dim=0).values
    return torch.empty_like(increasing).scatter(0, torch.cat(ranked), increasing)
