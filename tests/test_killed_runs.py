"""A command that was killed at any of its operations on files or on the network, or failed there, ends by being given again."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import RECIPES, tiny_model
from evaluation.tiny_tasks import make_tasks
from hub_server import HubServer
from killing import KILLED
from made_up_texts import make_texts
from tabulate import tabulate
from trained_tokenizers import xlm_roberta

STAGES = ["trim_vocab", "reduce_layers"]
FEW = {"run": 7, "evaluation": 2, "two": 2}
ALL = dict.fromkeys(FEW, 0)


def save_inputs(folder: Path) -> None:
    """A teacher, its tasks, and a configuration."""
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder / "teacher"), tokenizer.save_pretrained(folder / "teacher")
    (folder / "teacher" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    make_tasks(folder)
    config = {
        "teacher": str(folder / "teacher"),
        "block_size": 32,
        "stages": STAGES,
        "training": {
            "max_steps": 2,
            "per_device_train_batch_size": 2,
            "save_steps": 1,
            "disable_tqdm": True,
            "lr_scheduler_type": "constant",
        },
        "trim_vocab": {"vocab_size": 300},  # far from where the held-out text would not do: tokenizers are never trained alike
        "reduce_layers": {"num_hidden_layers": 2},
    }
    for seed, (name, size) in enumerate({"train": 60, "validation": 8}.items()):
        (folder / f"{name}.txt").write_text("\n".join(make_texts(size, seed)), encoding="utf-8")
        config[name] = {"files": [str(folder / f"{name}.txt")]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def commands(folder: Path) -> dict[str, dict]:
    """The recipes that are walked: a run that publishes its model, an evaluation, and a run in two processes."""
    compress = ["--lang", "sk", "--config", str(folder / "config.yaml"), "--output_dir", "{folder}"]
    scored = ["--lang", "sk", "--model", str(folder / "teacher"), "--tasks", "tc", "--task_data", f"tc={folder / 'tc'}"]
    scored += ["--epochs", "1", "--seeds", "42", "--output_dir", "{folder}"]
    return {
        "run": {"script": "compress.py", "arguments": [*compress, "--push_to_hub", "--hub_model_id", "lab/{name}"]},
        "evaluation": {"script": "evaluate.py", "arguments": scored},
        "two": {"script": "compress.py", "arguments": compress, "processes": 2},
    }


def walk(folder: Path, chosen: dict[str, int], hub: HubServer) -> tuple[dict[str, dict], list[dict]]:
    """The commands without trouble, by name, and every case."""
    save_inputs(folder)
    recipes = commands(folder)
    walks = [
        recipes[name] | {"script": str(RECIPES / recipes[name]["script"]), "folder": str(folder / name), "chosen": count}
        for name, count in chosen.items()
    ]
    (folder / "walks.json").write_text(json.dumps(walks), encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    home = {"HF_HOME": str(folder / "cache"), "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_write", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, str(Path(__file__).with_name("killing.py")), str(folder / "walks.json")]
    environment = plain | home | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "cases.jsonl").open("w", encoding="utf-8") as found:  # a walk of all takes hours: it can be looked at
        subprocess.run(command, env=environment, stdout=found, check=True)
    lines = [json.loads(line) for line in (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    whole = {Path(line["folder"]).name: line for line in lines if "operations" in line}
    return whole, [line for line in lines if "operations" not in line]


def survived(case: dict) -> bool:
    """The command given again ended well, with the files of a run that had no trouble."""
    return not any(case["again"]) and case["different"] == []


def table(cases: list[dict]) -> str:
    """Cases, survived and lost, a row for each walk and kind of trouble."""
    total = Counter((case["walk"], case["kind"]) for case in cases)
    well = Counter((case["walk"], case["kind"]) for case in cases if survived(case))
    rows = [(*name, total[name], well[name], total[name] - well[name]) for name in sorted(total)]
    return tabulate(rows, headers=["walk", "trouble", "cases", "survived", "lost"])


def check_case(case: dict) -> None:
    """It was killed or said in one line what failed; the same command then ended as if nothing had been."""
    assert "TRACE" not in case["log"], case
    if case["first"] == 0 and (case["kind"] == "fails" or not case["struck"]):
        assert case["lost"] == [], case  # it could do without, such as a folder of a library's, or there was no such operation
    elif case["kind"] == "fails":
        assert case["first"] in (1, 2) and "error: " in case["log"], case
        assert "No space left" in case["log"] or "the Hub cannot be reached" in case["log"], case
    else:
        assert case["first"] == KILLED, case
    assert all(case["others"]) or case["first"] == 0, case
    assert survived(case), case


def check_published(hub: HubServer, names: list[str]) -> None:
    """Each repository has its first commit and one of ours, which is the same for all but for the repository's name."""
    for name in names:
        repository = hub.repositories[f"lab/{name}"]
        assert len(repository.branches["main"]) == len(repository.commits) == 2, name
        files = hub.files(f"lab/{name}")
        assert files.keys() == hub.files("lab/run").keys() and files["config.json"] == hub.files("lab/run")["config.json"]
        assert files["model.safetensors"] == hub.files("lab/run")["model.safetensors"], name


@pytest.mark.parametrize("chosen", [FEW, pytest.param(ALL, marks=pytest.mark.long)], ids=["few", "all"])
def test_the_same_command_ends_as_if_nothing_had_been(tmp_path, chosen):
    with HubServer() as hub:
        whole, cases = walk(tmp_path, chosen, hub)
        print(table(cases))
        for name, line in whole.items():
            assert not any(line["codes"]), line["log"]
            assert sum(case["walk"] == name for case in cases) == (chosen[name] or 3 * line["operations"])
        assert whole["run"]["operations"] > 150
        for case in cases:
            check_case(case)
        assert sum(not case["struck"] for case in cases) <= len(cases) / 10
        check_published(
            hub, ["run", *(f"run-{case['kind'].replace(' ', '-')}-{case['at']}" for case in cases if case["walk"] == "run")]
        )


def test_a_commit_that_breaks_off_is_none():
    """The server that the runs are killed before: a process that dies while it sends leaves the head of a request."""
    body = json.dumps({"key": "header", "value": {"summary": "half"}}).encode() + b"\n"
    lines = ["POST /api/models/lab/half/commit/main HTTP/1.1", f"Content-Length: {len(body)}", "Authorization: Bearer hf_write"]
    head = "\r\n".join([*lines, "", ""])
    with HubServer() as hub:
        repository = hub.add("lab/half", {"README.md": b"whole"})
        answers = []
        for sent in (b"", body):
            with socket.create_connection(hub.server_address) as connection:
                connection.sendall(head.encode() + sent)
                connection.shutdown(socket.SHUT_WR)
                answers.append(connection.makefile("rb").read())
        assert answers[0] == b"" and answers[1].startswith(b"HTTP/1.1 200")
        assert len(repository.branches["main"]) == 2
