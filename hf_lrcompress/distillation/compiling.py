"""Compiling what student and teacher spend their time in."""

import os
from collections.abc import Iterable

from transformers import PreTrainedModel, TrainingArguments

from hf_lrcompress.models.architectures import layers_of


def compile_layers(models: Iterable[PreTrainedModel], args: TrainingArguments) -> None:
    """Compile the layers of models in place, one graph for all: the losses around them are kernels already.

    Args:
        models (`Iterable[PreTrainedModel]`): Student and teacher.
        args ([`~transformers.TrainingArguments`]): Their `torch_compile_backend` and `torch_compile_mode` are used.
    """
    for name in [name for name in os.environ if name.startswith("ACCELERATE_DYNAMO_")]:
        del os.environ[name]  # TrainingArguments leave it to every later Trainer of the process
    for model in models:
        for layer in layers_of(model):
            layer.compile(backend=args.torch_compile_backend, mode=args.torch_compile_mode)
