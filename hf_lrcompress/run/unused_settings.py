"""Settings that would change nothing."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.loss_table import READ_BY_LOSSES, that_read
from hf_lrcompress.messages import named, shown
from hf_lrcompress.stages import STAGES, Stage
from hf_lrcompress.stages.inputs import RunInputs
from hf_lrcompress.stages.training_arguments import training_arguments

CHOSEN_BY_A_TARGET = ("reduce_layers.num_hidden_layers", "truncate_hidden.hidden_size")
"""Sizes that a target leaves nothing of."""
TAKEN_WHERE_FEWER = ("prune_ffn.intermediate_size", "trim_vocab.vocab_size")
"""Sizes that a target may take from the configuration, as the most that there may be."""


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
        if made is None or made >= wanted + padding:
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
        if all(any(key == own or key.startswith(f"{own}.") for own in changes) for changes in points):
            raise ValueError(f"--set {key} changes nothing, every point of the study has its own; leave it out")


def check_settings_are_read(inputs: RunInputs, stages: Mapping[str, Stage]) -> None:
    """Refuse settings of losses that there are not: one of a stage if its losses do not read it, one of the run if none do.

    Args:
        inputs ([`RunInputs`]): What the run starts from.
        stages (`Mapping[str, Stage]`): The stages in order, with training arguments that can be made.

    Raises:
        ValueError: If there is one.
    """
    trainings = []
    for name, stage in stages.items():
        arguments = stage.arguments(inputs, output_dir=".")
        if arguments:
            trainings.append(arguments)
            with named(name):
                _check_are_read(getattr(stage, "training", {}), [arguments])
        if getattr(stage, "score_against", None):  # by the run's losses, with no training
            trainings.append(training_arguments(inputs.training, ".", inputs.seed))
    if trainings:
        _check_are_read(inputs.training, trainings)


def _check_are_read(settings: Mapping[str, Any], trainings: Sequence[DistillationConfig]) -> None:
    usual = {each.name: each.default for each in fields(DistillationConfig)}
    for name in sorted(settings.keys() & (READ_BY_LOSSES | {"mlm_probability", "distillation_loss"})):
        if settings[name] != usual[name] and not any(training.reads(name) for training in trainings):
            readers = " and ".join(that_read(name))
            why = f"only {readers} would read it" if readers else "none of the losses reads it"
            raise ValueError(f"training: {name} {shown(settings[name])} changes nothing, {why}; leave it out")
