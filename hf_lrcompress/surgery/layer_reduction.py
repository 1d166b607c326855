"""Layer reduction: keep some of the layers of an encoder."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from hf_lrcompress.models.architectures import architecture_of, layer_pattern, layers_of
from hf_lrcompress.models.rebuilding import on_meta, rebuild, with_layers

STRATEGIES = ("stride", "last", "first", "first_last")


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
    if not 1 <= target <= num_hidden_layers:
        raise ValueError(f"cannot keep {target} of {num_hidden_layers} layers; give a number from 1 to {num_hidden_layers}")
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
        return f"{match['prefix']}{keep_layers[int(match['layer'])]}.{match['rest']}" if match else name

    return rebuild(model, with_layers(model.config, len(keep_layers)), old_name=old_name)


def fitting_layers(model: PreTrainedModel, keep_layers: Sequence[int]) -> list[int]:
    """The layers nearest to `keep_layers` that can follow one another in a smaller model of the same class.

    Raises:
        ValueError: If all layers share their weights.
    """
    old, new = model.config, with_layers(model.config, len(keep_layers))
    row = architecture_of(old)
    if row.shared_layers:
        raise ValueError(
            "all layers of this model share one set of weights: fewer would be no smaller; leave layer reduction out"
        )
    kinds, places = ([_kind(layer) for layer in layers_of(on_meta(type(model), config))] for config in (old, new))
    if row.first_layer_key and getattr(old, row.first_layer_key, 0):
        kinds[0][row.first_layer_key] = places[0][row.first_layer_key] = True
    return _nearest(kinds, places, keep_layers)


def _kind(layer: nn.Module) -> dict[str, object]:
    """What a class makes differently from layer to layer: the modules inside and their plain attributes, but for its index."""
    kind = {}
    for path, module in layer.named_modules():
        kind[path] = type(module)
        for name, value in vars(module).items():
            if isinstance(value, bool | int | float | str | tuple) and not name.startswith(("_", "layer_id")):
                kind[f"{path}.{name}".lstrip(".")] = value
    return kind


def _nearest(kinds: list[dict], places: list[dict], wanted: Sequence[int]) -> list[int]:
    """Ascending layers that are of their places' kinds, at the least total distance from those wanted."""
    best: dict[int, tuple[int, list[int]]] = {-1: (0, [])}  # last layer so far → total distance, layers
    for place, target in zip(places, wanted, strict=True):
        best = {
            layer: min((cost + abs(layer - target), [*layers, layer]) for last, (cost, layers) in best.items() if last < layer)
            for layer, kind in enumerate(kinds)
            if kind == place and layer > min(best)
        }
    return min(best.values())[1]
