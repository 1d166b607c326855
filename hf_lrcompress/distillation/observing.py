"""Running an encoder and keeping of it what losses are made of."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_lrcompress.models.architectures import architecture_of, layers_of


@dataclass(frozen=True)
class Wanted:
    """What to keep of a model's run.

    Args:
        features (`bool`, *optional*, defaults to `False`): The inputs of the output layer; the model must have one.
        hidden_states (`tuple[int, ...]`, *optional*): Which hidden states: 0 after the embeddings, i after layer i.
        attention_layer (`int`, *optional*): The layer, from 0 or -1 for the last, whose queries, keys and values to keep.
    """

    features: bool = False
    hidden_states: tuple[int, ...] = ()
    attention_layer: int | None = None


@dataclass(frozen=True)
class Observed:
    """What was kept; empty where it was not wanted.

    Args:
        features (`torch.Tensor` of shape `(batch, sequence, features)`): The inputs of the output layer.
        output_weight (`torch.Tensor` of shape `(vocabulary, features)`): That layer's weight.
        output_bias (`torch.Tensor` of shape `(vocabulary,)`, *optional*): Its bias, where it has one.
        hidden_states (`tuple` of `torch.Tensor` of shape `(batch, sequence, hidden)`): Those asked for, in that order.
        attention (three `torch.Tensor` of shape `(batch, sequence, hidden)`): Queries, keys and values, heads side by side.
    """

    features: torch.Tensor = torch.empty(0)
    output_weight: torch.Tensor = torch.empty(0)
    output_bias: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] = ()
    attention: tuple[torch.Tensor, ...] = ()


def observe(model: PreTrainedModel, wanted: Wanted, **inputs: torch.Tensor) -> Observed:
    """Run a model and keep what is wanted; its head only runs where `features` are, and its output layer never.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with a masked-LM head or without.
        wanted ([`Wanted`]): What to keep.
        inputs (`torch.Tensor`): What the model's forward takes; a teacher need not take all that its student does.
    """
    runs: Any = model if wanted.features else model.base_model
    with (
        identity_output_layer(model),
        base_model_outputs(model) as encoded,
        _attention_vectors(model, wanted.attention_layer) as vectors,
    ):
        outputs = type(runs).forward(runs, **_taken(runs, inputs), output_hidden_states=bool(wanted.hidden_states))
    observed = Observed(
        hidden_states=hidden_states_of(encoded[0] if wanted.features else outputs, wanted.hidden_states),
        attention=torch.cat(list(vectors.values()), dim=-1).chunk(3, dim=-1) if vectors else (),
    )
    if not wanted.features:
        return observed
    layer = model.get_output_embeddings()
    return replace(observed, features=outputs.logits, output_weight=layer.weight, output_bias=layer.bias)


def _taken(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs that a model's forward takes: `token_type_ids` are none to DistilBERT."""
    parameters = inspect.signature(type(model).forward).parameters
    takes_all = any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: tensor for name, tensor in inputs.items() if takes_all or name in parameters}


def hidden_states_of(outputs: Any, indices: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Some of an encoder's hidden states, each of shape `(batch, sequence, hidden)`.

    The last is the one that it returns: ModernBERT's list ends before its final norm.

    Args:
        outputs (`~transformers.utils.ModelOutput`): What the base model returned.
        indices (`tuple[int, ...]`): Which: 0 after the embeddings, i after layer i.
    """
    if not indices:
        return ()
    states = (*outputs.hidden_states[:-1], outputs.last_hidden_state)
    return tuple(states[i] for i in indices)


@contextmanager
def base_model_outputs(model: PreTrainedModel) -> Iterator[list[Any]]:
    """Collects what the base model returns while the model around it runs."""
    outputs: list[Any] = []
    hook = model.base_model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


@contextmanager
def identity_output_layer(model: PreTrainedModel) -> Iterator[None]:
    """Let the output layer, where there is one, pass its input through: the model's "logits" are then the features before it."""
    layer: Any = model.get_output_embeddings()
    if layer is not None:
        layer.forward = lambda features: features
    try:
        yield
    finally:
        if layer is not None:
            del layer.forward


@contextmanager
def _attention_vectors(model: PreTrainedModel, index: int | None) -> Iterator[dict[str, torch.Tensor]]:
    """Collects the outputs of a layer's query, key and value projections while the model runs; of no layer, nothing.

    Of a layer that is run several times (ALBERT) those of the last time; of projections that a layer uses again for relative
    positions (DeBERTa) those of the tokens, which come first.
    """
    outputs: dict[str, torch.Tensor] = {}
    if index is None:
        yield outputs
        return
    layers = layers_of(model)
    layer = layers[-1 if len(layers) == 1 else index]
    hooks = [layer.register_forward_pre_hook(lambda module, inputs: outputs.clear())]
    for name in _query_key_value(model):
        hooks.append(layer.get_submodule(name).register_forward_hook(partial(_collect_first, outputs, name)))
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _collect_first(outputs: dict[str, Any], name: str, module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
    outputs.setdefault(name, output)


def _query_key_value(model: PreTrainedModel) -> tuple[str, ...]:
    """The projections inside a layer: three, or one for all three."""
    return architecture_of(model.config).attention_inputs[:3]


def attention_widths(model: PreTrainedModel) -> list[int]:
    """Width of queries, keys and values in the last layer: heads × head size of each."""
    layer = layers_of(model)[-1]
    sizes = [len(layer.get_parameter(f"{name}.weight")) for name in _query_key_value(model)]
    return sizes if len(sizes) == 3 else [sizes[0] // 3] * 3
