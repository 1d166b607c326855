"""The index of several cards, as in `model_cards/README.md`."""

from collections.abc import Mapping
from typing import Any

from hf_lrcompress.evaluation.judging import shortened_notice
from hf_lrcompress.publishing.metadata import facts_beside, final_scores, text_name
from hf_lrcompress.tables import STAGE_COLUMNS, Columns, escaped, hundredfold, make_table
from hf_lrcompress.texts.languages import Language

INDEX_COLUMNS: Columns = {
    "card": ("card", str),
    "language": ("language", str),
    "teacher": ("teacher", escaped),
    "text": ("text", escaped),
    "parameters": STAGE_COLUMNS["parameters"],
    "reduction_percent": STAGE_COLUMNS["reduction_percent"],
    "mlm_accuracy": STAGE_COLUMNS["mlm_accuracy"],
    "best_before": ("best of the stages before", "{:.4f}".format),
    "sentence_similarity": STAGE_COLUMNS["sentence_similarity"],
    "scores": ("scores", str),
}


def render_index(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of cards, one row each.

    Args:
        reports (`Mapping[str, Mapping]`): What `report.json` holds, by the folder that it and the card lie in.
    """
    return make_table([_row(folder, report) for folder, report in reports.items()], INDEX_COLUMNS)


def _row(folder: str, report: Mapping[str, Any]) -> dict[str, Any]:
    before = [stage["mlm_accuracy"] for stage in report["stages"][:-1] if stage.get("mlm_accuracy") is not None]
    scores = final_scores(report)
    cells = [", ".join(map(_score, scores)), shortened_notice(scores)]
    return {
        **report["stages"][-1],
        "card": f"[{folder}]({folder}/README.md)",
        "language": Language.from_tag(report["language"]).name,
        "teacher": report["teacher"],
        "text": text_name(report["settings"]["train"]),
        "best_before": max(before, default=None),
        "scores": ". ".join(filter(None, cells)) or None,
    }


def _score(score: Mapping[str, Any]) -> str:
    facts = escaped("; ".join(facts_beside(score)))
    return f"{score['task'].upper()} {hundredfold(score['mean'])}" + (f" ({facts})" if facts else "")
