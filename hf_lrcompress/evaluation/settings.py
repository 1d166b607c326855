"""How models are trained on tasks: settings that a stage, a command line and Python share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hf_lrcompress.messages import shown

if TYPE_CHECKING:
    from hf_lrcompress.evaluation.tasks import Task

TUNINGS = ("seq_bn", "full")
FACTOR = 16
"""The reduction factor of the paper's adapters, the usual one."""
SMALL_HIDDEN_SIZE = 564
"""Up to this hidden size a model is small (arXiv 2505.16956, figure 10)."""

QUICK_LEARNING_RATE = 5e-4
"""Of the quick preset, for adapters on every task. In its epochs a small model learns too little at the paper's rates: that of
`small-cpu` had 68 on Slovak topics at 1e-4 and 83 at this one, on parts of speech 48 and 89 (4 epochs), nothing on sentiment."""


def check_workers(workers: int) -> None:
    """Raise a `ValueError` if so many trainings cannot run at once."""
    if type(workers) is not int or workers < 1:
        raise ValueError(f"workers must be a whole number of 1 or more, got {workers!r}")


def chosen_seeds(seeds: Sequence[int], quick: bool) -> tuple[int, ...]:
    """Those that are given; if none are, the quick preset's only one, or the paper's three."""
    if not seeds:
        return (42,) if quick else (42, 43, 44)
    check_seeds(seeds)
    return tuple(seeds)


def check_seeds(seeds: Sequence[int]) -> None:
    """Raise a `ValueError` if a seed is none that all generators of random numbers take, or there is none."""
    if not seeds:
        raise ValueError("seeds: give at least one")
    for seed in seeds:
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise ValueError(f"seeds must be whole numbers from 0 to {2**32 - 1}, got {shown(seed)}")
    check_differ("seeds", seeds)


def check_differ(name: str, values: Sequence[Any]) -> None:
    """Raise a `ValueError` if what is to be compared or averaged is there twice.

    Args:
        name (`str`): What the values are.
        values (`Sequence`): The values.
    """
    if len(set(values)) < len(values):
        raise ValueError(f"{name} must differ from each other, got {list(values)}")


def read_pairs(option: str, values: list[str], form: str) -> dict[str, str]:
    """What is given for single tasks, by task."""
    pairs = {}
    for value in values:
        task, equals, given = value.partition("=")
        if not equals:
            raise ValueError(f"--{option} {value}: give it as {form}")
        pairs[task] = given
    return pairs


def _setting(default: Any, text: str) -> Any:
    """A field with what a command line says of it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TaskTraining:
    """How a model is trained on a task, where that is not the task's own.

    What each setting is stands beside it: `hf-lrcompress evaluate` has an option for each, and the stage `evaluate` a key.

    Raises:
        ValueError: If a value is out of range, or there are no adapters whose size is given.
    """

    tuning: str = _setting("seq_bn", "what is trained: seq_bn (adapters and head, the default) or full (everything)")
    reduction_factor: int = _setting(FACTOR, "hidden size divided by the size of an adapter's bottleneck (default: 16)")
    small_reduction_factor: int | None = _setting(None, "the same, for models of hidden size up to 564, such as 2")
    learning_rates: tuple[float, ...] = _setting(
        (),
        "such as 1e-4,5e-4,1e-3: of those that fail with no seed the best on validation, by the first "
        "(default: the paper's, with quick 5e-4)",
    )
    quick: bool = _setting(
        False, "fewer epochs of sa, ner and pos; if none are given one seed and, for adapters, a learning rate of 5e-4"
    )
    epochs: int | None = _setting(None, "instead of each task's own")
    patience: int | None = _setting(None, "stop after so many epochs without a better one")
    label_all_tokens: bool = _setting(False, "every token of a word learns its tag, not only the first")

    def __post_init__(self) -> None:
        if self.tuning not in TUNINGS:
            raise ValueError(f"tuning must be {' or '.join(TUNINGS)}, got {self.tuning!r}")
        for name in ("reduction_factor", "small_reduction_factor", "epochs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        for name, without in (("reduction_factor", FACTOR), ("small_reduction_factor", None)):
            value = getattr(self, name)
            if self.tuning == "full" and value != without:
                raise ValueError(f"{name} {value} changes nothing, tuning full has no adapters; leave one of them out")
        for rate in self.learning_rates:
            if type(rate) not in (int, float) or not 0 < rate < math.inf:
                raise ValueError(f"learning_rates must be numbers above 0, such as 1e-4, got {rate!r}")
        check_differ("learning_rates", self.learning_rates)

    def of_model(self, hidden_size: int) -> "TaskTraining":
        """The same with the one reduction factor that a model of this hidden size has."""
        is_small = hidden_size <= SMALL_HIDDEN_SIZE
        factor = self.small_reduction_factor if is_small else None
        return replace(self, reduction_factor=factor or self.reduction_factor, small_reduction_factor=None)

    def with_rate(self, learning_rate: float) -> "TaskTraining":
        """The same with one learning rate, for one training."""
        return replace(self, learning_rates=(learning_rate,))

    def rates_of(self, task: "Task") -> tuple[float, ...]:
        """The learning rates to choose from on a task: without any the quick preset's of adapters, or the task's own."""
        quick_adapters = self.quick and self.tuning == "seq_bn"
        own = QUICK_LEARNING_RATE if quick_adapters else task.learning_rate
        return self.learning_rates or (own,)

    def epochs_of(self, task: "Task") -> int:
        """The epochs that a task is trained for."""
        own = task.quick_epochs if self.quick else task.epochs
        return self.epochs or own

    def check_factors(self, factors: Sequence[int]) -> None:
        """Raise if adapters of these sizes cannot be compared.

        Args:
            factors (`Sequence[int]`): Reduction factors.

        Raises:
            ValueError: If there are no adapters, or a reduction factor is out of range.
        """
        if factors and self.tuning != "seq_bn":
            raise ValueError("reduction_factors compares adapters; it needs tuning seq_bn")
        for factor in factors:
            if type(factor) is not int or factor < 1:
                raise ValueError(f"reduction_factors must be whole numbers of 1 or more, got {factor!r}")
        check_differ("reduction_factors", factors)
