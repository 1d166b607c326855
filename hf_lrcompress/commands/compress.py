"""Compress a multilingual encoder into a monolingual one."""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hf_lrcompress.commands.process import (
    full_disk_named,
    lost_process_named,
    on_the_way,
    use_all_cores,
)
from hf_lrcompress.demo.texts import DEMO_NOTICE
from hf_lrcompress.machine import Meter, hold_little_memory
from hf_lrcompress.messages import noted, read_all, refuse, shown
from hf_lrcompress.models.identity import MODEL_DIR
from hf_lrcompress.pipeline import Pipeline
from hf_lrcompress.publishing.hub import Publish
from hf_lrcompress.publishing.licence import check_license, license_of, recorded_license, teacher_license
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.folder import read_complete_run
from hf_lrcompress.run.further_languages import read_languages, with_languages
from hf_lrcompress.run.planning import summary
from hf_lrcompress.run.preparation import PreparedRun, prepare
from hf_lrcompress.run.size_target import parameters_of, parse_count
from hf_lrcompress.run.unused_settings import check_sizes_are_given_once, check_sizes_are_taken, check_stages_of
from hf_lrcompress.run.yaml_files import find_configuration, override, parse_yaml, read_yaml
from hf_lrcompress.stages import DEFAULT_STAGES
from hf_lrcompress.tables import STAGE_COLUMNS, make_table


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration file with the command line's changes.

    Raises:
        ValueError: All that is wrong with both.
    """
    mapping: dict[str, Any] = read_yaml(find_configuration(arguments.config))
    found: list[str] = []
    mapping |= given_inputs(arguments)
    if arguments.license is not None:
        mapping["license"] = arguments.license
    if arguments.stages is not None:
        mapping["stages"] = [name.strip() for name in arguments.stages.split(",")]
    for change in arguments.set:
        with noted(found):
            mapping = changed(mapping, change)
    with noted(found):
        check_stages_of(map(key_of, arguments.set), mapping.get("stages", DEFAULT_STAGES), "--set ")
    if arguments.target_parameters is not None or arguments.target_mb is not None:
        with noted(found):
            check_sizes_are_given_once(map(key_of, arguments.set))
    with noted(found):
        check_vocabulary_size(mapping, arguments.set)
    languages = read_languages("en")
    with noted(found):
        languages = read_languages(arguments.lang)
    with noted(found):
        mapping = with_languages(mapping, languages[1:])
    with noted(found):
        config = RunConfig.from_mapping(mapping, languages[0], languages[1:])
    refuse(found)
    return config


def given_inputs(arguments: argparse.Namespace) -> dict[str, Any]:
    """The teacher and the texts of the command line, as a configuration has them."""
    inputs: dict[str, Any] = {}
    if arguments.teacher is not None:
        if not arguments.teacher.strip():
            raise ValueError("--teacher is empty; give a Hub id or a directory, or leave it out")
        inputs |= {"teacher": arguments.teacher, "teacher_revision": None}
    for name in ("train", "validation"):
        if files := getattr(arguments, f"{name}_file"):
            inputs[name] = {"files": files}
    if arguments.trust_remote_code:
        inputs["trust_remote_code"] = True
    return inputs


def key_of(change: str) -> str:
    """What a `--set` sets."""
    return change.partition("=")[0].strip()


def changed(mapping: dict[str, Any], change: str) -> dict[str, Any]:
    """A configuration with the change of a `--set`."""
    key = key_of(change)
    _, equals, value = change.partition("=")
    if not equals:
        raise ValueError(f"--set {shown(change)}: give it as key=value")
    return override(mapping, key, parse_yaml(value, f"--set {key}"))


def budget_of(arguments: argparse.Namespace) -> int | None:
    """The most parameters that the model may have, where `--target_parameters` or `--target_mb` is given."""
    if arguments.target_parameters is not None:
        return parse_count(arguments.target_parameters)
    return None if arguments.target_mb is None else parameters_of(arguments.target_mb)


def check_vocabulary_size(mapping: dict[str, Any], changes: list[str]) -> None:
    """Refuse a `vocab_size` that is set where another rule decides it."""
    is_set = "trim_vocab.vocab_size" in map(key_of, changes)
    section = mapping.get("trim_vocab")
    if not is_set or not isinstance(section, dict):
        return
    for rule in ("min_count", "coverage"):
        if section.get(rule) is not None:
            decided = f"trim_vocab.{rule} of the configuration decides how many tokens are kept"
            raise ValueError(f"{decided}; with --set trim_vocab.vocab_size also --set trim_vocab.{rule}=null")


def default_output_dir(config: RunConfig, config_file: str) -> Path:
    """The run folder that is named after the languages and the configuration."""
    tags = [language.tag for language in (config.language, *config.further_languages)]
    return Path("runs") / "-".join([*tags, Path(config_file).stem])


def publish_target(arguments: argparse.Namespace) -> Publish | None:
    """Where to publish."""
    if not arguments.push_to_hub:
        of_hub = {"hub_model_id": None, "public": False, "hub_revision": "main"}
        given = [f"--{option}" for option, without in of_hub.items() if getattr(arguments, option) != without]
        if given:
            raise ValueError(f"{', '.join(given)} does nothing without --push_to_hub")
        return None
    if not arguments.hub_model_id:
        raise ValueError("--push_to_hub needs --hub_model_id ORG/NAME")
    return Publish(arguments.hub_model_id, arguments.public, arguments.hub_revision)  # --overwrite is of the run folder


def check_gpus(prepared: PreparedRun) -> None:
    """Refuse to train with several GPUs in one process. A study does not ask: each of its processes sees one."""
    trained = [stage.arguments(prepared.inputs, output_dir=".") for stage in prepared.stages.values()]
    if any(arguments.n_gpu > 1 for arguments in trained if arguments):
        raise ValueError("there are several GPUs: start with accelerate launch, which gives each a process")


def check_publish(target: Publish | None, prepared: PreparedRun) -> None:
    """Ask the Hub whether this run may be published."""
    if target is None:
        return
    config = prepared.given
    of_teacher = teacher_license(config)
    check_license({"license": config.license} if config.license else of_teacher, of_teacher, config.teacher_name)
    target.check(prepared.plan[-1].fingerprint)


def publish(target: Publish, output_dir: Path) -> None:
    """Publish the complete run."""
    later = f"hf-lrcompress publish {output_dir} {target.hub_model_id}"
    with on_the_way(f"; the model is in {output_dir / MODEL_DIR}; later: {later}"):
        report = read_complete_run(output_dir)
        license = license_of(report, recorded_license(report))
        print(f"Published: {target.run(output_dir / MODEL_DIR, report['fingerprint'], license)}")


@dataclass(frozen=True)
class PlannedRun:
    """A run that nothing is wrong with so far, and where it is published."""

    prepared: PreparedRun
    target: Publish | None
    meter: Meter | None


def plan(arguments: argparse.Namespace) -> PlannedRun:
    """Read and check what was given.

    Raises:
        ValueError, OSError: All that is wrong with it.
    """
    given = read_all(
        config=partial(read_config, arguments),
        budget=partial(budget_of, arguments),
        target=partial(publish_target, arguments),
    )
    if given.config.machine_written and PartialState().is_main_process and not arguments.quiet:
        print(DEMO_NOTICE, flush=True)
    meter = None if arguments.dry_run else Meter(energy=PartialState().num_processes == 1)
    prepared = prepare(given.config, given.budget)
    if given.budget is not None:
        check_sizes_are_taken(list(map(key_of, arguments.set)), given.config.stages, prepared.stages)
    check_gpus(prepared)
    check_publish(given.target, prepared)
    if arguments.dry_run:
        prepared.check_texts()
    return PlannedRun(prepared, given.target, meter)


def make_pipeline(planned: PlannedRun, output_dir: Path, arguments: argparse.Namespace) -> Pipeline:
    """The pipeline in its run folder, which keeps a configuration file that lies there."""
    config_file = str(find_configuration(arguments.config))
    return Pipeline(planned.prepared, output_dir, arguments.overwrite, keep=[config_file], meter=planned.meter)


def run(arguments: argparse.Namespace) -> int:
    """Compress, or only plan to; the exit code."""
    use_all_cores()
    hold_little_memory()
    main_process = PartialState().is_main_process
    with lost_process_named(), full_disk_named(Path(arguments.output_dir or "runs")):
        planned = plan(arguments)
        if arguments.dry_run:
            if main_process:
                print(make_table(summary(planned.prepared.plan), STAGE_COLUMNS, style="simple", missing="–"))
            return 0
        output_dir = Path(arguments.output_dir or default_output_dir(planned.prepared.given, arguments.config))
        pipeline = make_pipeline(planned, output_dir, arguments)
    again = on_the_way("; give that with --overwrite, which begins these stages again", (FloatingPointError, MemoryError))
    with again, on_the_way(), lost_process_named(), full_disk_named(output_dir, pipeline.needed_bytes):
        model_dir = pipeline.run()
    if main_process:
        print((output_dir / "report.md").read_text(encoding="utf-8"))
        print(f"The model: {model_dir}")
        if planned.target:
            publish(planned.target, output_dir)
    return 0
