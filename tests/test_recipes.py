"""The files beside the recipes: launch configurations, and a benchmark at a size that takes seconds."""

import configparser
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from conftest import RECIPES
from packaging.requirements import Requirement

from hf_lrcompress.benchmarks import distillation, distillation_steps
from hf_lrcompress.benchmarks.results import render
from hf_lrcompress.commands.benchmark import check_output


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_every_configuration(path):
    config = load_config_from_file(str(path))
    kind = {"cpu": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP"}.get(path.stem, "DEEPSPEED")
    assert config.distributed_type == kind
    if kind == "FSDP":
        assert config.fsdp_config["fsdp_version"] == 2
    if kind == "DEEPSPEED":
        assert config.deepspeed_config["zero_stage"] == int(path.stem[-1])


def test_uv_can_run_the_recipe_of_a_checkout():
    """PEP 723: comments that hold TOML."""
    script = RECIPES / "compress.py"
    block = re.match(r"# /// script\n((?:#.*\n)+?)# ///\n", script.read_text(encoding="utf-8"))[1]
    header = tomllib.loads(re.sub("^# ?", "", block, flags=re.MULTILINE))
    setup = configparser.ConfigParser()
    setup.read(RECIPES.parent / "setup.cfg")
    (needed,) = map(Requirement, header["dependencies"])
    assert needed.name == setup["metadata"]["name"] and needed.extras <= set(setup["options.extras_require"])
    assert header["requires-python"] == setup["options"]["python_requires"]
    assert (script.parent / header["tool"]["uv"]["sources"][needed.name]["path"] / "setup.cfg").is_file()


@pytest.mark.parametrize("script", ["slurm/compress.sbatch", "gpu_check.sh"])
def test_scripts_are_valid_shell(script):
    subprocess.run(["bash", "-n", RECIPES / script], check=True)


def test_the_batch_script_passes_options_on_as_they_were_quoted(tmp_path):
    for name, script in (("scontrol", "echo node"), ("srun", '"$@"'), ("accelerate", 'printf "%s\\n" "$@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "n", "SLURM_NNODES": "2", "SLURM_GPUS_PER_NODE": "4", "SLURM_NODEID": "0"}
    environment = os.environ | job | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    for options in (["--train_file", "my text.txt", "--set", "x={k: 1}"], []):
        command = ["bash", RECIPES / "slurm" / "compress.sbatch", "sk", *options]
        said = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout.splitlines()
        assert said[said.index("recipes/compress.py") :] == ["recipes/compress.py", "--lang", "sk", *options]


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, RECIPES / "benchmark.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_a_benchmark_refuses_what_is_not_there_and_overwrites_nothing(tmp_path):
    missing = run_benchmark("distillation", "--text", str(tmp_path / "none.txt"))
    assert (missing.returncode, missing.stderr) == (2, f"error: {tmp_path / 'none.txt'} does not exist\n")
    (tmp_path / "old.json").write_text("{}")
    kept = run_benchmark("distillation", "--text", __file__, "--output", str(tmp_path / "old.json"))
    assert kept.returncode == 2 and "exists; give another --output" in kept.stderr
    assert (tmp_path / "old.json").read_text() == "{}"
    (tmp_path / "notes.md").write_text("mine")
    for name, message in (("notes.json", "notes.md exists"), ("a.md", "give a name that ends in .json")):
        with pytest.raises((ValueError, OSError), match=message):
            check_output(tmp_path / name)
    check_output(tmp_path / "new" / "a.json")
    assert (tmp_path / "new").is_dir()


def test_a_step_that_the_system_kills_is_tried_with_half_the_batch(monkeypatch, tmp_path):
    script = "import json, os, sys\n"
    script += "os.kill(os.getpid(), 9 * (json.loads(sys.argv[1])['batch_size'] > int(sys.argv[2])))\nprint('{}')"
    (tmp_path / "step.py").write_text(script)
    monkeypatch.setattr(distillation_steps, "__file__", str(tmp_path / "step.py"))
    work = distillation_steps.Work("e5-small", 40_000, "full", "reference", 4)
    assert distillation._measure(work, "2")["batch_size"] == 2
    with pytest.raises(OSError, match="failed: exit code -9$"):
        distillation._measure(work, "0")


@pytest.mark.slow
def test_our_distillation_losses_are_those_of_full_logits(real_data):
    work = {"model": "e5-small", "vocab_size": 40_000, "text": "short", "step": "loss_difference", "batch_size": 2}
    command = [sys.executable, distillation_steps.__file__, json.dumps(work), real_data / "sk" / "validation.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["mlm_loss_difference"] < 1e-4 and result["distillation_loss_difference"] < 1e-4


@pytest.mark.parametrize("path", sorted((RECIPES / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_every_result_is_rendered_as_it_is(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == render(result)
