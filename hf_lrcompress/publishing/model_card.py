"""The model card, made from `report.json` alone."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

from hf_lrcompress.demo.texts import DEMO_TEACHER_NOTICE, demo_notice
from hf_lrcompress.evaluation.efficiency import speed_notes
from hf_lrcompress.evaluation.judging import epochs_text, tuning_text
from hf_lrcompress.evaluation.tables import card_notes
from hf_lrcompress.publishing.metadata import (
    base_model_of,
    card_metadata,
    has_demo_teacher,
    keeps_representation,
    text_name,
    title_of,
)
from hf_lrcompress.publishing.stage_table import export_note, stage_notes, stage_table
from hf_lrcompress.tables import (
    CURVE_COLUMNS,
    EXPORT_COLUMNS,
    NOT_MEASURED,
    RETENTION_COLUMNS,
    SCORE_COLUMNS,
    certificate_table,
    efficiency_columns,
    escaped,
    hundredfold,
    make_table,
)
from hf_lrcompress.texts.languages import Language

TEMPLATE = "publishing/templates/model_card.md"


def render_model_card(report: Mapping[str, Any], figures: Sequence[str] = ()) -> str:
    """The card of a run as Markdown with a metadata header; the same bytes for the same report.

    Args:
        report (`Mapping`): What `report.json` holds. What it lacks is "not measured" in the card.
        figures (`Sequence[str]`, *optional*): Names of PNG files that lie beside the card.
    """
    # Markdown, in which the filter `escaped` is what autoescape is in HTML.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)  # nosec B701
    environment.filters |= {"escaped": escaped, "bibtex": _bibtex}
    template = environment.from_string(files("hf_lrcompress").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        report=report,
        figures=figures,
        hundredfold=hundredfold,
        metadata=card_metadata(report).to_yaml(),
        title=title_of(report),
        base_model=base_model_of(report),
        sentences=keeps_representation(report),
        notice=demo_notice(report),
        teacher_notice=DEMO_TEACHER_NOTICE if has_demo_teacher(report) else None,
        language_name=Language.from_tag(report["language"]).name,
        further_names=[Language.from_tag(tag).name for tag in report.get("further_languages", ())],
        **_tables(report),
        **_making(report),
    )


def _tables(report: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured."""
    efficiency = report.get("efficiency", ())
    scores = report.get("scores", ())
    vocabulary = report.get("vocabulary")
    export = report.get("export")
    return {
        "stages": stage_table(report),
        "notes": stage_notes(report),
        "scores": make_table([_score_cells(row) for row in scores], SCORE_COLUMNS),
        "score_notes": card_notes(scores),
        "efficiency": make_table(efficiency, efficiency_columns(len(efficiency))),
        "speed_notes": speed_notes(efficiency),
        "export": export and make_table(export["rows"], EXPORT_COLUMNS),
        "export_note": export and export_note(export),
        "vocabulary": vocabulary,
        "sizes": vocabulary and certificate_table(vocabulary),
        "curve": vocabulary and make_table(vocabulary["curve"], CURVE_COLUMNS),
    }


def _score_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A score's row as the card shows it; of retention nothing is said where an old report has no baseline."""
    none = None if row.get("majority") is None else "none"
    cells = {"tuning": tuning_text(row), "epochs": epochs_text(row), "accuracy": row["extra"].get("accuracy")}
    cells["std"] = hundredfold(row["std"]) if len(row.get("values", ())) > 1 else ""  # one training has none
    for key in RETENTION_COLUMNS.keys() & row.keys():
        cells[key] = none if row[key] is None else hundredfold(row[key])
    return {**row, **cells}


def _making(report: Mapping[str, Any]) -> dict[str, Any]:
    """From what, how and where the model was made."""
    settings = report["settings"]
    shown = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return {
        "train": text_name(settings["train"]),
        "validation": text_name(settings["validation"]),
        "trained": any(stage.get("steps") for stage in report["stages"]),
        "trimmed": any(stage["stage"] == "trim_vocab" for stage in report["stages"]),
        "settings": shown,
        "fence": max(["``", *re.findall("`+", shown)], key=len) + "`",  # nothing in the settings ends it
        "total": _total(report.get("total", {})),
        "environment": ", ".join(f"{name} {value}" for name, value in report["environment"].items()),
    }


def _total(total: Mapping[str, float]) -> str:
    """Time and energy of the whole run in words."""
    seconds = total.get("seconds")
    energy = total.get("energy_kwh")
    time = "the seconds in the first table" if seconds is None else f"{seconds:,.0f} s"
    if "stage_seconds" in total:
        time += f" from start to end, {total['stage_seconds']:,.0f} s of it in the stages themselves"
    used = NOT_MEASURED if energy is None else f"{energy:.4f} kWh of the whole machine, by codecarbon"
    return f"Time: {time}. Energy: {used}."


def _bibtex(text: str) -> str:
    """A name for a field of BibTeX: one line, without what would end it."""
    return re.sub(r"[{}\\]", "", " ".join(text.split()))
