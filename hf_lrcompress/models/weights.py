"""What the weights of a checkpoint must be, once they are loaded."""

import re
from collections.abc import Collection

import torch
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.models.architectures import layer_pattern

UNUSED = re.compile(r"\bpooler\.|\b(position_ids|token_type_ids|inv_freq)$|\bword_embeddings\._weight$")
"""Weights of an encoder that what it computes does not depend on: poolers, tables, and what DeBERTa v3 was trained with."""


def in_encoder(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight belongs to the encoder; in the file of an encoder alone, names have no prefix."""
    first = name.partition(".")[0]
    return first == model.base_model_prefix or first in dict(model.base_model.named_children())


def check_weights(model: PreTrainedModel, unexpected: Collection[str], name_or_dir: str) -> None:
    """Refuse a checkpoint that is another model than its config says, or that holds no numbers.

    Args:
        model ([`~transformers.PreTrainedModel`]): As loaded.
        unexpected (`Collection[str]`): Weights of the checkpoint that the model has no place for. Those of other heads may be.
        name_or_dir (`str`): Where it was loaded from.

    Raises:
        ValueError: If the checkpoint has more layers than its config says, other weights of an encoder that the class has no
            place for, or a value that is not finite.
    """
    strange = sorted(name for name in unexpected if in_encoder(model, name) and not UNUSED.search(name))
    if strange:
        raise ValueError(f"{name_or_dir}: {_why_strange(model.config, strange, type(model).__name__)}")
    for name, tensor in model.state_dict().items():
        if not all_finite(tensor):
            raise ValueError(f"{name_or_dir}: {name} holds NaN or infinite values; choose another checkpoint")


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite.

    Their sum tells in a twentieth of the time. It can be infinite where no value is: then each is asked.
    """
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())


def _why_strange(config: PretrainedConfig, strange: list[str], class_name: str) -> str:
    layers = [int(match["layer"]) for match in map(layer_pattern(config).match, strange) if match]
    if layers and max(layers) >= config.num_hidden_layers:
        return (
            f"config.json says {config.num_hidden_layers} layers, but the weights are of {max(layers) + 1}; "
            "take both from one checkpoint"
        )
    return (
        f"{class_name} has no place for {len(strange)} of its weights (such as {strange[0]}), so it would compute something "
        "else than it was trained for; choose another checkpoint"
    )
