"""Facts about encoder families: a family is a row in [`ARCHITECTURES`].

Which dimension of which parameter is the hidden, intermediate or vocabulary size is not written down: `rebuilding.py` builds the
class with other sizes and looks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class EncoderArchitecture:
    """Where a family of encoders keeps its layers, attention and feed-forward network.

    Args:
        model_types (`tuple[str, ...]`): The values of `config.model_type` that the row is about.
        layers (`str`): Path of the layer list inside the base model.
        attention_inputs (`tuple[str, ...]`):
            Inside a layer, the linear modules whose *output* dimension is heads × head size; queries, keys and values first.
        attention_output (`str`): Inside a layer, the linear module whose *input* dimension is heads × head size.
        ffn_inputs (`tuple[str, ...]`): Inside a layer, the linear modules whose output rows are the feed-forward neurons.
        intermediate_size (`str`): The config's key for the number of neurons.
        position_offset (`int`): Rows of the position embedding that no position uses (RoBERTa: padding id + 1).
        rotary (`bool`): Whether queries and keys are rotated, dimension i of a head together with i + half of the head.
        same_as_hidden (`tuple[str, ...]`): Keys of the config that, where they equal the hidden size, stay equal to it.
        head_size (`str`, *optional*): Key of the config that repeats hidden size / heads, where it is set.
        shared_layers (`bool`): Whether one set of weights is used by all layers.
        first_layer_key (`str`, *optional*): Key of the config that, if not 0, ties something outside of the layers to the first.
        only (`Mapping[str, Any]`): Keys of the config that must have these values.
        transformers_4_keys (`Mapping[str, tuple[str, ...]]`):
            Keys of the config that only transformers 4 reads, and where the config of transformers 5 has their values.
        transformers_4_global_every (`tuple[str, int]`, *optional*):
            The key, and its default, that tells transformers 4 that every n-th layer attends globally; transformers 5 has a list
            of the layers' kinds of attention instead.
    """

    model_types: tuple[str, ...]
    layers: str
    attention_inputs: tuple[str, ...]
    attention_output: str
    ffn_inputs: tuple[str, ...]
    intermediate_size: str = "intermediate_size"
    position_offset: int = 0
    rotary: bool = False
    same_as_hidden: tuple[str, ...] = ()
    head_size: str | None = None
    shared_layers: bool = False
    first_layer_key: str | None = None
    only: Mapping[str, Any] = field(default_factory=dict)
    transformers_4_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    transformers_4_global_every: tuple[str, int] | None = None


ABSOLUTE_POSITIONS = {"position_embedding_type": "absolute"}
"""Transformers 5 has no other in these families: it would silently compute something else."""

BERT = EncoderArchitecture(
    model_types=("bert", "rembert"),
    layers="encoder.layer",
    attention_inputs=("attention.self.query", "attention.self.key", "attention.self.value"),
    attention_output="attention.output.dense",
    ffn_inputs=("intermediate.dense",),
    only=ABSOLUTE_POSITIONS,
)
ARCHITECTURES = (
    BERT,
    replace(BERT, model_types=("electra",), same_as_hidden=("embedding_size",)),
    replace(BERT, model_types=("roberta", "xlm-roberta", "camembert"), position_offset=2),
    replace(BERT, model_types=("xlm-roberta-xl",), position_offset=2),
    EncoderArchitecture(
        model_types=("distilbert",),
        layers="transformer.layer",
        attention_inputs=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        attention_output="attention.out_lin",
        ffn_inputs=("ffn.lin1",),
        intermediate_size="hidden_dim",
    ),
    EncoderArchitecture(
        model_types=("mpnet",),
        layers="encoder.layer",
        attention_inputs=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        attention_output="attention.attn.o",
        ffn_inputs=("intermediate.dense",),
        position_offset=2,
    ),
    EncoderArchitecture(
        model_types=("deberta-v2",),
        layers="encoder.layer",
        attention_inputs=tuple(f"attention.self.{name}_proj" for name in ("query", "key", "value", "pos_query", "pos_key")),
        attention_output="attention.output.dense",
        ffn_inputs=("intermediate.dense",),
        same_as_hidden=("embedding_size", "pooler_hidden_size"),
        head_size="attention_head_size",
        first_layer_key="conv_kernel_size",
        only={"legacy": True, "conv_groups": 1},
    ),
    EncoderArchitecture(
        model_types=("albert",),
        layers="encoder.albert_layer_groups.0.albert_layers",
        attention_inputs=("attention.query", "attention.key", "attention.value"),
        attention_output="attention.dense",
        ffn_inputs=("ffn",),
        shared_layers=True,
        only={"num_hidden_groups": 1, **ABSOLUTE_POSITIONS},
    ),
    EncoderArchitecture(
        model_types=("modernbert",),
        layers="layers",
        attention_inputs=("attn.Wqkv",),
        attention_output="attn.Wo",
        ffn_inputs=("mlp.Wi",),
        rotary=True,
        transformers_4_keys={
            "global_rope_theta": ("rope_parameters", "full_attention", "rope_theta"),
            "local_rope_theta": ("rope_parameters", "sliding_attention", "rope_theta"),
        },
        transformers_4_global_every=("global_attn_every_n_layers", 3),
    ),
    EncoderArchitecture(
        model_types=("eurobert",),  # transformers 5
        layers="layers",
        attention_inputs=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        attention_output="self_attn.o_proj",
        ffn_inputs=("mlp.gate_proj", "mlp.up_proj"),
        rotary=True,
        head_size="head_dim",
    ),
)


def architecture_of(config: PretrainedConfig) -> EncoderArchitecture:
    """The row of `config.model_type`.

    Raises:
        ValueError: If no row has this model type, or the config asks for what the row does not have.
    """
    for row in ARCHITECTURES:
        if config.model_type in row.model_types:
            _check_supported(config, row)
            return row
    known = ", ".join(name for row in ARCHITECTURES for name in row.model_types)
    raise ValueError(
        f"model type {config.model_type!r} is not supported (supported: {known}); "
        "a row in hf_lrcompress/models/architectures.py adds a family"
    )


def _check_supported(config: PretrainedConfig, row: EncoderArchitecture) -> None:
    name = config.model_type
    for key, value in {"is_decoder": False, **row.only}.items():
        found = getattr(config, key, value)
        if found != value:
            raise ValueError(f"{name} models with {key}={found} are not supported, only with {key}={value}")
    kinds = getattr(config, "layer_types", None)
    if not kinds or not row.transformers_4_global_every:
        return
    every_key, default = row.transformers_4_global_every
    every = getattr(config, every_key, default)
    for layer, kind in enumerate(kinds):
        if kind != ("sliding_attention" if layer % every else "full_attention"):
            raise ValueError(
                f"{name} models whose layer {layer} has {kind} are not supported, only those in which "
                f"the first of every {every} attends globally ({every_key}): transformers 4 has no other"
            )


def intermediate_size_of(config: PretrainedConfig) -> int:
    """The number of feed-forward neurons of a layer."""
    return getattr(config, architecture_of(config).intermediate_size)


def most_tokens(config: PretrainedConfig) -> int:
    """Tokens of the longest text that a model has positions for."""
    return config.max_position_embeddings - architecture_of(config).position_offset


def write_transformers_4_keys(config: PretrainedConfig) -> None:
    """Set in `config`, in place, what transformers 4 looks for in the saved file: without it, it silently takes defaults."""
    for key, (first, *rest) in architecture_of(config).transformers_4_keys.items():
        value = getattr(config, first, None)
        for name in rest:
            value = (value or {}).get(name)
        if value is not None:
            setattr(config, key, value)


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers; where all share their weights, the few that there are."""
    return cast(nn.ModuleList, model.base_model.get_submodule(architecture_of(model.config).layers))


def ffn_inputs_of(model: PreTrainedModel) -> list[list[nn.Linear]]:
    """For each of [`layers_of`] the linear modules whose rows are the feed-forward neurons."""
    names = architecture_of(model.config).ffn_inputs
    return [[cast(nn.Linear, layer.get_submodule(name)) for name in names] for layer in layers_of(model)]


def layer_pattern(config: PretrainedConfig) -> re.Pattern:
    """Matches a parameter name inside a layer; groups `prefix`, `layer` (its index) and `rest`."""
    layers = re.escape(architecture_of(config).layers)
    return re.compile(rf"^(?P<prefix>(?:.*\.)?{layers}\.)(?P<layer>\d+)\.(?P<rest>.+)$")


def disable_dropout(model: nn.Module) -> None:
    """Set every dropout probability inside `model` to 0, in place. The config, and so what is saved, keeps its own."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
