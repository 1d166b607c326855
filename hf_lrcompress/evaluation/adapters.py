"""A model for a task: the encoder of a checkpoint, a new head, and sequential bottleneck adapters in every layer."""

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

TUNINGS = ("seq_bn", "full")
HEADS = ("classifier", "pooler")
"""Where a head's parameters are. Dense and tanh on the first token are BERT's pooler, and part of RoBERTa's classifier."""


def add_task_adapter(model: PreTrainedModel, reduction_factor: int) -> None:
    """Put sequential bottleneck adapters behind the feed-forward network of every layer, in place, and freeze the rest.

    The head is what [`load_for_task`] makes: it stays trainable.

    Args:
        model ([`~transformers.PreTrainedModel`]): With a task head.
        reduction_factor (`int`): Hidden size divided by the size of the bottleneck.
    """
    import adapters  # only here: it works with one version of transformers

    adapters.init(model)
    model.add_adapter("task", config=adapters.SeqBnConfig(reduction_factor=reduction_factor))
    model.train_adapter("task")


def adapter_parameters(model: PreTrainedModel) -> int:
    """Number of parameters of a model's adapters, without the head."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if ".adapters." in name)


def load_for_task(
    name_or_dir: str,
    labels: list[str],
    tokens: bool,
    tuning: str = "seq_bn",
    reduction_factor: int = 16,
    revision: str | None = None,
) -> PreTrainedModel:
    """Load an encoder with a new head, in fp32. The head and adapters are drawn from torch's generator: seed it first.

    With `"seq_bn"` what is trained are the adapters and the head: for texts dense, tanh, dense on the first token, for tokens one
    linear layer, as `adapters` has it.

    Raises:
        ValueError: If the checkpoint lacks weights of the encoder.
    """
    auto_class = AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification
    config = AutoConfig.from_pretrained(name_or_dir, revision=revision)
    config.id2label, config.label2id = dict(enumerate(labels)), {label: index for index, label in enumerate(labels)}
    config.problem_type = None if tokens else "single_label_classification"
    model, info = auto_class.from_pretrained(
        name_or_dir, config=config, revision=revision, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(name for name in info["missing_keys"] if not set(name.split(".")) & set(HEADS))
    if missing:
        raise ValueError(f"{name_or_dir} lacks weights of the encoder (such as {missing[0]}); choose a whole checkpoint")
    if tuning == "seq_bn":
        add_task_adapter(model, reduction_factor)
        for name, parameter in model.named_parameters():
            if set(name.split(".")) & set(HEADS):
                parameter.requires_grad_(True)
    return model
