"""Labels that a model never predicts: a score may look whole where half of what is asked was not learned."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from hf_lrcompress.evaluation.tasks import Task


def missed_labels(task: Task, predictions: Iterable[Sequence[str]], references: Iterable[Sequence[str]]) -> dict[str, float]:
    """Which labels of the references no prediction has.

    Args:
        task ([`Task`]): The task. Where its tags mark spans, their types count, such as `LOC`.
        predictions (`Iterable[Sequence[str]]`): What a model says: a label for every text, or a list of tags for every sentence.
        references (`Iterable[Sequence[str]]`): What is right.

    Returns:
        `dict[str, float]`: Label → its share of the references (of texts, words or spans), the most frequent first.
    """
    asked = Counter(_labels(task, references, begins_only=True))
    given = set(_labels(task, predictions))
    return {label: count / asked.total() for label, count in asked.most_common() if label not in given}


def _labels(task: Task, examples: Iterable[Sequence[str]], begins_only: bool = False) -> Iterator[str]:
    """The labels of texts or words, or the types of spans: of every word in one, or of those only that begin one."""
    for example in examples:
        for label in [example] if isinstance(example, str) else example:
            if not task.spans:
                yield label
            elif label.startswith("B" if begins_only else ("B", "I")):
                yield label[2:]
