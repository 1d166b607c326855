"""Compare settings by many runs: what is finished is kept, and runs share the stages that they have in common."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hf_lrcompress.commands.compress import changed, given_inputs, key_of
from hf_lrcompress.commands.evaluate import read_numbers
from hf_lrcompress.commands.process import full_disk_named, on_the_way, print_error
from hf_lrcompress.demo.texts import DEMO_NOTICE
from hf_lrcompress.evaluation.settings import check_seeds, read_pairs
from hf_lrcompress.files import write_atomically
from hf_lrcompress.messages import noted, read_all, refuse
from hf_lrcompress.run.unused_settings import check_points_leave, check_stages_of
from hf_lrcompress.run.yaml_files import find_configuration, override, read_yaml
from hf_lrcompress.studies.definition import Study, read_study
from hf_lrcompress.studies.estimate import Training, describe, trainings_of
from hf_lrcompress.studies.folder import FIGURE_FILE, TABLE_FILE, StudyFolder
from hf_lrcompress.studies.points import PlannedPoint, Point, check_all_differ, make_points, plan_point, prepare_point
from hf_lrcompress.studies.results import draw_study, render_study
from hf_lrcompress.studies.running import run_points
from hf_lrcompress.texts.languages import Language


@dataclass(frozen=True)
class GivenStudy:
    """A study as it was asked for: with its points, its seeds and the name of its scale."""

    study: Study
    scale: str
    seeds: tuple[int, ...]
    points: list[Point]


def read_points(arguments: argparse.Namespace) -> GivenStudy:
    """The study with the command line's changes.

    Raises:
        ValueError, OSError: All that is wrong with both.
    """
    study = read_study(arguments.name)
    scale = study.scale(arguments.scale)
    given = read_all(
        language=partial(Language.from_tag, arguments.lang),
        task_data=partial(read_pairs, "task_data", arguments.task_data, "TASK=DIR"),
        seeds=partial(read_numbers, "seeds", arguments.seeds),
        mapping=partial(read_base, arguments, study),
    )
    seeds = tuple(given.seeds) or scale.seeds
    check_seeds(seeds)
    settings = study.points_of(scale)
    check_points_leave(map(key_of, arguments.set), list(settings.values()))
    points = make_points(given.mapping, settings, seeds, given.task_data, given.language)
    run = {name: None for point in points for name in point.config.stages}
    check_stages_of(map(key_of, arguments.set), list(run), "--set ")
    return GivenStudy(study, arguments.scale or next(iter(study.scales)), seeds, points)


def read_base(arguments: argparse.Namespace, study: Study) -> dict[str, Any]:
    """The configuration that the points change: the scale's, with its inputs and changes, then those of the command line."""
    scale = study.scale(arguments.scale)
    mapping: dict[str, Any] = read_yaml(find_configuration(scale.config)) | given_inputs(arguments)
    found: list[str] = []
    for key, value in scale.set.items():
        with noted(found):
            mapping = override(mapping, key, value)
    for change in arguments.set:
        with noted(found):
            mapping = changed(mapping, change)
    refuse(found)
    return mapping


def plan(points: list[Point], with_trainings: bool) -> tuple[list[PlannedPoint], dict[str, Training]]:
    """What every point makes, and if asked for what its stages train, by fingerprint: all is checked, nothing is computed."""
    planned = []
    trainings: dict[str, Training] = {}
    for point in points:
        prepared = prepare_point(point, check_texts=point.seed == points[0].seed)  # whether they do depends on no seed
        each = plan_point(point, prepared)
        planned.append(each)
        if with_trainings:
            trainings |= {each.stages[directory]: training for directory, training in trainings_of(prepared).items()}
    check_all_differ(planned)
    return planned, trainings


def report(given: GivenStudy, folder: StudyFolder, failed: dict[str, str]) -> str:
    """Write table and figure; the table."""
    results = folder.results()
    folder.write_results()
    settings = dict.fromkeys(point.setting for point in given.points)
    text = render_study(given.study.title, settings, given.seeds, results, failed)
    draw_study(given.study, given.seeds, results, folder.path / FIGURE_FILE)
    write_atomically(folder.path / TABLE_FILE, text)
    return text


def run(arguments: argparse.Namespace) -> int:
    """Make what is not made yet, and report; the exit code."""
    if PartialState().num_processes > 1:
        raise ValueError("a study starts its own processes; start it without accelerate launch, with --workers")
    if arguments.workers < 1:
        raise ValueError(f"--workers must be 1 or more, got {arguments.workers}")
    given = read_points(arguments)
    if given.points[0].config.machine_written and not arguments.quiet:
        print(DEMO_NOTICE, flush=True)
    planned, trainings = plan(given.points, arguments.dry_run)
    name = Path(arguments.name).stem
    tag = given.points[0].config.language.tag
    output_dir = Path(arguments.output_dir or Path("runs") / f"{tag}-study-{name}-{given.scale}")
    facts = {"study": name, "scale": given.scale}
    folder = StudyFolder(output_dir, facts, planned, arguments.reuse)
    folder.check(arguments.overwrite)
    if arguments.dry_run:
        finished = [result["fingerprint"] for result in folder.results()]
        print(describe(planned, trainings, folder.complete_stages(), finished))
        return 0
    with folder.begin(arguments.overwrite), on_the_way(), full_disk_named(folder.path):
        failed = run_points(planned, folder, arguments.workers, partial(report, given, folder))
        print(report(given, folder, failed))
    print(f"The study: {folder.path / TABLE_FILE}")
    for name, reason in failed.items():
        print_error(f"{name}: {reason}")
    if failed:
        print_error(f"{len(failed)} of {len(planned)} runs failed; the same command tries them again")
    return 1 if failed else 0
