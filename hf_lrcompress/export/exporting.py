"""The export: fp32 is kept only if it equals PyTorch, int8 is measured beside it, and so is what both cost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.distillation.similarity import correlation
from hf_lrcompress.evaluation.efficiency import LENGTH, median_seconds
from hf_lrcompress.export.graphs import input_names, output_name, to_onnx
from hf_lrcompress.export.int8 import quantize
from hf_lrcompress.export.running import OnnxModel
from hf_lrcompress.files import written_whole
from hf_lrcompress.models.architectures import most_tokens
from hf_lrcompress.models.eval_mode import in_eval_mode

if TYPE_CHECKING:
    import onnx

ONNX_DIR = "onnx"
FILES = {"ONNX fp32": "model.onnx", "ONNX int8": "model_quantized.onnx"}
"""The first is what sentence-transformers loads by default, the second what transformers.js does."""
PYTORCH = "PyTorch fp32"
TOLERANCE = 1e-4
"""Of the largest output, where that is above 1."""
MOST_TOKENS = 512
"""Longer models are compared up to here."""

Inputs = dict[str, torch.Tensor]
Measure = Callable[[Any], dict[str, Any]]


def export_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, directory: Path, measure: Measure = lambda model: {}
) -> dict[str, Any]:
    """Write `onnx/model.onnx` and `onnx/model_quantized.onnx`, each whole or not at all.

    Args:
        model ([`~transformers.PreTrainedModel`]): A masked LM or an encoder, in fp32 on the CPU; its mode is left as it was.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer: the graph takes what it makes.
        directory (`Path`): The folder of the model. Files of these names are replaced.
        measure (`Callable`, *optional*): What else to measure of the model and of each [`OnnxModel`].

    Returns:
        `dict`: `tokens` and `threads` of the latency, and `rows`, of PyTorch, fp32 and int8: `size_mb`, `latency_ms_batch_1`,
        `speedup` (against PyTorch), what was measured besides, and of the outputs at several batches and lengths their
        largest `difference` to PyTorch's and `correlation` with them.

    Raises:
        ValueError: If the model cannot be exported, or the fp32 file gives other outputs than PyTorch.
    """
    samples = list(_samples(model, input_names(model, tokenizer)))
    graph = to_onnx(model, list(samples[0]))
    folder = directory / ONNX_DIR
    folder.mkdir(parents=True, exist_ok=True)
    with in_eval_mode(model):
        with _written(graph, folder / FILES["ONNX fp32"]) as partial_file:
            _check_equal(*compare(model, OnnxModel(partial_file), samples))
        with _written(quantize(graph), folder / FILES["ONNX int8"]):
            pass
        return _measured(model, folder, samples, measure)


@torch.inference_mode()
def compare(model: PreTrainedModel, exported: OnnxModel, samples: list[Inputs]) -> tuple[float, float, float]:
    """Compare outputs at the tokens that are not padding.

    Args:
        model ([`~transformers.PreTrainedModel`]): The model, in eval mode.
        exported ([`OnnxModel`]): What was made of it.
        samples (`list[dict]`): Inputs of several batches and lengths.

    Returns:
        `tuple[float, float, float]`: The largest difference, the correlation of all outputs, and the largest output of `model`.
    """
    expected: list[torch.Tensor] = []
    found: list[torch.Tensor] = []
    for inputs in samples:
        tokens = inputs["attention_mask"].bool()
        for outputs, called in ((expected, model), (found, exported)):
            outputs.append(getattr(called(**inputs), output_name(model))[tokens].flatten())
    wanted = torch.cat(expected)
    given = torch.cat(found)
    return (wanted - given).abs().max().item(), correlation(wanted, given), wanted.abs().max().item()


def _check_equal(difference: float, correlated: float, largest: float) -> None:
    allowed = TOLERANCE * max(1.0, largest)
    if not difference <= allowed:  # NaN is not
        raise ValueError(
            f"the ONNX model's outputs differ from PyTorch's by up to {difference:.2g} (allowed: {allowed:.2g}), so it is not "
            "kept; export with the versions of constraints.txt"
        )


def _samples(model: PreTrainedModel, names: list[str]) -> Iterator[Inputs]:
    """Random tokens: batches of one and more, short and as long as they may be, without padding and with it."""
    config = model.config
    longest = min(MOST_TOKENS, most_tokens(config))
    generator = torch.Generator().manual_seed(0)
    for batch, length in ((1, 2), (1, longest // 2), (3, longest // 3), (2, longest)):
        ids = torch.randint(config.vocab_size, (batch, length), generator=generator)
        padding = config.pad_token_id
        if padding is not None:
            ids[ids == padding] = (padding + 1) % config.vocab_size  # families that count positions from the padding look for it
        mask = torch.ones_like(ids)
        if batch > 1:
            mask[-1, length // 2 :] = 0
            ids[-1, length // 2 :] = padding or 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        yield {name: inputs.get(name, torch.zeros_like(ids)) for name in names}


@contextmanager
def _written(graph: "onnx.ModelProto | Any", path: Path) -> Iterator[Path]:
    """A graph in a file beside `path`, which becomes `path` where the block raises nothing."""
    import onnx  # here: it is optional
    import onnx_ir

    with written_whole(path) as partial_file:
        onnx.save(graph if isinstance(graph, onnx.ModelProto) else onnx_ir.to_proto(graph), str(partial_file), format="protobuf")
        yield partial_file


def _measured(model: PreTrainedModel, folder: Path, samples: list[Inputs], measure: Measure) -> dict[str, Any]:
    exported = {name: OnnxModel(folder / file) for name, file in FILES.items()}
    models: dict[str, Any] = {PYTORCH: model, **exported}
    tokens = min(LENGTH, samples[-1]["input_ids"].shape[1])
    inputs = {name: each[:1, :tokens] for name, each in samples[-1].items()}
    with torch.inference_mode():
        seconds = median_seconds([partial(called, **inputs) for called in models.values()])
    rows = []
    for index, (name, called) in enumerate(models.items()):
        size = 4 * model.num_parameters() if name == PYTORCH else (folder / FILES[name]).stat().st_size
        row = {"model": name, "size_mb": size / 1e6, "latency_ms_batch_1": 1000 * seconds[index]}
        row["speedup"] = seconds[0] / seconds[index]
        if name in exported:
            row["difference"], row["correlation"], _ = compare(model, called, samples)
        rows.append(row | measure(called))
    return {"tokens": tokens, "threads": torch.get_num_threads(), "rows": rows}
