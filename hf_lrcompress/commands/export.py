"""Write ONNX files of a model beside it."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from hf_lrcompress.commands.process import full_disk_named
from hf_lrcompress.evaluation.efficiency import timed_with
from hf_lrcompress.export.exporting import FILES, ONNX_DIR, export_model
from hf_lrcompress.export.graphs import check_exportable, require_onnx
from hf_lrcompress.models.checkpoints import has_masked_lm_head
from hf_lrcompress.models.identity import MODEL_DIR
from hf_lrcompress.models.loading import load_config, load_encoder, load_masked_lm
from hf_lrcompress.models.sentence_modules import MODULES_FILE
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.tables import EXPORT_COLUMNS, make_table


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse what is no folder of a model, and files that would be replaced and may not."""
    if not (folder / "config.json").is_file():
        of_run = folder / MODEL_DIR
        advice = f"give {of_run}" if of_run.is_dir() else "give the folder of one, such as the model/ of a run"
        raise FileNotFoundError(f"{folder} holds no model (config.json); {advice}")
    there = [path for path in (folder / ONNX_DIR / name for name in FILES.values()) if path.exists()]
    if there and not overwrite:
        raise FileExistsError(f"{there[0]} exists; set --overwrite to replace it")


def _check_head(folder: Path, classes: Iterable[str]) -> None:
    """Refuse a model of a task: what is exported is an encoder or a masked LM, without its head."""
    for name in classes:
        if "For" in name and not name.endswith(("ForMaskedLM", "ForPreTraining")):
            raise ValueError(f"{folder} is a {name}, whose head would be lost; optimum-cli export onnx writes models of tasks")


def export(arguments: argparse.Namespace) -> str:
    """Export; the table of what was measured."""
    folder: Path = arguments.model_dir
    require_onnx()
    check_folder(folder, arguments.overwrite)
    config = load_config(str(folder), trust_remote_code=arguments.trust_remote_code)
    _check_head(folder, config.architectures or ())
    of_sentences = (folder / MODULES_FILE).exists()
    load = load_encoder if of_sentences or not has_masked_lm_head(str(folder)) else load_masked_lm
    tokenizer = load_tokenizer(str(folder))
    model = load(str(folder))
    check_exportable(model)
    measured = export_model(model, tokenizer, folder)
    table = make_table(measured["rows"], EXPORT_COLUMNS, style="simple", missing="–")
    timed = f"A text of {measured['tokens']} tokens, {timed_with(measured['threads'])}."
    return f"{table}\n\n{timed} The files: {folder / ONNX_DIR}"


def run(arguments: argparse.Namespace) -> int:
    """Export, and print sizes and latency; the exit code."""
    with full_disk_named(arguments.model_dir):
        print(export(arguments))
    return 0
