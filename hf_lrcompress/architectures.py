"""Facts about encoder families, and the one way a model is rebuilt with other sizes.

A family is a row in [`ARCHITECTURES`]. Which dimension of which parameter is the hidden, intermediate or vocabulary size is
not written down anywhere: [`moved_dimensions`] builds the class on the meta device with one size changed and looks.
"""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class EncoderArchitecture:
    """Where a family of encoders keeps its layers, attention and feed-forward network.

    Args:
        model_types (`tuple[str, ...]`): Values of `config.model_type` the row is about.
        layers (`str`): Path of the layer list inside the base model.
        attention_inputs (`tuple[str, ...]`):
            Inside a layer, the linear modules whose *output* dimension is heads × head size.
        attention_output (`str`): Inside a layer, the linear module whose *input* dimension is heads × head size.
        ffn_input (`str`): Inside a layer, the linear module whose output rows are the feed-forward neurons.
        position_offset (`int`): Rows of the position embedding that no position uses (RoBERTa: padding id + 1).
    """

    model_types: tuple[str, ...]
    layers: str
    attention_inputs: tuple[str, ...]
    attention_output: str
    ffn_input: str
    position_offset: int = 0


BERT = EncoderArchitecture(
    model_types=("bert",),
    layers="encoder.layer",
    attention_inputs=("attention.self.query", "attention.self.key", "attention.self.value"),
    attention_output="attention.output.dense",
    ffn_input="intermediate.dense",
)
ROBERTA = EncoderArchitecture(
    model_types=("roberta", "xlm-roberta"),
    layers=BERT.layers,
    attention_inputs=BERT.attention_inputs,
    attention_output=BERT.attention_output,
    ffn_input=BERT.ffn_input,
    position_offset=2,
)
ARCHITECTURES = (BERT, ROBERTA)


def architecture_of(config: PretrainedConfig) -> EncoderArchitecture:
    """The row of `config.model_type`.

    Raises:
        ValueError: If no row has this model type.
    """
    for architecture in ARCHITECTURES:
        if config.model_type in architecture.model_types:
            return architecture
    known = ", ".join(name for architecture in ARCHITECTURES for name in architecture.model_types)
    raise ValueError(
        f"model type {config.model_type!r} is not supported (supported: {known}); "
        "a row in hf_lrcompress/architectures.py adds a family"
    )


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers."""
    return model.base_model.get_submodule(architecture_of(model.config).layers)


def layer_pattern(config: PretrainedConfig) -> re.Pattern:
    """Matches a parameter name inside a layer; groups `prefix`, `layer` (its index) and `rest`."""
    layers = re.escape(architecture_of(config).layers)
    return re.compile(rf"^(?P<prefix>(?:.*\.)?{layers}\.)(?P<layer>\d+)\.(?P<rest>.+)$")


def on_meta(model_class: type[PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """Build `model_class(config)` without memory for its weights."""
    with torch.device("meta"):
        return model_class(copy.deepcopy(config))


def masked_lm_on_meta(config: PretrainedConfig) -> PreTrainedModel:
    """The masked-language-model class of a config, built without memory for its weights.

    Raises:
        ValueError: If `transformers` has no masked-LM class for the config.
    """
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise ValueError(
            f"model type {config.model_type!r} has no masked-LM class in transformers; choose an encoder such as XLM-R"
        )
    return on_meta(MODEL_FOR_MASKED_LM_MAPPING[type(config)], config)


def changed(config: PretrainedConfig, **sizes: int) -> PretrainedConfig:
    """A copy of `config` with other sizes."""
    config = copy.deepcopy(config)
    for name, size in sizes.items():
        setattr(config, name, size)
    return config


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer by name. Tied ones and buffers that are not saved are listed too."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def moved_dimensions(model: PreTrainedModel, size_name: str, step: int) -> dict[str, dict[int, int]]:
    """Find which dimensions of which tensors follow a size of the config.

    Args:
        model ([`~transformers.PreTrainedModel`]): The model; only its class and config are used.
        size_name (`str`): A key of the config, such as `"intermediate_size"`.
        step (`int`): By how much to change it; for the hidden size a multiple of what must stay divisible.

    Returns:
        `dict[str, dict[int, int]]`: For each tensor that moves, dimension → multiple. A fused gate and value projection
        moves by 2, most by 1.
    """
    size = getattr(model.config, size_name)
    here = tensors_of(on_meta(type(model), model.config))
    there = tensors_of(on_meta(type(model), changed(model.config, **{size_name: size + step})))
    moves = {}
    for name, tensor in here.items():
        differences = [(b - a) // step for a, b in zip(tensor.shape, there[name].shape, strict=True)]
        if any(differences):
            moves[name] = {dim: multiple for dim, multiple in enumerate(differences) if multiple}
    return moves


def rebuild(
    model: PreTrainedModel,
    config: PretrainedConfig,
    cut: Callable[[str, torch.Tensor], torch.Tensor] = lambda name, tensor: tensor,
    old_name: Callable[[str], str] = lambda name: name,
) -> PreTrainedModel:
    """Make a model of the same class from another config, every tensor taken from the old model.

    Tensors that were tied stay tied; dtype, device, `requires_grad` and train/eval mode are kept. Nothing is shared with `model`.

    Args:
        model ([`~transformers.PreTrainedModel`]): Where the tensors come from; not changed.
        config ([`~transformers.PretrainedConfig`]): The new config.
        cut (`Callable[[str, Tensor], Tensor]`): Given the old name and tensor, the tensor of the new shape.
        old_name (`Callable[[str], str]`): The old name of a tensor of the new model.

    Raises:
        ValueError: If a tensor that the new config asks for is missing, or does not have exactly that shape.
    """
    new = on_meta(type(model), config)
    old_tensors = tensors_of(model)
    made: dict[int, torch.Tensor] = {}
    for name, target in tensors_of(new).items():
        source_name = old_name(name)
        if source_name not in old_tensors:
            raise ValueError(f"the config of this {type(model).__name__} asks for {source_name}, which it does not have")
        source = old_tensors[source_name]
        if id(source) not in made:
            made[id(source)] = _like(source, cut(source_name, source.detach()))
        if made[id(source)].shape != target.shape:
            raise ValueError(f"{name} has shape {tuple(made[id(source)].shape)}, the config asks for {tuple(target.shape)}")
        _assign(new, name, made[id(source)])
    return new.train(model.training)


def _like(source: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.contiguous() if tensor.data_ptr() != source.data_ptr() else tensor.clone()
    return nn.Parameter(tensor, requires_grad=source.requires_grad) if isinstance(source, nn.Parameter) else tensor


def _assign(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    (module._parameters if isinstance(tensor, nn.Parameter) else module._buffers)[leaf] = tensor


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout probability inside `model` to 0, in place. The config, and so what is saved, keeps its own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
