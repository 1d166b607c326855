"""Settings that would change nothing."""

from collections.abc import Iterable
from typing import Any

from hf_lrcompress.stages import STAGES

CHOSEN_BY_A_TARGET = ("reduce_layers.num_hidden_layers", "truncate_hidden.hidden_size")
"""Sizes that a target leaves nothing of; of neurons and tokens it takes those of the configuration where they are fewer."""


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
