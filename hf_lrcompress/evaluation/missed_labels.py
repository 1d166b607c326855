"""Labels that a model never predicts: a score may look whole where half of what is asked was not learned."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

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
    asked = Counter(_labels(task, references))
    given = set(_labels(task, predictions))
    return {label: count / asked.total() for label, count in asked.most_common() if label not in given}


def _labels(task: Task, examples: Iterable[Sequence[str]]) -> Iterator[str]:
    """The labels of texts or words, or the types of spans."""
    for example in examples:
        tags = [example] if isinstance(example, str) else example
        yield from _types_of_spans(tags) if task.spans else tags


def _types_of_spans(tags: Sequence[str]) -> Iterator[str]:
    """The type of every span of a sentence, as seqeval finds them: one begins with B-, or with an I- that continues none."""
    for before, tag in pairwise(["O", *tags]):
        goes_on = tag[0] == "I" and before[0] != "O" and before[2:] == tag[2:]
        if tag[0] != "O" and not goes_on:
            yield tag[2:]
