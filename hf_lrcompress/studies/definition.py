"""What a study is: named points, each a set of changes over the configuration of a run, at one of some scales."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from hf_lrcompress.messages import check_settings, noted, refuse, shown
from hf_lrcompress.run.configuration import build
from hf_lrcompress.run.yaml_files import find_study, read_yaml, values_in

Changes = Mapping[str, Any]
"""Dotted keys of a configuration, such as `training.alpha`, and their new values."""


@dataclass(frozen=True)
class Scale:
    """How large the runs of a study are.

    Args:
        config (`str`): The configuration that all points change, by name or path.
        set (`Mapping`, *optional*): What is changed in it for all points.
        seeds (`tuple[int, ...]`, *optional*, defaults to `(42,)`): Each point is run with each of them.
        points, grid (*optional*): At this scale these points instead of the study's.
    """

    config: str
    set: Changes = field(default_factory=dict)
    seeds: tuple[int, ...] = (42,)
    points: Mapping[str, Changes] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """Points that are compared.

    Args:
        title (`str`): What is asked; stands above table and figure.
        scales (`Mapping[str, Scale]`): The scales by name; the first is used where none is named.
        points (`Mapping[str, Mapping]`, *optional*): The changes of each point, by its name.
        grid (`Mapping[str, Sequence]`, *optional*):
            Values by dotted keys; each combination is a point too, named by them: `alpha 0.5`.
        axis (`str`, *optional*): A dotted key that every point sets to a number: the figure shows what was measured against it.

    Raises:
        ValueError: If there are no points or no scales, or a point lacks the axis.
    """

    title: str
    scales: Mapping[str, Scale]
    points: Mapping[str, Changes] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    axis: str | None = None

    def __post_init__(self) -> None:
        if not self.scales:
            raise ValueError("a study needs scales: a name and config: NAME_OR_FILE for at least one")
        for name, scale in self.scales.items():
            points = self.points_of(scale)
            if not points:
                raise ValueError(f"scale {name} has no points: give names and changes, such as half: {{training.alpha: 0.5}}")
            for point, changes in points.items():
                self._check_axis(point, changes)

    def _check_axis(self, point: str, changes: Changes) -> None:
        if self.axis is None:
            return
        value = changes.get(self.axis)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"point {shown(point)} must set the axis, {self.axis}, to a number, got {shown(value)}")

    def scale(self, name: str | None) -> Scale:
        """One of the scales, by default the first.

        Raises:
            ValueError: If there is none of this name.
        """
        if name is None:
            return next(iter(self.scales.values()))
        if name not in self.scales:
            raise ValueError(f"the study has no scale {name!r}; there are: {', '.join(self.scales)}")
        return self.scales[name]

    def points_of(self, scale: Scale) -> dict[str, Changes]:
        """The points at a scale."""
        source = scale if scale.points or scale.grid else self
        named = {str(name): changes for name, changes in source.points.items()}
        combinations = product(*source.grid.values()) if source.grid else ()
        changes = [dict(zip(source.grid, values, strict=True)) for values in combinations]
        return named | {name_of(change): change for change in changes}


def name_of(changes: Changes, whole_keys: bool = False) -> str:
    """What changes are called where they have no name of their own, such as `hidden_size 312, alpha 0.5`."""
    return ", ".join(f"{key if whole_keys else key.rpartition('.')[2]} {value}" for key, value in changes.items())


def read_study(name: str) -> Study:
    """A study of the package by its name, any other by its path.

    Raises:
        FileNotFoundError: If it is neither.
        ValueError: All that is wrong with it.
    """
    path = find_study(name)
    mapping = read_yaml(path)
    check_settings(values_in(mapping))
    found: list[str] = []
    scales: dict[str, Scale] = {}
    given = mapping.get("scales") or {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{path}: scales must be a section of key: value lines, got {shown(given)}")
    for scale, settings in given.items():
        with noted(found):
            scales[str(scale)] = build(Scale, settings, f"{path}: scale {scale}")
    refuse(found)
    return build(Study, _without_empty(mapping) | {"scales": scales}, str(path))


def _without_empty(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The file without what is empty: `points:` with nothing after it is no points."""
    return {key: value for key, value in mapping.items() if value is not None}
