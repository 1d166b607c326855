"""Hidden truncation: a narrower encoder from some of the dimensions of a wider one."""

import torch
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.models.architectures import architecture_of, layer_pattern
from hf_lrcompress.models.rebuilding import rebuild, with_hidden_size
from hf_lrcompress.surgery.attention_folding import HeadSizes, fold_attention
from hf_lrcompress.surgery.calibrated_truncation import fold_readers, scale_norms, stream_covariance
from hf_lrcompress.surgery.dimension_selection import explained_share, pivoted_cholesky
from hf_lrcompress.surgery.low_rank import with_low_rank
from hf_lrcompress.surgery.moments import Moments

METHODS = ("truncate", "calibrated", "svd")


def select_dims(
    config: PretrainedConfig, hidden_size: int, method: str = "truncate", moments: Moments | None = None
) -> torch.Tensor:
    """Choose which hidden dimensions to keep.

    Args:
        config ([`~transformers.PretrainedConfig`]): The config of the model to make narrower.
        hidden_size (`int`): How many dimensions to keep.
        method (`str`, *optional*, defaults to `"truncate"`):
            `"truncate"` and `"svd"`: the first `hidden_size`, as in the paper;
            `"calibrated"`: those that explain the most of all, see [`pivoted_cholesky`].
        moments ([`Moments`], *optional*): What `"calibrated"` needs: from [`collect_moments`] on the model to make narrower.

    Returns:
        `torch.LongTensor` of shape `(hidden_size,)`: Dimensions to keep, ascending.

    Raises:
        ValueError: If the method is unknown or has no moments, the size is larger than the model's, or its class cannot be built
            with that size (the heads do not divide it, …; the message names the nearest sizes that work).
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    with_hidden_size(config, hidden_size)  # raises what there is to raise
    if method != "calibrated":
        return torch.arange(hidden_size)
    return pivoted_cholesky(stream_covariance(config, _needed(moments)), hidden_size)


def truncate_hidden(
    model: PreTrainedModel, hidden_size: int, method: str = "truncate", moments: Moments | None = None
) -> PreTrainedModel:
    """Make an encoder narrower by keeping some of its hidden dimensions; the number of heads stays.

    Of the queries, keys and values, *each head* keeps its first `hidden_size / num_attention_heads` dimensions, so every head
    stays the head it was. Where heads are rotated (ModernBERT, EuroBERT), each keeps the pairs of dimensions that turn at the
    speeds of a narrower head. Embeddings that are projected to the hidden size (ELECTRA, RemBERT, ALBERT) keep theirs.

    With `"truncate"` the returned model computes what `model` would compute with the other hidden dimensions held at zero, its
    layer norms taken over the kept ones and its attention scores divided by the root of the new head size.

    With `"calibrated"` the dimensions are chosen by what they explain, and the kept ones stand in for the removed ones: see
    [`fold_readers`], [`fold_attention`] and [`scale_norms`]. Where the removed dimensions are linear functions of the kept ones,
    every linear map computes what it did.

    `"svd"` cuts as `"truncate"`, after each weight matrix with a hidden dimension has been replaced by its best approximation of
    rank `hidden_size`. The paper (arXiv 2505.16956) tried a low rank per weight matrix and found it worse than truncation; it
    gives no formula, this is the plainest one.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        hidden_size (`int`): The new hidden size, a multiple of the number of heads (twice that where heads are rotated).
        method (`str`, *optional*, defaults to `"truncate"`): `"truncate"`, `"calibrated"` or `"svd"`.
        moments ([`Moments`], *optional*): What `"calibrated"` needs: from [`collect_moments`] on `model`.

    Returns:
        [`~transformers.PreTrainedModel`]: A new model of the same class.

    Raises:
        ValueError: As [`select_dims`]; if the moments are those of another model.

    Example:
    ```python
    >>> small = truncate_hidden(model, hidden_size=564)
    >>> better = truncate_hidden(model, 564, "calibrated", collect_moments(model, batches))
    ```
    """
    if method == "calibrated":
        _needed(moments).check(model)
    keep_dims = select_dims(model.config, hidden_size, method, moments)
    if method == "svd":
        return _cut(with_low_rank(model, hidden_size), keep_dims)
    small = _cut(model, keep_dims)
    if method == "calibrated":
        moments = _needed(moments)
        fold_attention(model, small, keep_dims, _head_sizes(model.config, hidden_size), moments)
        fold_readers(model, small, keep_dims, moments)
        scale_norms(model, small, keep_dims, moments)
    return small


def truncation_record(config: PretrainedConfig, hidden_size: int, moments: Moments) -> dict[str, float | str]:
    """What calibration did for a family and how much was kept, for a stage's record.

    Args:
        config ([`~transformers.PretrainedConfig`]): The config of the model that was made narrower.
        hidden_size (`int`): The new hidden size.
        moments ([`Moments`]): The model's second moments.

    Returns:
        `dict`: `explained` and `explained_by_first`, the share of the hidden dimensions' variance that the chosen ones and as
        many first ones explain; `scores`, how the dimensions of queries and keys were reduced.
    """
    covariance = stream_covariance(config, moments)
    chosen = select_dims(config, hidden_size, "calibrated", moments)
    return {
        "explained": explained_share(covariance, chosen),
        "explained_by_first": explained_share(covariance, torch.arange(hidden_size)),
        "scores": "pairs" if architecture_of(config).rotary else "low rank",
    }


def _needed(moments: Moments | None) -> Moments:
    if moments is None:
        raise ValueError("method 'calibrated' needs moments; measure them with collect_moments(model, batches)")
    return moments


def _cut(model: PreTrainedModel, keep_dims: torch.Tensor) -> PreTrainedModel:
    """The model with these hidden dimensions, and of each head as many as fit."""
    architecture = architecture_of(model.config)
    pattern = layer_pattern(model.config)
    sizes = _head_sizes(model.config, len(keep_dims))
    keep_in_head = torch.arange(sizes.new) if sizes.rotated is None else sizes.rotated

    def keep(name: str, dim: int, length: int) -> torch.Tensor:
        match = pattern.match(name)
        module = match["rest"].rpartition(".")[0] if match else None
        if (module in architecture.attention_inputs and dim == 0) or (module == architecture.attention_output and dim == 1):
            return torch.cat([keep_in_head + start for start in range(0, length, sizes.old)])
        return keep_dims

    return rebuild(model, with_hidden_size(model.config, len(keep_dims)), keep)


def _head_sizes(config: PretrainedConfig, hidden_size: int) -> HeadSizes:
    """The heads before and after.

    Rotation turns dimension i together with i + size / 2, by base^(-2i / size): pair i of the narrower head turns as pair
    i · old size / new size of the wider one did.
    """
    old = config.hidden_size // config.num_attention_heads
    new = hidden_size // config.num_attention_heads
    if not architecture_of(config).rotary:
        return HeadSizes(old, new)
    pairs = torch.arange(new // 2) * old // new
    return HeadSizes(old, new, torch.cat([pairs, pairs + old // 2]))
