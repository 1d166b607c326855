"""Scores: the `evaluate` modules of this package, loaded from where it is installed and never from the network."""

import importlib
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = Path(__file__).parent / "modules"
EXTRA = ("evaluate", "seqeval", "scikit-learn")


def check_installed() -> None:
    """Raise if what the evaluation needs beyond the package is not there.

    Raises:
        ImportError: Which package, and how to install it.
    """
    for name in EXTRA:
        try:
            version(name)
        except PackageNotFoundError:
            raise ImportError(f'the evaluation needs {name}: pip install ".[eval]" in the repository') from None


def score(metric: str, predictions: Sequence, references: Sequence) -> dict[str, float]:
    """Score predictions.

    Args:
        metric (`str`): `"macro_f1"` (labels of texts) or `"seqeval_f1"` (lists of tags).
        predictions (`Sequence`): What a model says: a label for every text, or a list of tags for every sentence.
        references (`Sequence`): What is right, in the same order.

    Returns:
        `dict[str, float]`: Fractions: under the metric's name the score, and `accuracy`.
    """
    return _load(metric).compute(predictions=list(map(_plain, predictions)), references=list(map(_plain, references)))


@cache
def _load(metric: str) -> Any:
    return _library().load(str(MODULES / f"{metric}.py"), keep_in_memory=True)


def _library() -> ModuleType:
    """The library `evaluate`, not a script of that name: Python looks first beside the script that was started."""
    given = list(sys.path)
    sys.path[:] = [folder for folder in given if not (Path(folder) / "evaluate.py").is_file()]
    try:
        return importlib.import_module("evaluate")
    finally:
        sys.path[:] = given


def _plain(labels: str | Sequence[str]) -> str | list[str]:
    return labels if isinstance(labels, str) else list(labels)
