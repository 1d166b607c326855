"""The report of a run: `report.json`, `report.md` and the directory of the final model, all from the stages' records."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_lrcompress.demo.texts import demo_notice
from hf_lrcompress.evaluation.efficiency import speed_notes
from hf_lrcompress.evaluation.tables import capacity_table, missed_notes, score_notes, score_table
from hf_lrcompress.figures.of_runs import plot_capacity, plot_scores, plot_stages
from hf_lrcompress.files import copy_directory, write_atomically
from hf_lrcompress.models.identity import MODEL_DIR
from hf_lrcompress.publishing.metadata import title_of
from hf_lrcompress.publishing.model_card import render_model_card
from hf_lrcompress.publishing.stage_table import export_note, stage_notes, stage_table
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.folder import CARD_FILE, FIGURES, REPORT_FILE
from hf_lrcompress.run.stage_files import CHECKPOINTS, HALF_WRITTEN, LOGS
from hf_lrcompress.run.stage_record import RECORD_FILE, StageRecord
from hf_lrcompress.stages.evaluate import TEACHER
from hf_lrcompress.tables import EXPORT_COLUMNS, escaped, make_table

logger = logging.getLogger(__name__)

REPORTED_ALONE = ("scores", "capacity", "efficiency", "skipped_tasks", "hashes", "export")
REPORTED = {"certificate": "vocabulary"} | {name: name for name in REPORTED_ALONE}
"""Metrics of a stage that are a part of the report by themselves, and its name."""

STAGES_FIGURE, SCORES_FIGURE, CAPACITY_FIGURE = FIGURES


def rows_of(records: Sequence[StageRecord]) -> list[dict[str, Any]]:
    """One row a stage that makes a model: its name and what was measured.

    Args:
        records (`Sequence[StageRecord]`): The teacher's and those of all stages, in order.
    """
    made = [record for record in records if "parameters" in record.metrics]
    elsewhere = {*REPORTED, "around"}
    return [{"stage": record.name} | {k: v for k, v in record.metrics.items() if k not in elsewhere} for record in made]


def parts_of(records: Sequence[StageRecord]) -> dict[str, Any]:
    """What is a part of the report by itself: the vocabulary's certificate, scores, efficiency.

    Args:
        records (`Sequence[StageRecord]`): The teacher's and those of all stages, in order.
    """
    return {REPORTED[name]: value for record in records for name, value in record.metrics.items() if name in REPORTED}


def total_of(records: Sequence[StageRecord]) -> dict[str, float]:
    """`seconds` of the run from start to end, `stage_seconds` of its stages alone, and `energy_kwh` where all was measured.

    Args:
        records (`Sequence[StageRecord]`): The teacher's and those of all stages, in order.
    """
    own = [record.metrics for record in records]
    parts = own + [metrics["around"] for metrics in own if "around" in metrics]
    total = {"seconds": sum(part["seconds"] for part in parts), "stage_seconds": sum(part["seconds"] for part in own)}
    if all(part.get("energy_kwh") is not None for part in parts):
        total["energy_kwh"] = sum(part["energy_kwh"] for part in parts)
    return total


def make_report(config: RunConfig, records: Sequence[StageRecord]) -> dict[str, Any]:
    """What `report.json` holds: all that card and reports are made from.

    Args:
        config ([`RunConfig`]): The run as it was asked for.
        records (`Sequence[StageRecord]`): The teacher's and those of all stages, in order.
    """
    return {
        **config.languages,
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
    """Write `report.json`, `report.md` and the figures, and the model's card again, unless somebody has changed that.

    Args:
        config ([`RunConfig`]): The run as it was asked for.
        records (`Sequence[StageRecord]`): The teacher's and those of all stages, in order.
        output_dir (`Path`): The run folder.
    """
    is_as_made = _has_card_as_made(output_dir)
    report = make_report(config, records)
    write_atomically(output_dir / REPORT_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    for name in FIGURES:
        (output_dir / name).unlink(missing_ok=True)  # it may be of other models
    if _shows_stages(report):
        plot_stages(report["stages"], output_dir / STAGES_FIGURE)
    if "scores" in report:
        plot_scores(report["scores"], report["efficiency"], output_dir / SCORES_FIGURE)
    if "capacity" in report:
        plot_capacity(report["capacity"], output_dir / CAPACITY_FIGURE)
    figures = [path.name for path in _figures_in(output_dir)]
    write_atomically(output_dir / "report.md", render_report(report, figures))
    if is_as_made:
        write_atomically(output_dir / MODEL_DIR / CARD_FILE, _card_of(output_dir))


def _figures_in(output_dir: Path) -> list[Path]:
    """Those that were drawn; a picture of the user's own is none."""
    return [output_dir / name for name in sorted(FIGURES) if (output_dir / name).exists()]


def render_report(report: Mapping[str, Any], figures: Sequence[str] = ()) -> str:
    """The report as Markdown.

    Args:
        report (`Mapping`): What `report.json` holds.
        figures (`Sequence[str]`, *optional*): Names of PNG files that lie beside it.
    """
    lines = [f"# {escaped(title_of(report))}", ""]
    notice = demo_notice(report)
    if notice:
        lines += [f"**{notice}**", ""]
    lines += [stage_table(report), "", *_list(stage_notes(report))]
    lines += _shown(STAGES_FIGURE, "what every stage has kept", figures)
    if "scores" in report:
        counted = {row["model"]: row["parameters"] for row in report["efficiency"]}  # all with their heads, or all without
        base = counted.get(TEACHER, report["stages"][0]["parameters"])
        table = score_table(report["scores"], report["efficiency"], base)
        notes = _list([*score_notes(report["scores"], report["skipped_tasks"]), *speed_notes(report["efficiency"])])
        lines += ["", "## Tasks", "", table, "", *notes]
        lines += _shown(SCORES_FIGURE, "scores of the models", figures)
    if "capacity" in report:
        lines += ["", "## Adapter capacity", "", "Average over the tasks × 100, by the adapters' reduction factor."]
        lines += ["", capacity_table(report["capacity"])]
        lines += [f"\n- {note}" for note in missed_notes(report["capacity"])]
        lines += _shown(CAPACITY_FIGURE, "score against reduction factor", figures)
    if "export" in report:
        lines += [
            "",
            "## ONNX",
            "",
            make_table(report["export"]["rows"], EXPORT_COLUMNS),
            "",
            f"- {export_note(report['export'])}",
        ]
    return "\n".join(lines) + "\n"


def write_model_dir(output_dir: Path, last_stage: str, files: Mapping[str, bytes | Path]) -> None:
    """Make `model/`: the last stage's model and tokenizer, the card and the figures. One that is there already is left alone.

    Args:
        output_dir (`Path`): The run folder; it holds the report.
        last_stage (`str`): Folder in it that holds the final model.
        files (`Mapping[str, bytes | Path]`): Further files of the model: by path their content, or the file that has it.
    """
    if (output_dir / MODEL_DIR).exists():
        return
    figures = _figures_in(output_dir)
    card = _card_of(output_dir)
    ignored = (RECORD_FILE, CHECKPOINTS, *HALF_WRITTEN, LOGS)
    extra: dict[str, bytes | Path] = dict(files) | {CARD_FILE: card.encode()} | {path.name: path.read_bytes() for path in figures}
    copy_directory(output_dir / last_stage, output_dir / MODEL_DIR, ignored, extra)


def _card_of(output_dir: Path) -> str:
    """The card that a run's report gives."""
    report = json.loads((output_dir / REPORT_FILE).read_text(encoding="utf-8"))
    return render_model_card(report, [path.name for path in _figures_in(output_dir)])


def _has_card_as_made(output_dir: Path) -> bool:
    """Whether the model's card is the one that the run's report gives."""
    card = output_dir / MODEL_DIR / CARD_FILE
    has_both = card.is_file() and (output_dir / REPORT_FILE).is_file()
    return has_both and card.read_bytes() == _card_of(output_dir).encode()


def set_card_aside(output_dir: Path) -> None:
    """Keep a card that somebody has changed: what is in `model/` is about to be deleted, and no run makes that card again.

    Args:
        output_dir (`Path`): The run folder, which gets it under a name that is free.
    """
    card = output_dir / MODEL_DIR / CARD_FILE
    if not card.is_file() or _has_card_as_made(output_dir):
        return
    names = (f"{card.stem}.kept{number}{card.suffix}" for number in ("", *range(2, 1000)))
    kept = next(path for path in (output_dir / name for name in names) if not path.exists())
    shutil.copy2(card, kept)
    logger.warning("%s is not as it was made; it is kept as %s", card, kept)


def _shows_stages(report: Mapping[str, Any]) -> bool:
    """Whether similarities were measured, so that there is something to compare the stages by."""
    return any(stage.get("sentence_similarity") is not None for stage in report["stages"])


def _shown(name: str, text: str, figures: Sequence[str]) -> list[str]:
    """The lines that show a figure, if there is one."""
    return ["", f"![{text}]({name})"] if name in figures else []


def _list(notes: Sequence[str]) -> list[str]:
    return [f"- {note}" for note in notes]


def _without_paths(value: Any) -> Any:
    """Settings with the names of local files instead of where they lie on this machine; tokens to keep may look like paths."""
    if isinstance(value, Mapping):
        as_it_is = {key for key, item in value.items() if key == "keep" and not isinstance(item, Mapping)}
        return {key: item if key in as_it_is else _without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    if isinstance(value, str) and (os.path.isabs(value) or os.path.exists(value)):  # not Path's: it raises for long names
        return Path(value).name
    return value
