"""Layer reduction: keep some of the layers of an encoder."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.messages import whole_number
from hf_lrcompress.models.architectures import architecture_of, layer_pattern, layers_of
from hf_lrcompress.models.rebuilding import on_meta, rebuild, with_layers

STRATEGIES = ("stride", "last", "first", "first_last")
Kind = dict[str, object]
"""What tells a layer from the others of its class."""


def select_layers(num_hidden_layers: int, target: int, strategy: str = "stride") -> list[int]:
    """Choose which layers of a teacher a smaller student starts from.

    Args:
        num_hidden_layers (`int`): Layers of the teacher.
        target (`int`): Layers of the student.
        strategy (`str`, *optional*, defaults to `"stride"`):
            `"stride"`: evenly spaced from the first layer, as the paper's authors do it (12 → 6: 0, 2, 4, 6, 8, 10);
            `"last"`, `"first"`: the last or first `target` layers;
            `"first_last"`: the first half of `target` from the bottom, the rest from the top.

    Returns:
        `list[int]`: `target` layer indices (from 0), ascending.

    Raises:
        ValueError: If the strategy is unknown or `target` is not in 1 … `num_hidden_layers`.

    Example:
    ```python
    >>> select_layers(12, 4, "first_last")
    [0, 1, 10, 11]
    ```
    """
    _check_target(num_hidden_layers, target)
    if strategy == "stride":
        return [i * num_hidden_layers // target for i in range(target)]
    if strategy == "last":
        return list(range(num_hidden_layers - target, num_hidden_layers))
    if strategy == "first":
        return list(range(target))
    if strategy == "first_last":
        bottom = (target + 1) // 2
        return [*range(bottom), *range(num_hidden_layers - target + bottom, num_hidden_layers)]
    raise ValueError(f"unknown strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}")


def select_layers_measured(num_hidden_layers: int, target: int, error: Callable[[list[int]], float]) -> list[int]:
    """Choose layers by what they contribute: one after another, the layer goes whose removal costs the least.

    Args:
        num_hidden_layers (`int`): Layers of the teacher.
        target (`int`): Layers of the student.
        error (`Callable[[list[int]], float]`): Given the indices of the layers that are kept, ascending, the error of the encoder
            with these alone, such as the loss that is distilled. Called about `num_hidden_layers`² / 2 times at most.

    Returns:
        `list[int]`: `target` layer indices (from 0), ascending. Of equal errors the upper layer goes.

    Raises:
        ValueError: If `target` is not in 1 … `num_hidden_layers`.

    Example:
    ```python
    >>> select_layers_measured(12, 6, lambda keep_layers: evaluate(reduce_layers(model, keep_layers)))
    ```
    """
    _check_target(num_hidden_layers, target)
    keep_layers = list(range(num_hidden_layers))
    while len(keep_layers) > target:
        remaining = [keep_layers[:place] + keep_layers[place + 1 :] for place in reversed(range(len(keep_layers)))]
        keep_layers = min(remaining, key=error)
    return keep_layers


def _check_target(num_hidden_layers: int, target: int) -> None:
    whole_number("the number of layers to keep", target)
    if not 1 <= target <= num_hidden_layers:
        raise ValueError(f"cannot keep {target} of {num_hidden_layers} layers; give a number from 1 to {num_hidden_layers}")


def reduce_layers(model: PreTrainedModel, keep_layers: Sequence[int]) -> PreTrainedModel:
    """Keep some layers of an encoder, in order.

    The returned model computes what `model` would compute with the other layers replaced by the identity.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        keep_layers (`Sequence[int]`): Indices of the layers to keep (from 0), ascending.

    Returns:
        [`~transformers.PreTrainedModel`]: A new model of the same class.

    Raises:
        ValueError: If the indices are not ascending, a layer does not exist, all layers share their weights, or a layer would
            come to a place for which the class makes another kind of layer (ModernBERT: local and global attention alternate,
            the first layer has no norm). The message names the nearest layers that work.

    Example:
    ```python
    >>> small = reduce_layers(model, select_layers(model.config.num_hidden_layers, target=6))
    ```
    """
    keep_layers = [int(layer) for layer in keep_layers]
    count = model.config.num_hidden_layers
    if not keep_layers or keep_layers != sorted(set(keep_layers)) or not 0 <= keep_layers[0] <= keep_layers[-1] < count:
        raise ValueError(f"keep_layers must be ascending layer indices from 0 to {count - 1}, got {keep_layers}")
    fitting = fitting_layers(model, keep_layers)
    if fitting != keep_layers:
        raise ValueError(
            f"layers {keep_layers} would come to places for which {type(model).__name__} makes another kind of layer "
            f"(attention, norms); use keep_layers {fitting}"
        )
    pattern = layer_pattern(model.config)

    def old_name(name: str) -> str:
        match = pattern.match(name)
        if match is None:
            return name
        return f"{match['prefix']}{keep_layers[int(match['layer'])]}.{match['rest']}"

    return rebuild(model, with_layers(model.config, len(keep_layers)), old_name=old_name)


def with_random_layers(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Give an encoder the layers that its class begins with before any training; embeddings and head stay.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        seed (`int`): Seeds the weights.

    Returns:
        [`~transformers.PreTrainedModel`]: A new model of the same class and sizes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        untrained = type(model)(model.config)
    made = rebuild(model, model.config)
    layers_of(made).load_state_dict(layers_of(untrained).state_dict())
    return made


def fitting_layers(model: PreTrainedModel, keep_layers: Sequence[int]) -> list[int]:
    """The layers nearest to `keep_layers` that can follow one another in a smaller model of the same class.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head.
        keep_layers (`Sequence[int]`): Indices of the layers that are wanted (from 0), ascending.

    Returns:
        `list[int]`: As many indices, ascending.

    Raises:
        ValueError: If all layers share their weights.
    """
    row = architecture_of(model.config)
    if row.shared_layers:
        raise ValueError(
            "all layers of this model share one set of weights: fewer would be no smaller; leave layer reduction out"
        )
    kinds = _kinds_of_layers(model, model.config)
    places = _kinds_of_layers(model, with_layers(model.config, len(keep_layers)))
    if row.first_layer_key and getattr(model.config, row.first_layer_key, None):
        kinds[0][row.first_layer_key] = True
        places[0][row.first_layer_key] = True
    return _nearest(kinds, places, keep_layers)


def _kinds_of_layers(model: PreTrainedModel, config: PretrainedConfig) -> list[Kind]:
    return [_kind(layer) for layer in layers_of(on_meta(type(model), config))]


def _kind(layer: nn.Module) -> Kind:
    """What a class makes differently from layer to layer: the modules inside and their plain attributes, but for its index."""
    kind: Kind = {}
    for path, module in layer.named_modules():
        kind[path] = type(module)
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | str | tuple) and not name.startswith(("_", "layer_id")):
                kind[f"{path}.{name}".lstrip(".")] = value
    return kind


def _nearest(kinds: list[Kind], places: list[Kind], wanted: Sequence[int]) -> list[int]:
    """Ascending layers that are of their places' kinds, at the least total distance from those wanted.

    One place after another: for every layer that can be there, the best layers up to it.
    """
    best: dict[int, tuple[int, list[int]]] = {-1: (0, [])}  # last layer so far → total distance, layers
    for place, target in zip(places, wanted, strict=True):
        reached = {}
        for layer, kind in enumerate(kinds):
            before = [found for last, found in best.items() if last < layer]
            if kind == place and before:
                distance, layers = min(before)
                reached[layer] = (distance + abs(layer - target), [*layers, layer])
        best = reached
    return min(best.values())[1]
