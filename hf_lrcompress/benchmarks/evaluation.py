"""Benchmark: training a task adapter with batches grouped by length, against padding to the maximum, in one run."""

import argparse
from pathlib import Path
from typing import Any

from hf_lrcompress.evaluation.encoding import EncodedTask, ModelUnderTest
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.evaluation.task_data import load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.evaluation.training import train_and_score
from hf_lrcompress.texts.languages import Language


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--model", required=True, help="directory or Hub id")
    parser.add_argument("--task_data", required=True, help="folder with train, validation and test of topic classification")
    parser.add_argument("--epochs", type=int, default=20, help="of the training grouped by length (default: the paper's 20)")
    parser.add_argument("--padded_epochs", type=int, default=1, help="of the padded training; seconds are compared per epoch")


def summary(result: dict[str, Any]) -> list[dict[str, str]]:
    """For the README."""
    grouped, padded = result["rows"]
    what = f"topic adapters of {result['model']}, {grouped['epochs']} epochs of {result['train_size']} texts"
    speed = {"times faster": f"{grouped['speedup']:.1f} ({grouped['seconds'] / 60:.1f} minutes)", "peak memory": ""}
    return [{"what": what, "beside": f"padded {padded['padding']}", **speed}]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train both ways. An epoch includes its validation."""
    model = ModelUnderTest("model", arguments.model)
    data = load_task(TASKS["tc"], Language.from_tag("en"), arguments.task_data)
    assert data is not None  # which it is only where no folder is given
    encoded = EncodedTask.encode(data, model, label_all_tokens=False)
    grouped = train_and_score(model, encoded, TaskTraining(epochs=arguments.epochs), seed=42)
    padded = train_and_score(model, encoded, TaskTraining(epochs=arguments.padded_epochs), seed=42, padding="max_length")
    rows = [
        {"padding": "to the batch's longest", "epochs": arguments.epochs, "seconds": grouped["seconds"]},
        {"padding": f"to {encoded.max_length}", "epochs": arguments.padded_epochs, "seconds": padded["seconds"]},
    ]
    for row in rows:
        row["seconds_per_epoch"] = row["seconds"] / row["epochs"]
        row["speedup"] = padded["seconds"] / arguments.padded_epochs / row["seconds_per_epoch"]
    return {
        "model": Path(arguments.model).name,
        "train_size": len(data.train),
        "macro_f1": grouped["scores"]["macro_f1"],
        "rows": rows,
    }
