"""The points of a study as runs: the configuration of each, and what each would make."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hf_lrcompress.files import fingerprint
from hf_lrcompress.messages import named, noted, refuse, shown
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.preparation import PreparedRun, prepare
from hf_lrcompress.run.stage_record import StageRecord
from hf_lrcompress.run.unused_settings import check_stages_of
from hf_lrcompress.run.yaml_files import override
from hf_lrcompress.stages import DEFAULT_STAGES, STAGES
from hf_lrcompress.stages.training import TrainingStage
from hf_lrcompress.studies.definition import Changes
from hf_lrcompress.texts.languages import Language

EVALUATE = "evaluate"
CURVE = {"eval_strategy": "steps", "eval_steps": 0.1, "eval_on_start": True}
"""Training arguments that give a curve of eleven points: for the last training of a run, where nothing else is asked for."""


@dataclass(frozen=True)
class Point:
    """A setting of a study with a seed: one run.

    Args:
        setting (`str`): Name of the setting.
        seed (`int`): The run's seed.
        changes (`Mapping`): What the setting changes.
        config ([`RunConfig`]): The run.
    """

    setting: str
    seed: int
    changes: Changes
    config: RunConfig

    @property
    def name(self) -> str:
        """The point, for people."""
        return f"{self.setting}, seed {self.seed}"

    @property
    def directory(self) -> str:
        """Name of its run folder."""
        name = re.sub(r"[^\w.]+", "-", self.setting)
        return f"{name}-seed{self.seed}"


@dataclass(frozen=True)
class PlannedPoint:
    """A point, and the stages that it needs.

    Args:
        point ([`Point`]): The point.
        stages (`Mapping[str, str]`): Fingerprints of the teacher as it comes and of every stage, by directory.
    """

    point: Point
    stages: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that its result depends on."""
        return fingerprint(*self.stages.values())

    @property
    def fingerprint_of_run(self) -> str:
        """What the report of its run has: that of the last stage."""
        return list(self.stages.values())[-1]

    def records(self) -> dict[str, StageRecord]:
        """The records that its stages begin with, by directory."""
        return {name: StageRecord(name.partition("-")[2], stage) for name, stage in self.stages.items()}


def make_points(
    mapping: Mapping[str, Any],
    settings: Mapping[str, Changes],
    seeds: Sequence[int],
    task_data: Mapping[str, str],
    language: Language,
) -> list[Point]:
    """The configuration of every setting with every seed.

    Args:
        mapping (`Mapping`): The configuration that the settings change.
        settings (`Mapping[str, Mapping]`): The changes of each setting.
        seeds (`Sequence[int]`): The seeds.
        task_data (`Mapping[str, str]`): Folders of tasks that the last model of each run is scored on.
        language ([`Language`]): The target language.

    Raises:
        ValueError: All that is wrong with the configuration, or else with the settings.
    """
    RunConfig.from_mapping(mapping, language)
    found: list[str] = []
    points = []
    for setting, changes in settings.items():
        own: list[str] = []
        with noted(own):
            changed = _with_tasks(_changed(mapping, changes), task_data)
            check_stages_of(changes, changed.get("stages", DEFAULT_STAGES))
            configs = [RunConfig.from_mapping(changed | {"seed": seed}, language) for seed in seeds]
            points += [Point(setting, config.seed, changes, _with_curve(config)) for config in configs]
        found += [f"{setting}: {said}" for said in own]
    refuse(found)
    _check_directories(points)
    return points


def _with_curve(config: RunConfig) -> RunConfig:
    """The last training alone draws one: nobody looks at those before it, and evaluations take long."""
    asked = {key: value for key, value in CURVE.items() if key not in config.training}
    for name, stage in reversed(list(config.stages.items())):
        if isinstance(stage, TrainingStage) and getattr(stage, "distil", True):
            with_curve = replace(stage, training=asked | dict(stage.training))
            return replace(config, stages={**config.stages, name: with_curve})
    return config


def _changed(mapping: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    changed = dict(mapping)
    for key, value in changes.items():
        changed = override(changed, key, value)
    return changed


def _with_tasks(mapping: dict[str, Any], task_data: Mapping[str, str]) -> dict[str, Any]:
    """With the stage `evaluate` last if there are tasks; it scores the last model alone, if nothing else is asked for."""
    names = mapping.get("stages", list(DEFAULT_STAGES))
    settings = mapping.get(EVALUATE) or {}
    if not isinstance(settings, Mapping):
        raise ValueError(f"{EVALUATE} must be a section of key: value lines, got {shown(settings)}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return mapping  # is refused as in every run
    if not (task_data or EVALUATE in names):
        return mapping
    made = [name for name in names if name != EVALUATE]
    models = [name for name in made if name in STAGES and STAGES[name].makes_model]
    evaluate: dict[str, Any] = {"models": models[-1:]} | dict(settings)
    if task_data:
        evaluate |= {"data": dict(task_data), "tasks": list(task_data)}
    return mapping | {"stages": [*made, EVALUATE], EVALUATE: evaluate}


def _check_directories(points: Sequence[Point]) -> None:
    """Refuse names that differ in punctuation only."""
    by_directory: dict[str, Point] = {}
    for point in points:
        other = by_directory.setdefault(point.directory, point)
        if other is not point:
            raise ValueError(f"points {other.setting!r} and {point.setting!r} would share a folder; give one another name")


def plan_point(point: Point, prepared: PreparedRun) -> PlannedPoint:
    """What the run of a point will make."""
    return PlannedPoint(point, {planned.directory: planned.fingerprint for planned in prepared.plan})


def prepare_point(point: Point, check_texts: bool) -> PreparedRun:
    """Prepare the run of a point.

    Args:
        point ([`Point`]): The point.
        check_texts (`bool`): Whether to let every stage check the texts, too.

    Raises:
        ValueError, OSError, ImportError: One line; what is wrong with the point alone begins with its name.
    """
    with named(point.setting):
        prepared = prepare(point.config)
        if check_texts:
            prepared.check_texts()
    return prepared


def check_all_differ(planned: Sequence[PlannedPoint]) -> None:
    """Refuse points that would be the same run, so that what they differ in would be nothing but chance.

    Raises:
        ValueError: If there are two.
    """
    by_fingerprint: dict[str, Point] = {}
    for each in planned:
        other = by_fingerprint.setdefault(each.fingerprint, each.point)
        if other is not each.point:
            names = f"{other.setting!r} and {each.point.setting!r}"
            raise ValueError(f"points {names} are the same run: nothing that they change has an effect; leave one out")
