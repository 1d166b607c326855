"""The report of a run: `report.json`, `report.md` and the directory of the final model, all from the stages' records."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from hf_lrcompress.demo.texts import DEMO_NOTICE
from hf_lrcompress.evaluation.tables import capacity_table, plot_capacity, plot_scores, score_notes, score_table
from hf_lrcompress.files import copy_directory, write_atomically
from hf_lrcompress.publishing.model_card import render_model_card
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.folder import MODEL_DIR, RECORD_FILE, REPORT_FILE, StageRecord

REPORTED = {"certificate": "vocabulary"} | {name: name for name in ("scores", "capacity", "efficiency", "skipped_tasks")}
"""Metrics of a stage that are a part of the report by themselves, and its name."""

FIGURE = "scores.png"
CAPACITY_FIGURE = "capacity.png"
COLUMNS = {
    "stage": "stage",
    "parameters": "parameters",
    "size_mb": "MB",
    "reduction_percent": "reduction %",
    "mlm_accuracy": "MLM accuracy",
    "mlm_loss": "MLM loss",
    "seconds": "seconds",
    "peak_memory_mb": "peak memory MB",
}
FORMATS = {
    "layers": "d",
    "intermediate": "d",
    "hidden": "d",
    "vocabulary": ",d",
    "parameters": ",d",
    "size_mb": ".1f",
    "reduction_percent": ".1f",
    "mlm_accuracy": ".4f",
    "mlm_loss": ".3f",
    "seconds": ".0f",
    "peak_memory_mb": ",.0f",
}


def rows_of(records: Sequence[StageRecord]) -> list[dict[str, Any]]:
    """One row a stage that makes a model: its name and what was measured."""
    made = [record for record in records if "parameters" in record.metrics]
    return [{"stage": record.name} | {k: v for k, v in record.metrics.items() if k not in REPORTED} for record in made]


def parts_of(records: Sequence[StageRecord]) -> dict[str, Any]:
    """What is a part of the report by itself: the vocabulary's certificate, scores, efficiency."""
    return {REPORTED[name]: value for record in records for name, value in record.metrics.items() if name in REPORTED}


def total_of(records: Sequence[StageRecord]) -> dict[str, float]:
    """Seconds of all stages, and kWh where every stage has them."""
    energies = [record.metrics.get("energy_kwh") for record in records]
    energy = {} if None in energies else {"energy_kwh": sum(energies)}
    return {"seconds": sum(record.metrics["seconds"] for record in records), **energy}


def table(rows: Sequence[dict[str, Any]], columns: dict[str, str] | None = None, style: str = "github") -> str:
    """Rows as a text table, numbers formatted by the kind of column."""
    columns = columns or {key: key for key in rows[0]}
    cells = [[_cell(key, row.get(key)) for key in columns] for row in rows]
    return tabulate(cells, headers=list(columns.values()), tablefmt=style, disable_numparse=True, colalign=_alignment(columns))


def make_report(config: RunConfig, records: Sequence[StageRecord]) -> dict[str, Any]:
    """What `report.json` holds: all that card and reports are made from."""
    return {
        "language": config.language.tag,
        "teacher": config.teacher_name,
        "base_model": config.base_model,
        "machine_written_text": config.machine_written,
        "fingerprint": records[-1].fingerprint,
        "version": records[-1].version,
        "environment": records[-1].environment,
        "settings": _without_paths(config.to_mapping()),
        "stages": rows_of(records),
        "total": total_of(records),
        **parts_of(records),
    }


def write_report(config: RunConfig, records: Sequence[StageRecord], output_dir: Path) -> None:
    """Write `report.json` and `report.md`."""
    content = json.dumps(make_report(config, records), indent=2, ensure_ascii=False)
    write_atomically(output_dir / REPORT_FILE, content + "\n")
    write_atomically(output_dir / "report.md", render_report(config, records))
    if "scores" in (evaluated := parts_of(records)):
        plot_scores(evaluated["scores"], evaluated["efficiency"], output_dir / FIGURE)
    if "capacity" in evaluated:
        plot_capacity(evaluated["capacity"], output_dir / CAPACITY_FIGURE)


def render_report(config: RunConfig, records: Sequence[StageRecord]) -> str:
    """The report as Markdown."""
    lines = [f"# {config.teacher_name} compressed to {config.language.name}", ""]
    if config.machine_written:
        lines += [f"**{DEMO_NOTICE}**", ""]
    masked = records[0].metrics["masked_tokens"]
    lines += [
        table(rows_of(records), COLUMNS),
        "",
        f"MLM accuracy and loss: the same {masked:,} masked tokens of the validation text for every model. The loss is over",
        "each model's own vocabulary, so it falls when that is trimmed. Peak memory: of the process, to the end of the stage.",
    ]
    if "scores" in (evaluated := parts_of(records)):
        scores, efficiency = evaluated["scores"], evaluated["efficiency"]
        notes = "\n".join(f"- {note}" for note in score_notes(scores, evaluated["skipped_tasks"]))
        table_of_tasks = score_table(scores, efficiency, records[0].metrics["parameters"])
        lines += ["", "## Tasks", "", table_of_tasks, "", notes, "", f"![score against size]({FIGURE})"]
    if "capacity" in evaluated:
        lines += ["", "## Adapter capacity", "", "Average over the tasks × 100, by the adapters' reduction factor."]
        lines += ["", capacity_table(evaluated["capacity"]), "", f"![score against reduction factor]({CAPACITY_FIGURE})"]
    return "\n".join(lines) + "\n"


def write_model_dir(output_dir: Path, last_stage: str) -> None:
    """Make `model/`: the last stage's model and tokenizer, the card and the figures. One that is there already is left alone."""
    if (output_dir / MODEL_DIR).exists():
        return
    report = json.loads((output_dir / REPORT_FILE).read_text(encoding="utf-8"))
    figures = sorted(output_dir.glob("*.png"))
    card = render_model_card(report, [path.name for path in figures])
    ignored = (RECORD_FILE, "checkpoint-*", "runs")
    extra = {"README.md": card.encode()} | {path.name: path.read_bytes() for path in figures}
    copy_directory(output_dir / last_stage, output_dir / MODEL_DIR, ignored, extra)


def _without_paths(value: Any) -> Any:
    """Settings with the names of local files instead of where they lie on this machine."""
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and (Path(value).is_absolute() or Path(value).exists()) else value


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "not measured"
    return format(value, FORMATS[key]) if key in FORMATS else str(value)


def _alignment(columns: dict[str, str]) -> list[str]:
    return ["right" if key in FORMATS else "left" for key in columns]
