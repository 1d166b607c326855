"""Compress a multilingual encoder into a monolingual one.

accelerate launch recipes/compress.py --lang sk
accelerate launch recipes/compress.py --lang sk --config recipes/configs/demo.yaml   # no Hub, no GPU
"""

import argparse
import logging
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from hf_lrcompress.demo.texts import DEMO_NOTICE
from hf_lrcompress.files import free_bytes
from hf_lrcompress.machine import Meter
from hf_lrcompress.messages import check_settings, noted, one_line, read_all, refuse, shown
from hf_lrcompress.pipeline import Pipeline
from hf_lrcompress.publishing.hub import Publish
from hf_lrcompress.publishing.licence import check_license, license_of, teacher_license
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.folder import MODEL_DIR, read_complete_run
from hf_lrcompress.run.planning import summary
from hf_lrcompress.run.preparation import PreparedRun, prepare
from hf_lrcompress.run.size_target import parameters_of, parse_count
from hf_lrcompress.run.yaml_files import override, parse_yaml, read_yaml, values_in
from hf_lrcompress.tables import STAGE_COLUMNS, make_table
from hf_lrcompress.texts.languages import Language

RAISED_AGAIN_AFTER = 10.0
"""Seconds after which an interruption that ended nothing is raised again."""
DEFAULT_CONFIG = Path(__file__).parent / "configs" / "paper-xlmr.yaml"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--lang", required=True, help="target language, a BCP-47 tag such as sk")
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="YAML file (default: the paper's for XLM-R)")
    parser.add_argument("--output_dir", help="the run folder (default: runs/LANG-CONFIG)")
    parser.add_argument("--teacher", help="Hub id or directory of a multilingual masked LM")
    parser.add_argument("--trust_remote_code", action="store_true", help="run its own code, if transformers lacks its type")
    parser.add_argument("--train_file", nargs="+", help=".txt, .jsonl, .csv, .tsv (or .gz of them) or .parquet files to train on")
    parser.add_argument("--validation_file", nargs="+", help="the same, to validate on")
    parser.add_argument("--stages", help="comma-separated stages, in order")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as trim_vocab.vocab_size=20000")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--target_parameters", help="choose the sizes so that the model has at most so many, such as 25M")
    target.add_argument("--target_mb", type=float, help="the same in megabytes of fp32 weights")
    parser.add_argument("--dry_run", action="store_true", help="print every stage's sizes and memory while it trains, then stop")
    parser.add_argument("--overwrite", action="store_true", help="make stages again that were made with other settings")
    parser.add_argument("--push_to_hub", action="store_true", help="publish the model when it is made, private unless --public")
    parser.add_argument("--hub_model_id", help="ORG/NAME or USER/NAME, for --push_to_hub")
    parser.add_argument("--hub_revision", default="main", help="the branch to commit to (default: main)")
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    parser.add_argument("--license", help="of the model, where its teacher's card states none")
    return parser.parse_args(arguments)


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration file with the command line's changes.

    Raises:
        ValueError: All that is wrong with both.
    """
    check_settings(values_in(vars(arguments)))
    mapping: dict[str, Any] = read_yaml(arguments.config)
    found: list[str] = []
    if arguments.teacher:
        mapping |= {"teacher": arguments.teacher, "teacher_revision": None}
    for name in ("train", "validation"):
        if files := getattr(arguments, f"{name}_file"):
            mapping[name] = {"files": files}
    if arguments.trust_remote_code:
        mapping["trust_remote_code"] = True
    if arguments.license is not None:
        mapping["license"] = arguments.license
    if arguments.stages:
        mapping["stages"] = [name.strip() for name in arguments.stages.split(",")]
    for change in arguments.set:
        with noted(found):
            mapping = changed(mapping, change)
    language = Language.from_tag("en")
    with noted(found):
        language = Language.from_tag(arguments.lang)
    with noted(found):
        config = RunConfig.from_mapping(mapping, language)
    refuse(found)
    return config


def changed(mapping: dict[str, Any], change: str) -> dict[str, Any]:
    """A configuration with the change of a `--set`."""
    key, equals, value = change.partition("=")
    if not equals:
        raise ValueError(f"--set {shown(change)}: give it as key=value")
    return override(mapping, key.strip(), parse_yaml(value, f"--set {key}"))


def budget_of(arguments: argparse.Namespace) -> int | None:
    """The most parameters that the model may have, where `--target_parameters` or `--target_mb` is given."""
    if arguments.target_parameters is not None:
        return parse_count(arguments.target_parameters)
    return None if arguments.target_mb is None else parameters_of(arguments.target_mb)


def publish_target(arguments: argparse.Namespace) -> Publish | None:
    """Where to publish."""
    if not arguments.push_to_hub:
        if arguments.hub_model_id:
            raise ValueError("--hub_model_id does nothing without --push_to_hub")
        return None
    if not arguments.hub_model_id:
        raise ValueError("--push_to_hub needs --hub_model_id ORG/NAME")
    return Publish(arguments.hub_model_id, arguments.public, arguments.hub_revision, arguments.overwrite)


def check_publish(target: Publish | None, prepared: PreparedRun) -> None:
    """Ask the Hub whether this run may be published."""
    if target is None:
        return
    config = prepared.given
    of_teacher = teacher_license(config)
    check_license({"license": config.license} if config.license else of_teacher, of_teacher, config.teacher_name)
    target.check(prepared.plan[-1].fingerprint)


def publish(target: Publish, output_dir: Path) -> int:
    """Publish the complete run; the exit code."""
    try:
        report = read_complete_run(output_dir)
        print(f"Published: {target.run(output_dir / MODEL_DIR, report['fingerprint'], license_of(report))}")
    except (ValueError, OSError) as error:
        later = f"the model is in {output_dir / MODEL_DIR}; later: python recipes/publish.py {output_dir} {target.hub_model_id}"
        print(f"error: {said_of(error)}; {later}", file=sys.stderr)
        return 2
    return 0


def use_all_cores() -> None:
    """`accelerate launch` gives a CPU process one thread unless told otherwise; a process that is alone may have them all."""
    if PartialState().num_processes == 1 and not torch.cuda.is_available() and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


def said_of(error: Exception) -> str:
    """What an error says in one line, and where the disk is full how much is free."""
    said = one_line(error)
    if "No space left" in said:
        folder = Path(getattr(error, "filename", None) or ".").parent
        said += f" ({free_bytes(folder) / 1e6:,.0f} MB are free)"
    return said


def interrupt(*signal_and_frame: Any) -> None:
    """Raise what Ctrl-C raises; again if it was lost, as in a callback out of C, where Python prints exceptions and goes on."""
    again = threading.Timer(RAISED_AGAIN_AFTER, signal.raise_signal, [signal.SIGINT])
    again.daemon = True
    again.start()
    raise KeyboardInterrupt


def main() -> int:
    arguments = parse_arguments()
    # Others wait while one process reads and counts a large corpus.
    main_process = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=1)).is_main_process
    logging.basicConfig(level=logging.INFO if main_process else logging.ERROR, format="%(message)s")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()  # transformers 5 shows one for every model that it loads
    use_all_cores()
    try:
        given = read_all(
            config=lambda: read_config(arguments), budget=lambda: budget_of(arguments), target=lambda: publish_target(arguments)
        )
        config = given.config
        if config.machine_written and main_process:
            print(DEMO_NOTICE, flush=True)
        meter = None if arguments.dry_run else Meter(energy=PartialState().num_processes == 1)
        prepared = prepare(config, given.budget)
        check_publish(given.target, prepared)
        if arguments.dry_run:
            prepared.check_texts()
            if main_process:
                print(make_table(summary(prepared.plan), STAGE_COLUMNS, style="simple", missing="–"))
            return 0
        output_dir = Path(arguments.output_dir or Path("runs") / f"{config.language.tag}-{Path(arguments.config).stem}")
        pipeline = Pipeline(prepared, output_dir, arguments.overwrite, keep=[str(arguments.config)], meter=meter)
    except (ValueError, OSError, ImportError) as error:
        if main_process:
            print(f"error: {said_of(error)}", file=sys.stderr)
        return 2
    try:
        model_dir = pipeline.run()
    except (FloatingPointError, OSError, SafetensorError) as error:
        print(f"error: {said_of(error)}; the same command goes on from there", file=sys.stderr)
        return 1
    if main_process:
        print((output_dir / "report.md").read_text(encoding="utf-8"))
        print(f"The model: {model_dir}")
        if given.target:
            return publish(given.target, output_dir)
    return 0


def run_until_interrupted() -> int:
    """[`main`], which Ctrl-C and SIGTERM end alike; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        return main()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("\ninterrupted; the same command resumes", file=sys.stderr)  # after a progress bar, on a line of its own
        return 130


if __name__ == "__main__":
    sys.exit(run_until_interrupted())
