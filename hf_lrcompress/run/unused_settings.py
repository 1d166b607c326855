"""Settings that would change nothing."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from hf_lrcompress.stages import STAGES, Stage

CHOSEN_BY_A_TARGET = ("reduce_layers.num_hidden_layers", "truncate_hidden.hidden_size")
"""Sizes that a target leaves nothing of."""
TAKEN_WHERE_FEWER = ("prune_ffn.intermediate_size", "trim_vocab.vocab_size")
"""Sizes that a target may take from the configuration."""


def check_stages_of(keys: Iterable[str], stages: Any, option: str = "") -> None:
    """Refuse a setting of a stage that is not run.

    Args:
        keys (`Iterable[str]`): Dotted keys of a configuration, such as `prune_ffn.intermediate_size`.
        stages (`Any`): The stages that are run; what is no list of names is refused where the configuration is read.
        option (`str`, *optional*): What the keys were given by, such as `--set `.

    Raises:
        ValueError: If there is one.
    """
    if not isinstance(stages, list | tuple):
        return
    for key in keys:
        name, _, rest = str(key).partition(".")
        if rest and name in STAGES and name not in stages:
            raise ValueError(f"{option}{key} changes nothing, {name} is not among the stages; add it to them, or leave it out")


def check_sizes_are_given_once(keys: Iterable[str]) -> None:
    """Refuse a size beside a target size, which chooses it.

    Args:
        keys (`Iterable[str]`): Dotted keys of a configuration.

    Raises:
        ValueError: If there is one.
    """
    for key in keys:
        if key in CHOSEN_BY_A_TARGET:
            raise ValueError(f"--set {key} changes nothing, the target size chooses it; leave one of them out")


def check_sizes_are_taken(keys: Collection[str], given: Mapping[str, Stage], sized: Mapping[str, Stage]) -> None:
    """Refuse a size that a target size has replaced.

    Args:
        keys (`Collection[str]`): Dotted keys of a configuration.
        given (`Mapping[str, Stage]`): The stages as they were given.
        sized (`Mapping[str, Stage]`): The stages with the sizes of the target.

    Raises:
        ValueError: If there is one.
    """
    for key in TAKEN_WHERE_FEWER:
        name, _, size = key.partition(".")
        if key not in keys or name not in given:
            continue
        wanted = getattr(given[name], size)
        made = getattr(sized.get(name), size, None)
        padding = getattr(given[name], "pad_to_multiple_of", None) or 1
        if made is None or not wanted <= made < wanted + padding:
            instead = "leaves that stage out" if made is None else f"makes it {made}"
            raise ValueError(f"--set {key}={wanted} changes nothing, the target size {instead}; leave one of them out")


def check_points_leave(keys: Iterable[str], points: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a setting that a study decides: its seeds, and what every point changes.

    Args:
        keys (`Iterable[str]`): Dotted keys of a configuration.
        points (`Sequence[Mapping[str, Any]]`): What each point changes, by the same keys.

    Raises:
        ValueError: If there is one.
    """
    for key in keys:
        if key == "seed":
            raise ValueError("--set seed changes nothing, a study has several; give them by --seeds")
        if all(key in changes for changes in points):
            raise ValueError(f"--set {key} changes nothing, every point of the study has its own; leave it out")
