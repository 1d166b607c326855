"""Layer reduction: keep some of the layers of an encoder."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from hf_lrcompress.architectures import changed, layer_pattern, rebuild

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
        ValueError: If the indices are not ascending, or a layer does not exist.
    """
    keep_layers = [int(layer) for layer in keep_layers]
    count = model.config.num_hidden_layers
    if not keep_layers or keep_layers != sorted(set(keep_layers)) or not 0 <= keep_layers[0] <= keep_layers[-1] < count:
        raise ValueError(f"keep_layers must be ascending layer indices from 0 to {count - 1}, got {keep_layers}")
    pattern = layer_pattern(model.config)

    def old_name(name: str) -> str:
        match = pattern.match(name)
        return f"{match['prefix']}{keep_layers[int(match['layer'])]}.{match['rest']}" if match else name

    return rebuild(model, changed(model.config, num_hidden_layers=len(keep_layers)), old_name=old_name)
