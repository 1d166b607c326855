"""Publish the model of a complete run on the Hugging Face Hub, private unless told otherwise.

python recipes/publish.py runs/sk-demo ORG/NAME
"""

import argparse
import sys
from pathlib import Path

from hf_lrcompress.messages import check_settings, one_line
from hf_lrcompress.publishing.hub import Publish
from hf_lrcompress.publishing.licence import check_license, license_of, stated_license
from hf_lrcompress.publishing.metadata import render_eval_results
from hf_lrcompress.run.folder import MODEL_DIR, read_complete_run
from hf_lrcompress.run.yaml_files import values_in


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("run_dir", type=Path, help="the run folder")
    parser.add_argument("hub_model_id", help="ORG/NAME or USER/NAME")
    parser.add_argument("--public", action="store_true", help="make a new repository public")
    parser.add_argument("--hub_revision", default="main", help="the branch to commit to (default: main)")
    parser.add_argument("--license", help="of the model, where its teacher's card states none")
    benchmarks = {"action": "append", "default": [], "metavar": "DATASET_ID=TASK_ID"}
    parser.add_argument("--eval_results", **benchmarks, help="list the score on this registered benchmark; may be given again")
    parser.add_argument("--overwrite", action="store_true", help="replace what another run has put there")
    return parser.parse_args(arguments)


def read_benchmarks(values: list[str]) -> dict[str, str]:
    """Data set id → task id."""
    benchmarks = {}
    for value in values:
        dataset, _, task = value.partition("=")
        if "/" not in dataset or not task:
            raise ValueError(f"--eval_results {value}: give it as DATASET_ID=TASK_ID, such as Davlan/sib200=slk_Latn")
        benchmarks[dataset] = task
    return benchmarks


def main() -> int:
    arguments = parse_arguments()
    try:
        check_settings(values_in(vars(arguments)))
        target = Publish(arguments.hub_model_id, arguments.public, arguments.hub_revision, arguments.overwrite)
        report = read_complete_run(arguments.run_dir)
        license = license_of(report) if arguments.license is None else {"license": arguments.license}
        check_license(license, stated_license(report["stages"][0]), report["teacher"])
        eval_results = render_eval_results(report, read_benchmarks(arguments.eval_results))
        url = target.run(arguments.run_dir / MODEL_DIR, report["fingerprint"], license, eval_results)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    print(f"Published: {url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
