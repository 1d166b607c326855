"""The README's commands and code."""

import configparser
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from conftest import RECIPES, load_recipe, tiny_model
from made_up_texts import make_texts
from trained_tokenizers import xlm_roberta

from hf_lrcompress.__main__ import parse_arguments
from hf_lrcompress.commands.compress import read_config
from hf_lrcompress.models.architectures import ARCHITECTURES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(?:hf-lrcompress|accelerate launch .*-m hf_lrcompress) (.*)$", README.replace("\\\n", " "), re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SMALLER = {
    "FacebookAI/xlm-roberta-base": "teacher",
    "intermediate_size=2048": "intermediate_size=20",
    "hidden_size=564": "hidden_size=12",
    "vocab_size=40_000": "vocab_size=300",
    "num_train_epochs=3": "num_train_epochs=1",
}


def test_there_are_commands_and_code():
    assert len(COMMANDS) >= 3 and len(PYTHON) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_valid_options_and_configurations(command):
    parsed = parse_arguments(shlex.split(command, comments=True))
    assert parsed.command != "compress" or read_config(parsed).stages


OPTIONS = {"compress": ["--lang", "sk"], "publish": ["run", "lab/name"], "evaluate": ["--lang", "sk", "--model", "m"]}


@pytest.mark.parametrize(("name", "needed"), OPTIONS.items())
def test_every_option_is_in_the_readme(name, needed):
    for option in vars(parse_arguments([name, *needed])).keys() - {"command", "run"}:
        assert f"--{option}" in README or option.upper() in README


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), num_hidden_layers=12, max_position_embeddings=514)
    model.save_pretrained("teacher"), tokenizer.save_pretrained("teacher")
    for name, count in {"slovak": 500, "train": 20, "validation": 5}.items():
        Path(f"{name}.txt").write_text("\n".join(make_texts(count, 1)), encoding="utf-8")
    code = PYTHON[number]
    for large, small in SMALLER.items():
        code = code.replace(large, small)
    exec(compile(code, f"README example {number}", "exec"), {})
    saved = {0: "small", 1: "distilled"}[number]
    assert (tmp_path / saved / "model.safetensors").is_file()


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert citation["version"] == setup["metadata"]["version"] and citation["license"] == setup["metadata"]["license"]
    assert [reference["url"] for reference in citation["references"]] == [setup["metadata"]["project_urls"].split(" = ")[1]]


def test_the_benchmark_table_is_that_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    files = sorted((RECIPES / "benchmarks" / "results").glob("*.json"))
    table = load_recipe("benchmark").overview(json.loads(file.read_text(encoding="utf-8")) for file in files)
    assert table in README, f"the README should have:\n{table}"


def test_the_table_of_methods_is_that_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(RECIPES)
    result = json.loads((RECIPES / "benchmarks" / "results" / "quality.json").read_text(encoding="utf-8"))
    table = importlib.import_module("benchmarks.quality").scored_table(result)
    assert table in README, f"the README should have:\n{table}"


def test_the_cost_of_surgery_is_that_of_the_results():
    results = json.loads((RECIPES / "benchmarks" / "results" / "surgery-xlm-r-base.json").read_text(encoding="utf-8"))
    seconds, ratios = ([row[name] for row in results["rows"]] for name in ("seconds", "peak_ratio"))
    assert f"{min(seconds):.1f} to {max(seconds):.1f} seconds" in README and f"at most {max(ratios):.2f} times" in README


def test_every_supported_family_is_listed():
    section = README[README.index("## What is supported") :]
    listed = {name for line in section.splitlines() if line.startswith("| ") for name in re.findall("`([a-z0-9-]+)`", line)}
    assert listed - {"model_type"} == {name for row in ARCHITECTURES for name in row.model_types}
