"""Hidden truncation: a narrower encoder from some of the dimensions of a wider one."""

import torch
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.models.architectures import architecture_of, layer_pattern
from hf_lrcompress.models.rebuilding import rebuild, with_hidden_size

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
        ValueError: If the method is unknown, the size is larger than the model's, or its class cannot be built with that size
            (the heads do not divide it, …; the message names the nearest sizes that work).
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    with_hidden_size(config, hidden_size)  # raises what there is to raise
    return torch.arange(hidden_size)


def truncate_hidden(model: PreTrainedModel, hidden_size: int, method: str = "truncate") -> PreTrainedModel:
    """Make an encoder narrower by keeping some of its hidden dimensions; the number of heads stays.

    Of the queries, keys and values, *each head* keeps its first `hidden_size / num_attention_heads` dimensions, so every head
    stays the head it was. Where heads are rotated (ModernBERT, EuroBERT), each keeps the pairs of dimensions that turn at the
    speeds of a narrower head. Embeddings that are projected to the hidden size (ELECTRA, RemBERT, ALBERT) keep theirs.

    The returned model computes what `model` would compute with the other hidden dimensions held at zero, its layer norms taken
    over the kept ones and its attention scores divided by the root of the new head size.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        hidden_size (`int`): The new hidden size, a multiple of the number of heads (twice that where heads are rotated).
        method (`str`, *optional*, defaults to `"truncate"`): How dimensions are chosen, see [`select_dims`].

    Returns:
        [`~transformers.PreTrainedModel`]: A new model of the same class.

    Raises:
        ValueError: As [`select_dims`].

    Example:
    ```python
    >>> small = truncate_hidden(model, hidden_size=564)
    ```
    """
    config, architecture = model.config, architecture_of(model.config)
    keep_dims = select_dims(config, hidden_size, method)
    head_size, pattern = config.hidden_size // config.num_attention_heads, layer_pattern(config)
    keep_in_head = _dims_of_head(head_size, hidden_size // config.num_attention_heads, architecture.rotary)

    def keep(name: str, dim: int, length: int) -> torch.Tensor:
        match = pattern.match(name)
        module = match["rest"].rpartition(".")[0] if match else None
        if (module in architecture.attention_inputs and dim == 0) or (module == architecture.attention_output and dim == 1):
            return torch.cat([keep_in_head + start for start in range(0, length, head_size)])
        return keep_dims

    return rebuild(model, with_hidden_size(config, hidden_size), keep)


def _dims_of_head(old_size: int, new_size: int, rotary: bool) -> torch.Tensor:
    """The dimensions that a head keeps.

    Rotation turns dimension i together with i + size / 2, by base^(-2i / size): pair i of the narrower head turns as pair
    i · old size / new size of the wider one did.
    """
    if not rotary:
        return torch.arange(new_size)
    pairs = torch.arange(new_size // 2) * old_size // new_size
    return torch.cat([pairs, pairs + old_size // 2])
