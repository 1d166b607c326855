"""A model for a task: the encoder of a checkpoint, a new head, and sequential bottleneck adapters in every layer."""

import logging
from typing import Any

import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
)

from hf_lrcompress.evaluation.bottleneck import add_bottlenecks
from hf_lrcompress.evaluation.cheap_training import attention_implementation
from hf_lrcompress.models.loading import has_own_code, load_encoder


def add_task_adapter(model: PreTrainedModel, reduction_factor: int) -> None:
    """Put sequential bottleneck adapters behind the feed-forward network of every layer, in place, and freeze the rest.

    The head is what [`load_for_task`] makes: it stays trainable. The adapters are those of the library `adapters` where it is
    installed (it needs transformers 4.57) and has the family; elsewhere our own, which are equal.

    Args:
        model ([`~transformers.PreTrainedModel`]): With a task head.
        reduction_factor (`int`): Hidden size divided by the size of the bottleneck.
    """
    if not _adapters_know(model):
        add_bottlenecks(model, reduction_factor)
        return
    import adapters  # only here: it works with one version of transformers

    logging.getLogger("adapters").setLevel(logging.ERROR)  # it tells of every adapter, and warns that it is not active yet
    adapters.init(model)
    adapted: Any = model  # it has other methods now
    adapted.add_adapter("task", config=adapters.SeqBnConfig(reduction_factor=reduction_factor))
    adapted.train_adapter("task")


def _adapters_know(model: PreTrainedModel) -> bool:
    try:
        from adapters.models import MODEL_MIXIN_MAPPING
    except ImportError:  # not installed, or beside another transformers than its own
        return False
    # Not ModernBERT, which it reaches through an interface: version 1.3.0 gives Wqkv a bias there and never sets it.
    return type(model.base_model).__name__ in MODEL_MIXIN_MAPPING and not has_own_code(model.config)


def adapter_parameters(model: PreTrainedModel) -> int:
    """Number of parameters of a model's adapters, without the head."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if ".adapters." in name)


def check_task_classes(config: PretrainedConfig) -> None:
    """Refuse a model that no head can be put on.

    Args:
        config ([`~transformers.PretrainedConfig`]): The model's.

    Raises:
        ValueError: If there is no class for texts or none for tokens, as with a model whose own code has none.
    """
    for mapping in (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING):
        if type(config) not in mapping:
            what = "texts" if mapping is MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING else "tokens"
            raise ValueError(f"model type {config.model_type!r} has no class to classify {what} with: no task can score it")


def load_for_task(
    name_or_dir: str,
    labels: list[str],
    tokens: bool,
    tuning: str = "seq_bn",
    reduction_factor: int = 16,
    revision: str | None = None,
) -> PreTrainedModel:
    """Load an encoder with a new head, in fp32. The head and adapters are drawn from torch's generator: seed it first.

    Of the checkpoint's own head or pooler nothing is used: the result is that of the same encoder saved without them.

    With `"seq_bn"` what is trained are the adapters and the head, that of the family in `transformers`: in BERT and XLM-R dense,
    tanh, dense on the first token for texts, and one linear layer for tokens, as `adapters` has it.

    Args:
        name_or_dir (`str`): Hub id or directory of the encoder.
        labels (`list[str]`): Names of what the head tells apart.
        tokens (`bool`): Whether every token has a label, rather than the text.
        tuning (`str`, *optional*, defaults to `"seq_bn"`): What is trained: adapters and head, or with `"full"` everything.
        reduction_factor (`int`, *optional*, defaults to 16): Hidden size divided by the size of an adapter's bottleneck.
        revision (`str`, *optional*): Git revision on the Hub.

    Raises:
        ValueError: If the checkpoint lacks weights of the encoder.
    """
    with torch.random.fork_rng(devices=[]):  # a checkpoint without a pooler draws one, which is dropped again
        encoder = load_encoder(name_or_dir, revision)
    config = encoder.config
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = None if tokens else "single_label_classification"
    classes = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING if tokens else MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    task_class: Any = classes[type(config)]  # the Auto class itself wants a path
    model = task_class.from_pretrained(
        None,
        config=config,
        state_dict=encoder.state_dict(),
        dtype=torch.float32,
        attn_implementation=attention_implementation(),
    )
    if tuning == "seq_bn":
        add_task_adapter(model, reduction_factor)
        for name, parameter in model.named_parameters():
            if _in_head(model, name):
                parameter.requires_grad_(True)
    return model


def _in_head(model: PreTrainedModel, name: str) -> bool:
    """Whether a parameter is the head's. BERT's pooler is, though it is inside the encoder: it makes dense and tanh."""
    return not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name
