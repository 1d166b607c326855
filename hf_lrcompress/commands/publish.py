"""Publish the model of a complete run on the Hugging Face Hub, private unless told otherwise."""

import argparse
import logging
from pathlib import Path

from hf_lrcompress.commands.process import full_disk_named
from hf_lrcompress.models.identity import MODEL_DIR
from hf_lrcompress.models.sentence_modules import names_of_module_files
from hf_lrcompress.publishing.hub import Publish
from hf_lrcompress.publishing.hub_files import files_to_publish
from hf_lrcompress.publishing.licence import check_license, license_of, recorded_license
from hf_lrcompress.publishing.metadata import render_eval_results
from hf_lrcompress.run.folder import CARD_FILE, FIGURES, model_files, read_complete_run

logger = logging.getLogger(__name__)


def read_benchmarks(values: list[str]) -> dict[str, str]:
    """Data set id → task id."""
    benchmarks = {}
    for value in values:
        dataset, _, task = value.partition("=")
        if "/" not in dataset or not task:
            raise ValueError(f"--eval_results {value}: give it as DATASET_ID=TASK_ID, such as Davlan/sib200=slk_Latn")
        benchmarks[dataset] = task
    return benchmarks


def not_of_the_run(run_dir: Path) -> list[str]:
    """What lies in a run's `model/`, is published with it, and was put there by somebody else."""
    model_dir = run_dir / MODEL_DIR
    made = {CARD_FILE, *FIGURES, *model_files(run_dir), *names_of_module_files(model_dir)}
    names = [path.relative_to(model_dir).as_posix() for path in files_to_publish(model_dir)]
    return [name for name in names if name not in made]


def run(arguments: argparse.Namespace) -> int:
    """Publish, and print where the model is; the exit code."""
    target = Publish(arguments.hub_model_id, arguments.public, arguments.hub_revision, arguments.overwrite)
    report = read_complete_run(arguments.run_dir)
    of_teacher = recorded_license(report)
    license = license_of(report, of_teacher) if arguments.license is None else {"license": arguments.license}
    check_license(license, of_teacher, report["teacher"])
    eval_results = render_eval_results(report, read_benchmarks(arguments.eval_results))
    others = not_of_the_run(arguments.run_dir)
    if others:
        logger.warning("published as well, though the run has not made it: %s", ", ".join(others))
    with full_disk_named(arguments.run_dir):
        url = target.run(arguments.run_dir / MODEL_DIR, report["fingerprint"], license, eval_results)
    print(f"Published: {url}")
    return 0
