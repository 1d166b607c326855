"""The one way a model is made again with other sizes.

Which dimensions of which tensors follow a size of the config is seen, not known: the class is built from the new config on the
meta device, and what has another shape there is cut.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING, PretrainedConfig, PreTrainedModel

from hf_lrcompress.messages import whole_number
from hf_lrcompress.models.architectures import architecture_of, layer_pattern, write_transformers_4_keys
from hf_lrcompress.models.eval_mode import modes_of, set_modes


def on_meta(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """Build `model_class(config)` without memory for its weights."""
    with torch.device("meta"):
        return model_class(copy.deepcopy(config))


def resized_on_meta(model: PreTrainedModel, config: PretrainedConfig) -> PreTrainedModel:
    """Build the class of `model` from another config, without memory for its weights and without parts that `model` lacks."""
    new = on_meta(type(model), config)
    for part, _ in list(new.base_model.named_children()):
        if getattr(model.base_model, part, part) is None:  # there is such a part, but this model does without
            setattr(new.base_model, part, None)
    return new


def masked_lm_on_meta(config: PretrainedConfig) -> PreTrainedModel:
    """[`on_meta`] with the masked-LM class of a config; a `ValueError` if transformers has none."""
    return _class_on_meta(MODEL_FOR_MASKED_LM_MAPPING, config, "masked-LM")


def encoder_on_meta(config: PretrainedConfig) -> PreTrainedModel:
    """[`on_meta`] with the class of a config without a head, and without a pooler; a `ValueError` if transformers has none."""
    encoder = _class_on_meta(MODEL_MAPPING, config, "encoder")
    drop_pooler(encoder)
    return encoder


def _class_on_meta(classes: Mapping[Any, Any], config: PretrainedConfig, kind: str) -> PreTrainedModel:
    if type(config) not in classes:
        raise ValueError(f"model type {config.model_type!r} has no {kind} class in transformers; choose an encoder such as XLM-R")
    model_class = classes[type(config)]
    try:
        return on_meta(model_class, config)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"no {model_class.__name__} can be made of this config: {type(error).__name__}: {error}") from error


def drop_pooler(encoder: PreTrainedModel) -> None:
    """Take an encoder's pooler off, in place. It makes one vector of a text's first state, which no loss here trains."""
    if "pooler" in encoder._modules:
        encoder._modules["pooler"] = None


def changed(config: PretrainedConfig, **values: Any) -> PretrainedConfig:
    """A copy of `config` with other values, to be saved for both transformers 4 and 5."""
    config = copy.deepcopy(config)
    for name, value in values.items():
        setattr(config, name, value)
    write_transformers_4_keys(config)
    return config


def with_layers(config: PretrainedConfig, num_hidden_layers: int) -> PretrainedConfig:
    """`config` with fewer layers; each place keeps its kind of attention."""
    kinds = getattr(config, "layer_types", None)
    kept = {"layer_types": kinds[:num_hidden_layers]} if kinds else {}
    return changed(config, num_hidden_layers=num_hidden_layers, **kept)


def with_intermediate_size(config: PretrainedConfig, intermediate_size: int) -> PretrainedConfig:
    """`config` with another number of feed-forward neurons a layer."""
    return changed(config, **{architecture_of(config).intermediate_size: intermediate_size})


def with_vocab_size(config: PretrainedConfig, vocab_size: int) -> PretrainedConfig:
    """`config` with fewer tokens, to count parameters by: which ids they will have is not known yet.

    A padding token beyond them, such as ModernBERT's, which is among the last, has the last row.
    """
    pad = config.pad_token_id
    return changed(config, vocab_size=vocab_size, pad_token_id=None if pad is None else min(pad, vocab_size - 1))


def hidden_multiple(config: PretrainedConfig) -> int:
    """What a hidden size must be a multiple of: the number of heads, or twice that where heads are rotated in pairs."""
    return config.num_attention_heads * (2 if architecture_of(config).rotary else 1)


def with_hidden_size(config: PretrainedConfig, hidden_size: int) -> PretrainedConfig:
    """`config` with another hidden size, and with the other keys that must follow it.

    Raises:
        ValueError: If the class cannot be built with that size; the message names the nearest sizes that work.
    """
    hidden_size = whole_number("hidden_size", hidden_size)
    row = architecture_of(config)
    heads = config.num_attention_heads
    sizes = {key: hidden_size for key in row.same_as_hidden if getattr(config, key, None) == config.hidden_size}
    head_size = getattr(config, row.head_size, None) if row.head_size else None
    if row.head_size and head_size:
        if head_size != config.hidden_size // heads:
            raise ValueError(f"hidden truncation needs heads of hidden_size / num_attention_heads, this model's have {head_size}")
        sizes[row.head_size] = hidden_size // heads
    _check_hidden_size(config, hidden_size)
    return changed(config, hidden_size=hidden_size, **sizes)


def _check_hidden_size(config: PretrainedConfig, hidden_size: int) -> None:
    row = architecture_of(config)
    old_size = config.hidden_size
    if not 1 <= hidden_size <= old_size:
        raise ValueError(f"hidden_size {hidden_size} is not in 1 to {old_size}, the hidden size of the model it is cut from")
    projected = {getattr(config, key, old_size) for key in row.same_as_hidden} - {old_size}
    step = hidden_multiple(config)
    if hidden_size % step:
        times = "2 × " if row.rotary else ""
        why = f"not divisible by {times}the {config.num_attention_heads} attention heads"
    elif hidden_size in projected:
        why = "also the size of the embeddings, which would lose their projection"
    else:
        return
    below = (hidden_size - 1) // step * step
    above = hidden_size // step * step + step
    nearest = [str(size) for size in (below, above) if 0 < size <= old_size and size not in projected]
    raise ValueError(f"hidden_size {hidden_size} is {why}; use {' or '.join(nearest)}")


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name. Tied ones and buffers that are not saved are listed too."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def rebuild(
    model: PreTrainedModel,
    config: PretrainedConfig,
    keep: Callable[[str, int, int], torch.Tensor] | None = None,
    old_name: Callable[[str], str] = lambda name: name,
) -> PreTrainedModel:
    """Make a model of the same class from another config, every parameter taken from the old model.

    Tensors that were tied stay tied; dtype, device, `requires_grad` and train/eval mode are kept. Nothing is shared with `model`.
    Buffers that are not saved (tables of rotations) and have another shape are computed anew, as loading would. A part that an
    encoder does without, such as its pooler, the new one does without too.

    Args:
        model ([`~transformers.PreTrainedModel`]): Where the tensors come from; not changed.
        config ([`~transformers.PretrainedConfig`]): The new config.
        keep (`Callable[[str, int, int], LongTensor]`, *optional*):
            Given a tensor's old name, a dimension that changes and its old length, the positions to keep in it.
        old_name (`Callable[[str], str]`, *optional*): Gives the old name of a tensor of the new model; without it names stay.

    Raises:
        ValueError: If a tensor that the new config asks for is missing or does not have exactly that shape, or one outside of the
            layers has no place.
    """
    new = resized_on_meta(model, config)
    old_tensors = tensors_of(model)
    unsaved = _unsaved_buffers(new)
    sources = {name: old_name(name) for name in tensors_of(new)}
    _check_names(model, sources)
    made: dict[int, torch.Tensor] = {}
    for name, target in tensors_of(new).items():
        source = old_tensors[sources[name]]
        if id(source) not in made:
            if name in unsaved and source.shape != target.shape:
                made[id(source)] = _built(type(model), config, name).to(source)
            else:
                made[id(source)] = _like(source, _cut(source.detach(), target.shape, sources[name], keep))
        tensor = made[id(source)]
        if tensor.shape != target.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the config asks for {tuple(target.shape)}")
        _assign(new, name, tensor)
    set_modes(new, modes_of(model))
    return new


def _check_names(model: PreTrainedModel, sources: dict[str, str]) -> None:
    used = set(sources.values())
    strange = sorted(used - tensors_of(model).keys())
    if strange:
        raise ValueError(f"the config of this {type(model).__name__} asks for {strange[0]}, which it does not have")
    pattern = layer_pattern(model.config)
    for name, _ in model.named_parameters(remove_duplicate=False):
        if name not in used and not pattern.match(name):
            raise ValueError(f"a {type(model).__name__} with this config has no place for {name}")


def _cut(tensor: torch.Tensor, shape: torch.Size, name: str, keep: Callable | None) -> torch.Tensor:
    if keep is None or tensor.ndim != len(shape):
        return tensor
    for dim, (length, wanted) in enumerate(zip(tensor.shape, shape, strict=True)):
        if length != wanted:
            tensor = tensor.index_select(dim, keep(name, dim, length).to(tensor.device))
    return tensor


def _unsaved_buffers(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_buffers(remove_duplicate=False)} - model.state_dict().keys()


def _built(model_class: type[PreTrainedModel], config: PretrainedConfig, name: str) -> torch.Tensor:
    """A buffer as the class makes it."""
    with init_empty_weights(include_buffers=False):
        return model_class(copy.deepcopy(config)).get_buffer(name)


def _like(source: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in memory of its own, a parameter where `source` is one."""
    tensor = tensor.contiguous() if tensor.data_ptr() != source.data_ptr() else tensor.clone()
    return nn.Parameter(tensor, requires_grad=source.requires_grad) if isinstance(source, nn.Parameter) else tensor


def _assign(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(tensor, nn.Parameter):
        module._parameters[leaf] = tensor
    else:
        module._buffers[leaf] = tensor
