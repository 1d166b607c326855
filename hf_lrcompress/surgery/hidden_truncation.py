"""Hidden truncation: a narrower encoder from some of the dimensions of a wider one."""

import torch
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.architectures import architecture_of, changed, layer_pattern, moved_dimensions, rebuild

METHODS = ("truncate",)


def select_dims(config: PretrainedConfig, hidden_size: int, method: str = "truncate") -> torch.Tensor:
    """Choose which hidden dimensions to keep.

    Args:
        config ([`~transformers.PretrainedConfig`]): The config of the model to make narrower.
        hidden_size (`int`): How many dimensions to keep.
        method (`str`, *optional*, defaults to `"truncate"`): `"truncate"`: the first `hidden_size`, as in the paper.

    Returns:
        `torch.LongTensor` of shape `(hidden_size,)`: Dimensions to keep, ascending.

    Raises:
        ValueError: If the method is unknown, the size is larger than the model's, or the heads do not divide it (the message
            names the nearest sizes that work).
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    heads, size = config.num_attention_heads, config.hidden_size
    if not 1 <= hidden_size <= size:
        raise ValueError(f"hidden_size {hidden_size} is not in 1 to {size}, the hidden size of the model it is cut from")
    if hidden_size % heads:
        below, above = hidden_size // heads * heads, (hidden_size // heads + 1) * heads
        nearest = " or ".join(str(allowed) for allowed in (below, above) if 0 < allowed <= size)
        raise ValueError(f"hidden_size {hidden_size} is not divisible by the {heads} attention heads; use {nearest}")
    return torch.arange(hidden_size)


def truncate_hidden(model: PreTrainedModel, hidden_size: int, method: str = "truncate") -> PreTrainedModel:
    """Make an encoder narrower by keeping some of its hidden dimensions; the number of heads stays.

    Of the queries, keys and values, *each head* keeps its first `hidden_size / num_attention_heads` dimensions, so every head
    stays the head it was. The returned model computes what `model` would compute with the other hidden dimensions held at
    zero, its layer norms taken over the kept ones and its attention scores divided by the root of the new head size.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        hidden_size (`int`): The new hidden size, a multiple of the number of heads.
        method (`str`, *optional*, defaults to `"truncate"`): How dimensions are chosen, see [`select_dims`].

    Returns:
        [`~transformers.PreTrainedModel`]: A new model of the same class.

    Raises:
        ValueError: If the size is larger than the model's or the heads do not divide it.
    """
    config, architecture = model.config, architecture_of(model.config)
    keep_dims = select_dims(config, hidden_size, method)
    keep_inner = _first_dims_of_each_head(config, hidden_size)
    moves = moved_dimensions(model, "hidden_size", step=config.num_attention_heads)
    pattern = layer_pattern(config)

    def cut(name: str, tensor: torch.Tensor) -> torch.Tensor:
        match = pattern.match(name)
        module = match["rest"].rpartition(".")[0] if match else None
        for dim, multiple in moves.get(name, {}).items():
            is_inner = (module in architecture.attention_inputs and dim == 0) or (
                module == architecture.attention_output and dim == 1
            )
            keep = (keep_inner if is_inner else keep_dims).to(tensor.device)
            index = torch.cat([keep + block * config.hidden_size for block in range(multiple)])
            tensor = tensor.index_select(dim, index)
        return tensor

    return rebuild(model, changed(config, hidden_size=hidden_size), cut)


def _first_dims_of_each_head(config: PretrainedConfig, hidden_size: int) -> torch.Tensor:
    heads = config.num_attention_heads
    old_size, new_size = config.hidden_size // heads, hidden_size // heads
    return (torch.arange(heads)[:, None] * old_size + torch.arange(new_size)).flatten()
