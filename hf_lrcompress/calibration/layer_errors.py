"""What an encoder loses without some of its layers, measured on text."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from transformers import PreTrainedModel

from hf_lrcompress.models.eval_mode import in_eval_mode
from hf_lrcompress.surgery.layer_reduction import fitting_layers, reduce_layers, select_layers, select_layers_measured

RIDGE = 1e-4
"""Share of the mean squared state that is added to the diagonal, so that the map is stable where states hardly vary."""


def measure_layers(model: PreTrainedModel, target: int, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[int]:
    """Choose the layers without which the last hidden states are lost least, see [`unexplained_share`].

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        target (`int`): Layers to keep.
        batches (`Sequence[Mapping[str, torch.Tensor]]`): What the encoder is given: `input_ids` and `attention_mask`.

    Returns:
        `list[int]`: `target` layer indices (from 0), ascending.
    """
    states = last_states(model, batches)

    def fits(keep_layers: list[int]) -> bool:
        return fitting_layers(model, keep_layers) == keep_layers

    def error(keep_layers: list[int]) -> float:
        if not fits(keep_layers):
            return float("inf")  # the class makes other layers at these places
        return unexplained_share(last_states(reduce_layers(model, keep_layers), batches), states)

    count = model.config.num_hidden_layers
    removable = [layer for layer in range(count) if fits(without(range(count), layer))]
    if len(removable) > count / 2:
        return select_layers_measured(count, target, error)
    return improved_by_swaps(fitting_layers(model, select_layers(count, target)), count, error)


def without(layers: Iterable[int], removed: int) -> list[int]:
    """The layers but for one."""
    return [layer for layer in layers if layer != removed]


def improved_by_swaps(keep_layers: list[int], num_hidden_layers: int, error: Callable[[list[int]], float]) -> list[int]:
    """Exchange one layer after another for the one that lowers the error most, until none does.

    For families whose kinds of layers alternate (ModernBERT): there hardly any single layer can be left out.

    Args:
        keep_layers (`list[int]`): Layers that fit, ascending.
        num_hidden_layers (`int`): Layers of the teacher.
        error (`Callable[[list[int]], float]`): The error of the encoder with these layers alone; infinite where they do not fit.

    Returns:
        `list[int]`: As many layers, ascending.
    """
    lowest = error(keep_layers)
    while True:
        others = [layer for layer in range(num_hidden_layers) if layer not in keep_layers]
        swapped = [sorted([*without(keep_layers, old), new]) for old in keep_layers for new in others]
        errors = [error(layers) for layers in swapped]
        if min(errors, default=lowest) >= lowest:
            return keep_layers
        lowest = min(errors)
        keep_layers = swapped[errors.index(lowest)]


@torch.no_grad()
def last_states(model: PreTrainedModel, batches: Sequence[Mapping[str, torch.Tensor]]) -> torch.Tensor:
    """The last hidden states of all tokens but padding: shape `(tokens, hidden)`."""
    states = []
    with in_eval_mode(model):
        for batch in batches:
            inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
            states.append(model.base_model(**inputs).last_hidden_state[inputs["attention_mask"].bool()])
    return torch.cat(states)


def unexplained_share(states: torch.Tensor, targets: torch.Tensor) -> float:
    """Share of the variance of `targets` that the best affine map of `states` leaves: 1 − R² of ridge least squares.

    Args:
        states (`torch.Tensor` of shape `(tokens, hidden)`): A student's states.
        targets (`torch.Tensor` of shape `(tokens, teacher hidden)`): The teacher's states of the same tokens.
    """
    states = (states - states.mean(dim=0)).double()
    targets = (targets - targets.mean(dim=0)).double()
    second = states.T @ states
    second.diagonal().add_(RIDGE * second.diagonal().mean())
    cross = states.T @ targets
    explained = (cross * torch.linalg.solve(second, cross)).sum()
    return (1 - explained / targets.square().sum()).item()
