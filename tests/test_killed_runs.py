"""A run that was killed at any of its file operations, or found the disk full, ends by the same command as if it had not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import RECIPES, tiny_model
from killing import KILLED
from made_up_texts import make_texts
from trained_tokenizers import xlm_roberta

STAGES = ["trim_vocab", "reduce_layers"]


def walk(folder: Path, chosen: int) -> tuple[dict, list[dict]]:
    """The run without trouble, and every case."""
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder / "teacher"), tokenizer.save_pretrained(folder / "teacher")
    config = {
        "teacher": str(folder / "teacher"),
        "block_size": 32,
        "stages": STAGES,
        "training": {"max_steps": 2, "per_device_train_batch_size": 2, "save_steps": 1, "disable_tqdm": True},
        "trim_vocab": {"vocab_size": 300},
        "reduce_layers": {"num_hidden_layers": 2},
    }
    for seed, (name, size) in enumerate({"train": 60, "validation": 8}.items()):
        (folder / f"{name}.txt").write_text("\n".join(make_texts(size, seed)), encoding="utf-8")
        config[name] = {"files": [str(folder / f"{name}.txt")]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).with_name("killing.py")), str(RECIPES / "compress.py"), str(folder / "whole")]
    environment = os.environ | {"HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    arguments = [str(chosen), "--lang", "sk", "--config", str(folder / "config.yaml")]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=True)
    whole, *cases = map(json.loads, done.stdout.splitlines())
    assert whole["code"] == 0, whole["log"]
    return whole, cases


@pytest.mark.parametrize("chosen", [20, pytest.param(0, marks=pytest.mark.long)])
def test_the_same_command_ends_a_run_as_if_nothing_had_been(tmp_path, chosen):
    whole, cases = walk(tmp_path, chosen)
    assert len(cases) == (chosen or 3 * whole["operations"]) and whole["operations"] > 50
    for case in cases:
        if case["kind"] == "disk full" and case["first"] == 0:  # it could do without, such as a folder of a library's
            assert case["lost"] == [], case
        elif case["kind"] == "disk full":
            assert case["first"] in (1, 2) and "error: " in case["log"] and "No space left" in case["log"], case
            assert "TRACE" not in case["log"], case
        else:
            assert case["first"] == KILLED, case
        assert case["again"] == 0 and case["different"] == [], case
