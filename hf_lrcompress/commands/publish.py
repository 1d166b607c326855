"""Publish the model of a complete run on the Hugging Face Hub, private unless told otherwise."""

import argparse

from hf_lrcompress.commands.process import full_disk_named
from hf_lrcompress.publishing.hub import Publish
from hf_lrcompress.publishing.licence import check_license, license_of, recorded_license
from hf_lrcompress.publishing.metadata import render_eval_results
from hf_lrcompress.run.folder import MODEL_DIR, read_complete_run


def read_benchmarks(values: list[str]) -> dict[str, str]:
    """Data set id → task id."""
    benchmarks = {}
    for value in values:
        dataset, _, task = value.partition("=")
        if "/" not in dataset or not task:
            raise ValueError(f"--eval_results {value}: give it as DATASET_ID=TASK_ID, such as Davlan/sib200=slk_Latn")
        benchmarks[dataset] = task
    return benchmarks


def run(arguments: argparse.Namespace) -> int:
    """Publish, and print where the model is; the exit code."""
    target = Publish(arguments.hub_model_id, arguments.public, arguments.hub_revision, arguments.overwrite)
    report = read_complete_run(arguments.run_dir)
    of_teacher = recorded_license(report)
    license = license_of(report, of_teacher) if arguments.license is None else {"license": arguments.license}
    check_license(license, of_teacher, report["teacher"])
    eval_results = render_eval_results(report, read_benchmarks(arguments.eval_results))
    with full_disk_named(arguments.run_dir):
        url = target.run(arguments.run_dir / MODEL_DIR, report["fingerprint"], license, eval_results)
    print(f"Published: {url}")
    return 0
