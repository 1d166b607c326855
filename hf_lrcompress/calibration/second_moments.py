"""Second moments of what the modules of an encoder are given, measured on text."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_lrcompress.models.architectures import layer_pattern
from hf_lrcompress.models.eval_mode import in_eval_mode
from hf_lrcompress.surgery.moments import LAST_HIDDEN_STATE, Moments


def collect_moments(model: PreTrainedModel, batches: Iterable[Mapping[str, torch.Tensor]]) -> Moments:
    """Measure the second moments of what every linear map and norm of an encoder is given.

    One pass without gradients; what is held does not grow with the text. Padding is left out. Logits are not computed.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; runs in eval mode.
        batches (`Iterable[Mapping[str, torch.Tensor]]`):
            What the encoder is given: `input_ids` and `attention_mask`, each of shape `(batch, sequence)`. As text, or masked.

    Returns:
        [`Moments`]: In fp64, on the model's device. A linear map that was given fewer inputs than it has dimensions is
        left out.

    Raises:
        ValueError: If there are fewer tokens than a layer's inputs have dimensions, or the model computes in chunks.
    """
    if getattr(model.config, "chunk_size_feed_forward", 0):
        raise ValueError("moments cannot be measured in chunks; load the model with chunk_size_feed_forward=0")
    sums: dict[str, torch.Tensor] = {}
    with in_eval_mode(model), torch.no_grad():
        for batch in batches:
            inputs = {name: tensor.to(model.device) for name, tensor in _trimmed(batch).items() if name != "labels"}
            with _measuring(model, sums, inputs.get("attention_mask")):
                _run(model, inputs)
    return _measured(model, sums)


def _trimmed(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch without the places after its longest text: one text could be as long as DeBERTa's table of relative positions."""
    mask = batch.get("attention_mask")
    if mask is None or not mask.any():
        return dict(batch)
    length = int(mask.any(dim=0).nonzero().max()) + 1
    return {name: tensor[:, :length] if tensor.shape == mask.shape else tensor for name, tensor in batch.items()}


class _OutputLayerReached(Exception):
    """All is measured: the logits of a batch would be large, and nobody reads them."""


def _run(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> None:
    with suppress(_OutputLayerReached):
        model(**inputs)


@contextmanager
def _measuring(model: PreTrainedModel, sums: dict[str, torch.Tensor], mask: torch.Tensor | None) -> Iterator[None]:
    """Add what the modules are given to `sums` while the model runs."""
    add = partial(_add, sums, mask)
    handles = []
    for path, module in model.named_modules():
        if _size(module):
            handles.append(module.register_forward_pre_hook(partial(_before, add, path)))
    handles.append(model.base_model.register_forward_hook(partial(_after, add)))
    output_layer = model.get_output_embeddings()
    if output_layer is not None:
        handles.append(output_layer.register_forward_pre_hook(_stop))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _size(module: nn.Module) -> int:
    """The size of a linear map's or norm's input; 0 for other modules."""
    weight = module._parameters.get("weight")
    if isinstance(module, nn.Linear | nn.Conv1d):
        return module.weight.shape[1]
    return len(weight) if weight is not None and weight.ndim == 1 else 0


def _before(add: partial, path: str, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    given = inputs[0]
    add(path, given.transpose(1, 2) if isinstance(module, nn.Conv1d) else given)


def _after(add: partial, module: nn.Module, inputs: tuple, output: tuple) -> None:
    add(LAST_HIDDEN_STATE, output[0])


def _stop(module: nn.Module, inputs: tuple) -> None:
    raise _OutputLayerReached


def _add(sums: dict[str, torch.Tensor], mask: torch.Tensor | None, path: str, given: torch.Tensor) -> None:
    """Add Σ [x; 1][x; 1]ᵀ over the tokens, or over all rows where they are not the batch's tokens (relative positions)."""
    if mask is not None and given.shape[:-1] == mask.shape:
        given = given[mask.bool()]
    rows = given.reshape(-1, given.shape[-1]).double()
    rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
    if path not in sums:
        sums[path] = rows.new_zeros(rows.shape[1], rows.shape[1])
    sums[path].addmm_(rows.T, rows)


def _measured(model: PreTrainedModel, sums: dict[str, torch.Tensor]) -> Moments:
    """The moments of all modules that were given enough inputs: a linear map needs as many as it has dimensions."""
    pattern = layer_pattern(model.config)
    linear = {path for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv1d)}
    enough = {}
    for path, moment in sums.items():
        count = round(moment[-1, -1].item())
        size = len(moment) - 1
        if count >= size:
            enough[path] = moment
        elif pattern.match(path) or path == LAST_HIDDEN_STATE:
            raise ValueError(f"the calibration text has {count} tokens, but {path} has {size} dimensions; give at least {size}")
        elif path not in linear:
            enough[path] = moment
    if not enough:
        raise ValueError("there is no calibration text")
    return Moments(enough)
