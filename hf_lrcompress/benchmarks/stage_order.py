"""Trimming the vocabulary before all training beside trimming it last: the whole pipeline twice, with as many steps."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REST = ["adapt_teacher", "reduce_layers", "prune_ffn", "truncate_hidden"]
ORDERS = {"trim first": ["trim_vocab", *REST], "trim last": [*REST, "trim_vocab"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `run`."""
    parser.add_argument("--lang", required=True, help="language of the text, such as sk")
    parser.add_argument("--text", required=True, help="text to train on, a sentence a line")
    parser.add_argument("--held_out", required=True, help="text to validate on, a sentence a line")
    parser.add_argument("--work_dir", type=Path, required=True, help="for both run folders")
    name = "small-cpu-paper"
    parser.add_argument("--config", default=name, help=f"YAML file, or the name of one of the package's (default: {name})")
    parser.add_argument("--max_steps", type=int, default=100, help="of each training")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both orders. Seconds are those of the stages, without loading the teacher; a run that is complete is not run again.

    Raises:
        OSError: If a run fails; it has said why.
    """
    rows = []
    for order, stages in ORDERS.items():
        stages_made = _run_pipeline(arguments, stages, arguments.work_dir / order.replace(" ", "-"))
        seconds = {row["stage"]: row["seconds"] for row in stages_made}
        last = stages_made[-1]
        row = {"order": order, "seconds": sum(seconds.values()), **{stage: seconds[stage] for stage in sorted(stages)}}
        rows.append(row | {name: last[name] for name in ("parameters", "mlm_accuracy", "mlm_loss", "peak_memory_mb")})
    return {"max_steps": arguments.max_steps, "times_faster": rows[1]["seconds"] / rows[0]["seconds"], "rows": rows}


def summary(result: dict[str, Any]) -> list[dict[str, str]]:
    """For the README."""
    first, last = result["rows"]
    return [
        {
            "what": f"the pipeline, vocabulary trimmed first, {result['max_steps']} steps a training",
            "beside": f"trimmed last; accuracy {last['mlm_accuracy']:.4f}, first {first['mlm_accuracy']:.4f}",
            "times faster": f"{result['times_faster']:.1f}",
            "peak memory": f"{first['peak_memory_mb'] / last['peak_memory_mb']:.2f}",
        }
    ]


def _run_pipeline(arguments: argparse.Namespace, stages: list[str], output_dir: Path) -> list[dict[str, Any]]:
    """The rows of its report, one a stage."""
    command = [sys.executable, "-m", "hf_lrcompress", "compress", "--lang", arguments.lang, "--config", arguments.config]
    command += ["--train_file", arguments.text, "--validation_file", arguments.held_out, "--stages", ",".join(stages)]
    steps = {"max_steps": arguments.max_steps, "warmup_steps": arguments.max_steps // 10}
    command += [part for key, value in steps.items() for part in ("--set", f"training.{key}={value}")]
    if subprocess.run([*command, "--output_dir", output_dir], stdout=sys.stderr).returncode:
        raise OSError(f"the run in {output_dir} failed")
    return json.loads((output_dir / "report.json").read_text(encoding="utf-8"))["stages"]
