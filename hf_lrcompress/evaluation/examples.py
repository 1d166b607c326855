"""A task's data: texts and their labels, or words and their tags, in three splits."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hf_lrcompress.evaluation.tasks import Task

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
"""The splits, and the names that a file of each may have."""


@dataclass(frozen=True)
class Example:
    """A text and its label, or tokens and their tags."""

    inputs: str | tuple[str, ...]
    labels: str | tuple[str, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        """Its labels: one of a text, one of every token."""
        return (self.labels,) if isinstance(self.labels, str) else self.labels


@dataclass(frozen=True)
class TaskData:
    """A task's data in one language.

    Args:
        task ([`Task`]): The task.
        train (`tuple[Example, ...]`): What a model is trained on.
        validation (`tuple[Example, ...]`): What its epoch and learning rate are chosen on.
        test (`tuple[Example, ...]`): What it is scored on.
        source (`str`, *optional*): Data set on the Hub, or name of the local folder.

    Raises:
        ValueError: If a split is empty, or has a label that `train` lacks.
    """

    task: Task
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    source: str = "local"

    def __post_init__(self) -> None:
        for name in SPLITS:
            if not getattr(self, name):
                raise ValueError(f"{self.task.name}: the {name} split is empty; every task needs train, validation and test")
        known = set(self.labels)
        for name in ("validation", "test"):
            unknown = sorted(_labels_of(getattr(self, name)) - known)
            if unknown:
                raise ValueError(
                    f"{self.task.name}: label {unknown[0]!r} in the {name} split is not in train; "
                    "correct it or leave out its examples"
                )

    @property
    def labels(self) -> list[str]:
        """The labels, sorted; what a model predicts is an index into them."""
        return sorted(_labels_of(self.train))

    @property
    def most_frequent_label(self) -> str:
        """The most frequent label of `train`, of equally frequent ones the first."""
        counts = Counter(label for example in self.train for label in example.tags)
        return counts.most_common(1)[0][0]

    @property
    def train_overlap(self) -> float:
        """Share of the test texts that occur in `train` as well."""
        seen = {example.inputs for example in self.train}
        return sum(example.inputs in seen for example in self.test) / len(self.test)


def _labels_of(examples: tuple[Example, ...]) -> set[str]:
    return {label for example in examples for label in example.tags}


def checked_example(inputs: Any, labels: Any, task: Task, where: str) -> Example:
    """An example, once its parts are what the task needs."""
    if not task.tokens:
        if not isinstance(inputs, str) or not inputs.strip() or not isinstance(labels, str | int):
            raise ValueError(f"{where}: {task.name} needs a text that is not blank and a label")
        return Example(inputs, str(labels))
    if not _is_list_of_strings(inputs) or not _is_list_of_strings(labels) or not inputs:
        raise ValueError(f"{where}: {task.name} needs a list of tokens and a list of their tags")
    if len(inputs) != len(labels):
        raise ValueError(f"{where}: {len(inputs)} tokens but {len(labels)} tags; give a tag for every token")
    return Example(tuple(inputs), tuple(labels))


def _is_list_of_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
