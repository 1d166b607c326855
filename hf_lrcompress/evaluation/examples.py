"""A task's data: texts and their labels, or words and their tags, in three splits."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from hf_lrcompress.evaluation.tasks import NOT_IOB2, Task
from hf_lrcompress.messages import shown

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
"""The splits, and the names that a file of each may have."""

OF_OTHERS = ("title", "epochs", "quick_epochs", "everywhere", "sources")
"""What a task has for people, for trainings that ask for nothing else, and for other languages."""

LABEL_NAMES = "labels.txt"
"""The file that names labels which are numbers."""

LONGEST_INPUT = 100_000
"""Characters of an example: models read a few hundred tokens, but their tokenizers all of it."""


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
        is_local (`bool`, *optional*, defaults to `False`): Whether it is of a folder, which may be called otherwise tomorrow.

    Raises:
        ValueError: If a split is empty, has one label only, or most of its words would be cut off.
    """

    task: Task
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    source: str = "local"
    is_local: bool = False

    def __post_init__(self) -> None:
        for name in SPLITS:
            self._check(name, getattr(self, name))

    def identity(self) -> dict[str, Any]:
        """All that a score depends on: not a folder's name, nor what the task only has for other data and trainings."""
        task = {key: value for key, value in asdict(self.task).items() if key not in OF_OTHERS}
        whole = asdict(self) | {"task": task}
        if whole.pop("is_local"):
            whole["source"] = "local"
        return whole

    def _check(self, name: str, examples: tuple[Example, ...]) -> None:
        """Raise if a split cannot be learned from or scored on."""
        if not examples:
            raise ValueError(f"{self.task.name}: the {name} split is empty; every task needs train, validation and test")
        labels = sorted(_labels_of(examples))
        if len(labels) == 1:
            raise ValueError(
                f"{self.task.name}: {labels[0]!r} is the only label in the {name} split: there is nothing to tell apart; "
                "give examples with other labels too"
            )
        if self.task.tokens:
            beyond = sum(max(0, len(example.inputs) - self.task.max_length) for example in examples)
            check_cut_off(self.task, name, beyond, sum(len(example.inputs) for example in examples), self.task.max_length)

    @property
    def labels(self) -> list[str]:
        """The labels of all splits, sorted; what a model predicts is an index into them."""
        return sorted(_labels_of(self.train + self.validation + self.test))

    def not_in_train(self) -> tuple[str, float] | None:
        """Which label is in another split only, so that nothing can learn it, in words, and the share of such in that split.

        Returns:
            `tuple[str, float]` or `None`: `None` if there is none.
        """
        learned = _labels_of(self.train)
        for name in SPLITS:
            tags = [tag for example in getattr(self, name) for tag in example.tags]
            unknown = sorted(tag for tag in tags if tag not in learned)
            if unknown:
                said = f"{self.task.name}: label {unknown[0]!r} in the {name} split is not in train"
                return said, len(unknown) / len(tags)
        return None

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


def check_cut_off(task: Task, split: str, cut_off: int, words: int, max_length: int) -> None:
    """Raise if most words of a split are cut off.

    Args:
        task ([`Task`]): A task of words.
        split (`str`): The split's name.
        cut_off (`int`): How many of its words are beyond the maximum length.
        words (`int`): How many there are.
        max_length (`int`): Number of tokens at which sentences are cut off.

    Raises:
        ValueError: If more than half are.
    """
    if cut_off > words / 2:
        raise ValueError(
            f"{task.name}: {cut_off:,} of {words:,} words in the {split} split are beyond the first {max_length} tokens of their "
            "sentence; give shorter sentences (in .conll and .conllu with a blank line between them)"
        )


def checked_example(inputs: Any, labels: Any, task: Task, where: str) -> Example:
    """An example, once its parts are what the task needs."""
    if _length(inputs) > LONGEST_INPUT:
        raise ValueError(f"{where}: more than {LONGEST_INPUT:,} characters; a model reads a few hundred tokens: cut it")
    if not task.tokens:
        if not isinstance(inputs, str) or not inputs.strip():
            raise ValueError(f"{where}: {task.name} needs a text that is not blank, got {shown(inputs)}")
        if not _is_label(labels):
            raise ValueError(f"{where}: {task.name} needs a label, a text or a whole number, got {shown(labels)}")
        return Example(inputs, str(labels).strip())
    if not isinstance(inputs, list) or not isinstance(labels, list) or not inputs:
        raise ValueError(f"{where}: {task.name} needs a list of tokens and a list of their tags")
    if len(inputs) != len(labels):
        raise ValueError(f"{where}: {len(inputs)} tokens but {len(labels)} tags; give a tag for every token")
    for token, label in zip(inputs, labels, strict=True):
        _check_tag(token, label, task, where)
    return Example(tuple(inputs), tuple(label.strip() for label in labels))


def _check_tag(token: Any, label: Any, task: Task, where: str) -> None:
    """Raise if a token has no tag that can be scored."""
    if not isinstance(token, str) or not _is_label(label):
        raise ValueError(f"{where}: {task.name} needs a list of tokens and a list of their tags")
    if isinstance(label, int) or label.strip().isdecimal():
        raise ValueError(f"{where}: tag {label} is a number; put the tags' names into {LABEL_NAMES} in the folder, a line each")
    if not task.allows(label.strip()):
        raise ValueError(f"{where}: tag {label!r} {NOT_IOB2}")


def _length(inputs: Any) -> int:
    """Characters of a text or of all tokens."""
    if isinstance(inputs, list):
        return sum(len(token) for token in inputs if isinstance(token, str))
    return len(inputs) if isinstance(inputs, str) else 0


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int) and bool(str(value).strip())
