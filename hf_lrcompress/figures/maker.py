"""The one maker of figures: PNG files. Without matplotlib none is drawn, and a line says what to install."""

import logging
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger(__name__)


@cache
def can_draw() -> bool:
    """Whether matplotlib is installed; where it is not, a line says so, once."""
    if find_spec("matplotlib") is None:
        logger.warning('no figures are drawn: pip install ".[figures]" in the repository')
        return False
    return True


def write_figure(path: Path, paint: Callable[..., None], columns: int = 1, height: float = 4) -> None:
    """Paint on as many axes as there are columns, and write the file; without matplotlib there is none.

    Args:
        path (`Path`): The file.
        paint (`Callable`): Takes the axes.
        columns (`int`, *optional*, defaults to 1): How many there are, beside each other.
        height (`float`, *optional*, defaults to 4): Of the figure, in inches.
    """
    if not can_draw():
        return
    from matplotlib import rc_context  # here: only who draws needs it
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure

    with rc_context({"text.parse_math": False}):  # people's names and titles may have dollars
        figure = Figure(figsize=(max(8, 4 * columns), height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        paint(*axes)
        figure.savefig(path, dpi=150)
