"""The options of every command, in groups. Nothing slow is imported here: `--help` and a typo need not wait for torch."""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.messages import one_line
from hf_lrcompress.run.yaml_files import CONFIGURATIONS, STUDIES

DEFAULT_CONFIG = "paper-xlmr"
BENCHMARKS = ("distillation", "gpu", "vocabulary", "stage_order", "evaluation", "surgery", "quality", "export", "memory")
"""`hf_lrcompress.benchmarks` has a module for each."""


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are; no option can be abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where the options are listed."""
        self.exit(2, f"error: {one_line(message)}; see {self.prog} --help\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Say that there are no such arguments, and which option the first of them resembles."""
        close = difflib.get_close_matches(unknown[0].split("=")[0], self._option_string_actions, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def add_compress_options(parser: argparse.ArgumentParser) -> None:
    """Of `hf-lrcompress compress`."""
    given = _add_input_options(parser, "the language, a BCP-47 tag such as sk; sk,cs keeps the tokens of Czech as well")
    own = ", ".join(CONFIGURATIONS)
    given.add_argument("--config", default=DEFAULT_CONFIG, help=f"a YAML file, or {own} (default: {DEFAULT_CONFIG})")
    _add_texts(given)
    sizes = parser.add_argument_group("sizes")
    sizes.add_argument("--stages", help="comma-separated stages, in order")
    _add_set(sizes)
    target = sizes.add_mutually_exclusive_group()
    target.add_argument("--target_parameters", help="choose the sizes so that the model has at most so many, such as 25M")
    target.add_argument("--target_mb", type=float, help="the same in megabytes of fp32 weights")
    run = _add_run_options(parser)
    run.add_argument("--output_dir", help="the run folder (default: runs/LANG-CONFIG)")
    run.add_argument("--dry_run", action="store_true", help="print every stage's sizes and memory while it trains, then stop")
    run.add_argument("--overwrite", action="store_true", help="make stages again that were made with other settings")
    hub = _add_hub_options(parser)
    hub.add_argument("--push_to_hub", action="store_true", help="publish the model when it is made, private unless --public")
    hub.add_argument("--hub_model_id", help="ORG/NAME or USER/NAME, for --push_to_hub")


def add_study_options(parser: argparse.ArgumentParser) -> None:
    """Of `hf-lrcompress study`."""
    parser.add_argument("name", help=f"a YAML file, or {', '.join(STUDIES)}")
    given = _add_input_options(parser, "the language, a BCP-47 tag such as sk")
    _add_texts(given)
    _add_task_data(given)
    sizes = parser.add_argument_group("sizes")
    sizes.add_argument("--scale", help="paper (the default), gpu (an hour on one), cpu (an hour on two cores), or the file's own")
    sizes.add_argument("--seeds", default="", help="comma-separated, such as 42,43,44 (default: those of the scale)")
    _add_set(sizes)
    run = _add_run_options(parser)
    run.add_argument("--output_dir", help="the folder of the study (default: runs/LANG-study-NAME-SCALE)")
    reuse = "the folder of another study: stages that are the same are taken from there; may be repeated"
    run.add_argument("--reuse", type=Path, action="append", default=[], metavar="DIR", help=reuse)
    run.add_argument("--workers", type=int, default=1, help="runs at once, each a process (default: 1)")
    run.add_argument("--dry_run", action="store_true", help="print the runs, what they share and an estimate, then stop")
    run.add_argument("--overwrite", action="store_true", help="go on in the folder of another grid; what both share is kept")


def add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    """Of `hf-lrcompress evaluate`."""
    given = _add_input_options(parser, "the language, a BCP-47 tag such as sk")
    given.add_argument("--model", action="append", required=True, help="directory or Hub id; the first is compared with")
    given.add_argument("--tasks", default="", help="tc,sa,ner,pos (default: those of --task_data, else all with data)")
    _add_task_data(given)
    given.add_argument("--task_columns", action="append", default=[], metavar="TASK=INPUTS,LABELS", help="columns of local data")
    training = parser.add_argument_group("training")
    for setting in fields(TaskTraining):
        training.add_argument(f"--{setting.name}", help=setting.metadata["help"], **_option_of(setting))
    training.add_argument("--reduction_factors", default="", help="such as 2,4,8,16: compare adapters of these sizes too")
    training.add_argument("--seeds", default="", help="comma-separated (default: 42,43,44; with --quick 42)")
    run = _add_run_options(parser)
    run.add_argument("--workers", type=int, default=1, help="trainings at once, each a process (default: 1)")
    run.add_argument("--output_dir", default="scores", help="results and predictions (default: scores)")


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Of `hf-lrcompress export`."""
    parser.add_argument("model_dir", type=Path, help="the folder of a model, such as the model/ of a run")
    run = _add_run_options(parser)
    _add_trust(run)
    run.add_argument("--overwrite", action="store_true", help="replace the files of an earlier export")


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Of `hf-lrcompress compare`."""
    parser.add_argument("base", help="directory or Hub id of the model, or of the tokenizer alone, before it was trimmed")
    parser.add_argument("trimmed", help="the same of what was made of it, with whatever tool")
    given = parser.add_argument_group("input")
    given.add_argument("--text", nargs="+", required=True, help=".txt, .jsonl, .csv, .tsv (or .gz of them) or .parquet files")
    _add_trust(given)
    _add_run_options(parser)


def add_benchmark_options(parser: argparse.ArgumentParser) -> None:
    """Of `hf-lrcompress benchmark`. What a benchmark takes is added by its own module, which is slow to import."""
    parser.add_argument("benchmark", choices=BENCHMARKS, help="what is measured")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="its own: hf-lrcompress benchmark NAME --help")


def add_publish_options(parser: argparse.ArgumentParser) -> None:
    """Of `hf-lrcompress publish`."""
    parser.add_argument("run_dir", type=Path, help="the run folder")
    parser.add_argument("hub_model_id", help="ORG/NAME or USER/NAME")
    run = _add_run_options(parser)
    run.add_argument("--overwrite", action="store_true", help="replace what another run has put there")
    hub = _add_hub_options(parser)
    benchmarks: dict[str, Any] = {"action": "append", "default": [], "metavar": "DATASET_ID=TASK_ID"}
    hub.add_argument("--eval_results", **benchmarks, help="list the score on this registered benchmark; may be given again")


def _add_input_options(parser: argparse.ArgumentParser, language: str) -> argparse._ArgumentGroup:
    """The group of what a command reads, with its language and how far its models are trusted."""
    group = parser.add_argument_group("input")
    group.add_argument("--lang", required=True, help=language)
    _add_trust(group)
    return group


def _add_trust(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--trust_remote_code", action="store_true", help="run a model's own code, if transformers lacks its type")


def _add_texts(group: argparse._ArgumentGroup) -> None:
    """What takes the place of a configuration's teacher and texts."""
    group.add_argument("--teacher", help="Hub id or directory of a multilingual encoder")
    group.add_argument("--train_file", nargs="+", help=".txt, .jsonl, .csv, .tsv (or .gz of them) or .parquet files to train on")
    group.add_argument("--validation_file", nargs="+", help="the same, to validate on")


def _add_task_data(group: argparse._ArgumentGroup) -> None:
    """Tasks on this machine."""
    group.add_argument("--task_data", action="append", default=[], metavar="TASK=DIR", help="local train, validation and test")


def _add_set(group: argparse._ArgumentGroup) -> None:
    """Any other change of a configuration."""
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as trim_vocab.vocab_size=20000")


def _add_run_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of how a command runs, with how much it says."""
    group = parser.add_argument_group("run")
    volume = group.add_mutually_exclusive_group()
    volume.add_argument("--quiet", action="store_true", help="print the result and errors only")
    volume.add_argument("--verbose", action="store_true", help="print what transformers says as well")
    return group


def _add_hub_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of how a model is published."""
    group = parser.add_argument_group("Hub")
    group.add_argument("--hub_revision", default="main", help="the branch to commit to (default: main)")
    group.add_argument("--public", action="store_true", help="make a new repository public")
    group.add_argument("--license", help="of the model, where its teacher's card states none")
    return group


def _option_of(setting: Field) -> dict[str, Any]:
    """What `add_argument` needs for a setting of this type. Numbers separated by commas are read later, by `read_rates`."""
    if setting.type is bool:
        return {"action": "store_true"}
    if setting.type == tuple[float, ...]:
        return {"default": ""}
    return {"default": setting.default, "type": str if setting.type is str else int}
