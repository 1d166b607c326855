"""The Markdown tables of model cards and of their index, from what `report.json` holds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from hf_lrcompress.texts.languages import Language

NOT_MEASURED = "not measured"

Columns = Mapping[str, tuple[str, Callable[[Any], str]]]


def hundredfold(share: float) -> str:
    """A share as the paper's tables print it: times 100, with one decimal."""
    return f"{100 * share:.1f}"


STAGE_COLUMNS: Columns = {
    "stage": ("stage", str),
    "parameters": ("parameters", "{:,d}".format),
    "size_mb": ("MB", "{:.1f}".format),
    "reduction_percent": ("reduction %", "{:.1f}".format),
    "mlm_accuracy": ("masked-token accuracy", "{:.4f}".format),
    "mlm_loss": ("masked-token loss", "{:.3f}".format),
    "seconds": ("seconds", "{:,.0f}".format),
    "energy_kwh": ("kWh", "{:.5f}".format),
    "peak_memory_mb": ("peak memory MB", "{:,.0f}".format),
}
SCORE_COLUMNS: Columns = {
    "model": ("model", str),
    "task": ("task", str),
    "dataset": ("data set", str),
    "metric": ("metric", str),
    "mean": ("score", hundredfold),
    "std": ("±", hundredfold),
    "retention": ("retention %", hundredfold),
    "tuning": ("tuning", str),
    "seeds": ("seeds", lambda seeds: ", ".join(map(str, seeds))),
    "test_size": ("test size", "{:,d}".format),
    "train_overlap": ("of it in train %", hundredfold),
    "quick": ("quick", lambda quick: "yes" if quick else "no"),
}
EFFICIENCY_COLUMNS: Columns = {
    "model": ("model", str),
    "parameters": ("parameters", "{:,d}".format),
    "size_mb": ("MB", "{:.1f}".format),
    "latency_ms_batch_1": ("ms, batch of 1", "{:.1f}".format),
    "latency_ms_batch_32": ("ms, batch of 32", "{:.1f}".format),
    "tokens_per_second": ("tokens a second", "{:,.0f}".format),
    "speedup": ("times as fast", "{:.2f}".format),
}
CERTIFICATE_ROWS: Columns = {
    "vocab_size": ("tokens", "{:,d}".format),
    "tokens_per_word": ("tokens per word", "{:.2f}".format),
    "unknown_rate": ("unknown tokens %", hundredfold),
    "round_trip": ("sentences that decoding gives back %", hundredfold),
}
CURVE_COLUMNS: Columns = {
    "vocab_size": ("tokens", "{:,d}".format),
    "coverage": ("of the training text kept %", hundredfold),
    "tokens_per_word": ("tokens per word", "{:.2f}".format),
}
INDEX_COLUMNS: Columns = {
    "card": ("card", str),
    "language": ("language", str),
    "teacher": ("teacher", str),
    "text": ("text", str),
    "parameters": ("parameters", "{:,d}".format),
    "reduction_percent": ("reduction %", "{:.1f}".format),
    "mlm_accuracy": ("masked-token accuracy", "{:.4f}".format),
    "adapted": ("of the adapted teacher", "{:.4f}".format),
    "scores": ("scores", str),
}


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Columns) -> str:
    """Rows as a Markdown table; columns that no row has are left out."""
    if not rows:
        return NOT_MEASURED
    used = {key: column for key, column in columns.items() if any(row.get(key) is not None for row in rows)}
    cells = [[NOT_MEASURED if row.get(key) is None else shown(row[key]) for key, (_, shown) in used.items()] for row in rows]
    sides = ["left" if shown is str else "right" for _, shown in used.values()]
    return tabulate(cells, [head for head, _ in used.values()], tablefmt="pipe", disable_numparse=True, colalign=sides)


def vocabulary_table(certificate: Mapping[str, Any]) -> str:
    """What trimming did to the validation text, beside what it was before, as a Markdown table."""
    rows = [
        [head, shown(certificate[key]), shown(certificate[f"untrimmed_{key}"])] for key, (head, shown) in CERTIFICATE_ROWS.items()
    ]
    heads = ["", "trimmed", "before"]
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=["left", "right", "right"])


def text_name(source: Mapping[str, Any] | str) -> str:
    """A text as the card names it."""
    if isinstance(source, str):
        return "the demo's machine-written text"
    return ", ".join(source["files"]) or " ".join(filter(None, [source["path"], source.get("name"), source["split"]]))


def render_index(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table of cards, one row each.

    Args:
        reports (`Mapping[str, Mapping]`): What `report.json` holds, by the folder that it and the card lie in.
    """
    return markdown_table([_index_row(folder, report) for folder, report in reports.items()], INDEX_COLUMNS)


def _index_row(folder: str, report: Mapping[str, Any]) -> dict[str, Any]:
    stages = {stage["stage"]: stage for stage in report["stages"]}
    final = report["stages"][-1]
    scores = [score for score in report.get("scores", ()) if score["model"] == final["stage"]]
    return {
        "card": f"[{folder}]({folder}/README.md)",
        "language": Language.from_tag(report["language"]).name,
        "teacher": report["teacher"],
        "text": text_name(report["settings"]["train"]),
        "parameters": final["parameters"],
        "reduction_percent": final["reduction_percent"],
        "mlm_accuracy": final["mlm_accuracy"],
        "adapted": stages.get("adapt_teacher", {}).get("mlm_accuracy"),
        "scores": ", ".join(f"{score['task'].upper()} {hundredfold(score['mean'])}" for score in scores) or None,
    }
