"""A model as an ONNX graph for any batch and length, by torch's own exporter."""

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.messages import one_line
from hf_lrcompress.models.eval_mode import in_eval_mode

if TYPE_CHECKING:
    import onnx_ir

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
MOST_BYTES = 2**31
"""Of a file in protobuf, which ONNX files are."""
TRACED = (2, 12)
"""Batch and length of the inputs that are traced; no number of the graph comes from them."""


def require_onnx() -> None:
    """Raise an `ImportError` that names the extra if a package is missing that the export needs."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ImportError(f'the export needs {", ".join(missing)}; pip install ".[onnx]" in the repository')


def check_exportable(model: PreTrainedModel) -> None:
    """Refuse a model that does not fit into one file.

    Args:
        model ([`~transformers.PreTrainedModel`]): The model, which may be on the meta device.

    Raises:
        ValueError: If its fp32 weights have 2 GiB or more.
    """
    size = 4 * model.num_parameters()
    if size >= MOST_BYTES:
        raise ValueError(f"the model has {size / 1e9:.1f} GB in fp32, an ONNX file has at most 2.1; export a smaller one")


def input_names(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """What the graph is given: all that the tokenizer makes and the model takes; see [`check_makes_mask`]."""
    check_makes_mask(tokenizer)
    taken = signature(model.forward).parameters
    return [name for name in tokenizer.model_input_names if name in taken]


def check_makes_mask(tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise a `ValueError` if a tokenizer makes no mask, without which padding would count."""
    made = tokenizer.model_input_names
    if "attention_mask" not in made:
        raise ValueError(f"the tokenizer makes {', '.join(made)} alone; add attention_mask to its model_input_names")


def to_onnx(model: PreTrainedModel, names: list[str]) -> "onnx_ir.Model":
    """Trace a model.

    Args:
        model ([`~transformers.PreTrainedModel`]): A masked LM, whose graph gives `logits`, or an encoder, whose graph gives
            `last_hidden_state`; its mode is left as it was.
        names (`list[str]`): The inputs, see [`input_names`], each of shape `(batch, sequence)`.

    Raises:
        ValueError: If ONNX has no place for an operation of the model, which is named.
    """
    traced = {name: torch.ones(TRACED, dtype=torch.long) for name in names}
    axes = {0: "batch", 1: "sequence"}
    try:
        with in_eval_mode(model), _plain_attention(model), quiet():
            program: Any = torch.onnx.export(
                model,
                kwargs=traced,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(names, axes),
                output_names=[output_name(model)],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"{type(model).__name__} cannot be exported: {_why(error)}") from error
    return program.model


@contextmanager
def _plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Attention by single operations: torch's fused one guards each softmax against rows without a token, a tenth of the time."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say of themselves, a line an operation, and the graph that torch prints where it ends early."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def output_name(model: PreTrainedModel) -> str:
    """What the graph gives, as transformers and transformers.js name it."""
    return "last_hidden_state" if model.get_output_embeddings() is None else "logits"


def _why(error: BaseException) -> str:
    """The operation that an export ended at; where none is named, what torch says first."""
    errors = list(_causes(error))
    for each in errors:
        operation = re.search(r"target=torch\.ops\.(\w+\.\w+)", str(each))
        if operation:
            return f"ONNX has no operation for {operation[1]}"
    return one_line(str(errors[-1]).partition("\n")[0])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
