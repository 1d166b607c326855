"""What may be said of a row of scores: whether it is above guessing, what it keeps of another, how fully it was trained."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.messages import cut

NEAR_BASELINE = 1 / 20
"""A score is near the majority baseline up to this share of the way from there to a perfect score."""

PARTLY_LEARNED = 1 / 20
"""A task is learned in part where labels are never predicted that make up more than this share of the test."""

NAMED_LABELS = 3
"""How many labels that are never predicted are named; the others are counted."""

LONGEST_NAME = 20
"""Up to how many characters such a label is shown whole: a topic may be named by a sentence, and a table has many columns."""

PAPER_SEEDS = 3


def is_at_baseline(row: Mapping[str, Any]) -> bool:
    """Whether a score is at or near that of always answering with the most frequent label.

    Args:
        row (`Mapping`): A row of [`score_models`]. An old one has no baseline; it counts as above it.
    """
    baseline = row.get("majority")
    return baseline is not None and row["mean"] <= baseline + NEAR_BASELINE * (1 - baseline)


def is_partly_learned(row: Mapping[str, Any]) -> bool:
    """Whether labels that matter are never predicted.

    Args:
        row (`Mapping`): A row of [`score_models`], or the result of one training. Of an old one nothing is known; it counts as
            learned.
    """
    return sum(row.get("missed", {}).values()) > PARTLY_LEARNED


def missed_of_all(results: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Of several trainings or rows, each judged alone: what those never predict that have learned a part only.

    Args:
        results (`Iterable[Mapping]`): Results of trainings, or rows of [`score_models`].

    Returns:
        `dict[str, float]`: Label → its share of the test, the most frequent first.
    """
    missed: dict[str, float] = {}
    for result in results:
        if is_partly_learned(result):
            missed |= result["missed"]
    return dict(sorted(missed.items(), key=lambda item: -item[1]))


def missed_text(row: Mapping[str, Any]) -> str:
    """The labels that are never predicted, such as "LOC and ORG"; nothing where the task is learned.

    Args:
        row (`Mapping`): A row of [`score_models`], or the result of one training.
    """
    if not is_partly_learned(row):
        return ""
    labels = [cut(label, LONGEST_NAME) for label in row["missed"]]
    if len(labels) > NAMED_LABELS:
        labels[NAMED_LABELS:] = [f"{len(labels) - NAMED_LABELS} more"]
    return " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))


def retention(row: Mapping[str, Any], reference: Mapping[str, Any] | None) -> float | None:
    """The share of the reference's score that a model keeps; `None` where that share would say nothing.

    So it is where one of the two is at or near the baseline, and where the reference has learned the task in part only: what is
    hard was not asked of either then.

    Args:
        row (`Mapping`): The model's row of a task.
        reference (`Mapping`, *optional*): The reference's row of the same task, if it was scored.
    """
    if reference is None or is_at_baseline(row) or is_at_baseline(reference) or is_partly_learned(reference):
        return None
    return row["mean"] / reference["mean"] if reference["mean"] else None


def epochs_text(row: Mapping[str, Any]) -> str | None:
    """The epochs, such as "20", or "2 of 20" where the paper has more; `None` where an old row does not say them.

    Args:
        row (`Mapping`): A row of [`score_models`].
    """
    epochs = row.get("epochs")
    if epochs is None:
        return None
    paper = TASKS[row["task"]].epochs
    return f"{epochs:g} of {paper}" if epochs < paper else f"{epochs:g}"


def tuning_text(row: Mapping[str, Any]) -> str:
    """What is trained, and with adapters how large they are, such as "seq_bn with r = 16"; an old row does not know it.

    Args:
        row (`Mapping`): A row of [`score_models`].
    """
    factor = row.get("reduction_factor") if row["tuning"] == "seq_bn" else None
    return f"{row['tuning']} with r = {factor}" if factor else row["tuning"]


def shortenings(row: Mapping[str, Any]) -> list[str]:
    """What of the paper's protocol was left out: seeds, epochs, the rest of a training that got no better.

    Args:
        row (`Mapping`): A row of [`score_models`].
    """
    found = []
    if len(row["seeds"]) < PAPER_SEEDS:
        found.append(f"{len(row['seeds'])} of {PAPER_SEEDS} seeds")
    epochs = epochs_text(row)
    if epochs and " of " in epochs:
        found.append(f"{epochs} epochs")
    if not epochs and row["quick"]:
        found.append("the quick preset's epochs")
    if row.get("patience"):
        found.append(f"stopped after {row['patience']} epochs without a better one")
    return found


def partly_notice(scores: Sequence[Mapping[str, Any]]) -> str | None:
    """One short line that names the tasks of which a model has learned a part; `None` if there is none.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
    """
    tasks = dict.fromkeys(row["task"].upper() for row in scores if is_partly_learned(row) and not is_at_baseline(row))
    return f"Learned in part: {', '.join(tasks)}." if tasks else None


def shortened_notice(scores: Sequence[Mapping[str, Any]]) -> str | None:
    """One line that says how the trainings fell short of the paper's; `None` if they did not.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
    """
    tasks: dict[str, dict[str, None]] = {}
    for row in scores:
        for shortening in shortenings(row):
            tasks.setdefault(shortening, {})[row["task"].upper()] = None
    found = [f"{shortening} ({', '.join(names)})" for shortening, names in tasks.items()]
    return f"Shortened: {'; '.join(found)}. Not comparable with published scores." if found else None
