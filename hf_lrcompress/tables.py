"""Tables: one maker, and one set of columns for all that is measured."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

NOT_MEASURED = "not measured"

Columns = Mapping[str, tuple[str, Callable[[Any], str]]]
"""Key of a row → heading of its column, and what shows a value. What `str` and `escaped` show is text and stands at the left."""


def escaped(value: Any) -> str:
    """Text that somebody else chose, for Markdown: one line in which no character is markup.

    Args:
        value (`Any`): A name of a model, a file, a data set; not at the start of a line.
    """
    return re.sub(r"[\\`*\[\]<>&|~$]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", " ".join(str(value).split()))


def hundredfold(share: float) -> str:
    """A share as the paper's tables print it: times 100, with one decimal."""
    return f"{100 * share:.1f}"


STAGE_COLUMNS: Columns = {
    "stage": ("stage", str),
    "layers": ("layers", "{:d}".format),
    "intermediate": ("intermediate", "{:d}".format),
    "hidden": ("hidden", "{:d}".format),
    "vocabulary": ("vocabulary", "{:,d}".format),
    "parameters": ("parameters", "{:,d}".format),
    "size_mb": ("MB", "{:.1f}".format),
    "reduction_percent": ("reduction %", "{:.1f}".format),
    "mlm_accuracy": ("masked-token accuracy", "{:.4f}".format),
    "mlm_loss": ("masked-token loss", "{:.3f}".format),
    "sentence_similarity": ("sentence similarity", "{:.3f}".format),
    "token_similarity": ("token similarity", "{:.3f}".format),
    "training_mb": ("training memory MB", "{:,.0f}".format),
    "seconds": ("seconds", "{:,.0f}".format),
    "energy_kwh": ("kWh", "{:.5f}".format),
    "peak_memory_mb": ("peak memory MB", "{:,.0f}".format),
}
MEASURES = ("mlm_accuracy", "sentence_similarity", "token_similarity")
"""What tells how much of its teacher a model keeps, without labels: all of them shares, 1 at best."""

RETENTION_COLUMNS: Columns = {
    "retention": ("retention %", "{}".format),
    "retention_of_original": ("retention % of the teacher as it came", "{}".format),
}
SCORE_COLUMNS: Columns = {
    "model": ("model", str),
    "task": ("task", str),
    "dataset": ("data set", escaped),
    "metric": ("metric", str),
    "mean": ("score", hundredfold),
    "std": ("±", "{}".format),
    "majority": ("majority baseline", hundredfold),
    **RETENTION_COLUMNS,
    "accuracy": ("accuracy", hundredfold),
    "tuning": ("tuning", str),
    "epochs": ("epochs", "{}".format),
    "learning_rate": ("learning rate", "{:g}".format),
    "seeds": ("seeds", lambda seeds: ", ".join(map(str, seeds))),
    "test_size": ("test size", "{:,d}".format),
    "train_overlap": ("of it in train %", hundredfold),
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
EXPORT_COLUMNS: Columns = {
    "model": ("model", str),
    "size_mb": ("MB", "{:.1f}".format),
    "latency_ms_batch_1": ("ms, batch of 1", "{:.1f}".format),
    "speedup": ("times as fast", "{:.2f}".format),
    "difference": ("difference", "{:.1e}".format),
    "correlation": ("correlation", "{:.4f}".format),
    "mlm_accuracy": ("masked-token accuracy", "{:.4f}".format),
    "mlm_loss": ("masked-token loss", "{:.3f}".format),
    "sentence_similarity": ("sentence similarity", "{:.3f}".format),
    "token_similarity": ("token similarity", "{:.3f}".format),
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


def efficiency_columns(models: int) -> Columns:
    """The columns of [`EFFICIENCY_COLUMNS`] that a table of so many models has: one alone is no faster than another."""
    return {key: column for key, column in EFFICIENCY_COLUMNS.items() if models > 1 or key != "speedup"}


def make_table(rows: Sequence[Mapping[str, Any]], columns: Columns, style: str = "pipe", missing: str = NOT_MEASURED) -> str:
    """Rows as a text table; columns that no row has are left out.

    Args:
        rows (`Sequence[Mapping]`): Values by the keys of `columns`; a value that is missing or `None` is not known.
        columns (`Columns`): The columns, in their order.
        style (`str`, *optional*, defaults to `"pipe"`): A table format of `tabulate`; this one is Markdown.
        missing (`str`, *optional*, defaults to `"not measured"`): What stands in place of a value that is not known.

    Returns:
        `str`: The table, or "not measured" if there are no rows.
    """
    if not rows:
        return NOT_MEASURED
    used = {key: column for key, column in columns.items() if any(row.get(key) is not None for row in rows)}
    cells = [[_cell(row.get(key), shown, missing) for key, (_, shown) in used.items()] for row in rows]
    heads = [head for head, _ in used.values()]
    sides = ["left" if shown in (str, escaped) else "right" for _, shown in used.values()]
    return tabulate(cells, heads, tablefmt=style, disable_numparse=True, colalign=sides)


def certificate_table(certificate: Mapping[str, Any], style: str = "pipe") -> str:
    """What trimming did to a text, beside what it was before.

    Args:
        certificate (`Mapping`): A certificate of a vocabulary, or a comparison of two, as a mapping.
        style (`str`, *optional*, defaults to `"pipe"`): As in [`make_table`].
    """
    rows = []
    for key, (head, shown) in CERTIFICATE_ROWS.items():
        rows.append({"": head, "trimmed": shown(certificate[key]), "before": shown(certificate[f"untrimmed_{key}"])})
    right = "{}".format  # a number already; what `str` shows would stand at the left
    return make_table(rows, {"": ("", str), "trimmed": ("trimmed", right), "before": ("before", right)}, style)


def _cell(value: Any, shown: Callable[[Any], str], missing: str) -> str:
    return missing if value is None else shown(value)
