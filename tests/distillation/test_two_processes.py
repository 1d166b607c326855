"""Two gloo processes, under DDP and under FSDP 2, must give the losses, gradients and importance scores of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TESTS = Path(__file__).parent.parent
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from conftest import tiny_model
from tiny_trainers import collate, history, make_trainer
from safetensors.torch import save_file
from transformers import Trainer
from hf_lrcompress import GradientImportanceCallback, reduce_layers

mode, jobs = sys.argv[1], json.loads(sys.argv[2])
if mode == "fsdp":  # accelerate shards on accelerators only, though torch does it on the CPU
    create = Trainer.create_accelerator_and_postprocess

    def as_if_on_gpus(trainer):
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        create(trainer)

    Trainer.create_accelerator_and_postprocess = as_if_on_gpus

generator = torch.Generator().manual_seed(7)
dataset = [{"input_ids": torch.randint(5, 101, (n,), generator=generator).tolist()} for n in [20, 9, 14, 20, 5, 17, 20, 11] * 6]
for job in jobs:
    output = Path(job["output"])
    settings = {"per_device_train_batch_size": job["batch_size"], "gradient_accumulation_steps": job["accumulation"]}
    teacher = tiny_model("xlm-roberta")
    trainer = make_trainer(
        reduce_layers(teacher, [0, 2]), teacher, dataset, output, max_steps=5, max_grad_norm=0.5, save_strategy="steps",
        save_steps=3, **settings,
        losses={"mlm": 0.5, "logits_mse": 0.5, "relations": 1.0, "hidden_cosine": 1.0, "hidden_mse": 1.0, "sentence_cosine": 1.0},
    )
    trainer.train(resume_from_checkpoint=job["checkpoint"])
    metrics = trainer.evaluate()
    trainer.save_model(output / "model")

    callback = GradientImportanceCallback()
    scorer = make_trainer(reduce_layers(teacher, [1, 3]), teacher, dataset, output / "scores", max_steps=2, max_grad_norm=0.0,
                          per_device_train_batch_size=job["batch_size"])
    scorer.add_callback(callback)
    scorer.train()

    state = PartialState()
    if state.is_main_process:
        keys = ("loss", "grad_norm", *(f"{name}_loss" for name in trainer.args.loss_weights))
        curves = {key: history(trainer, key) for key in keys}
        curves |= {"eval_mlm_loss": metrics["eval_mlm_loss"], "processes": state.num_processes}
        curves["sharded"] = any(hasattr(p, "full_tensor") for p in trainer.model.parameters())
        save_file({"scores": callback.scores}, output / "scores.safetensors")
        (output / "curves.json").write_text(json.dumps(curves))
PartialState().destroy_process_group()
"""
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "NO_WRAP"}
LOSS_NAMES = ("mlm", "logits_mse", "relations", "hidden_cosine", "hidden_mse", "sentence_cosine")
CURVES = ("loss", "grad_norm", *(f"{name}_loss" for name in LOSS_NAMES))


def train(folder: Path, mode: str, checkpoints: dict[str, Path | None], accumulation: int = 1) -> dict[str, dict]:
    """Five steps of eight rows each, however they are divided, or the rest of them; by name what each training leaves.

    All of them in one launch: most of its time is that of its imports.
    """
    processes = 1 if mode == "one" else 2
    division = {"batch_size": 8 // processes // accumulation, "accumulation": accumulation}
    jobs = [
        {"output": str(folder / name), "checkpoint": None if checkpoint is None else str(checkpoint)} | division
        for name, checkpoint in checkpoints.items()
    ]
    for name in checkpoints:
        (folder / name).mkdir()
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, *(LAUNCH if processes == 2 else []), str(folder / "train.py"), mode, json.dumps(jobs)]
    done = subprocess.run(command, env=environment | (FSDP if mode == "fsdp" else {}), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]
    found = {name: json.loads((folder / name / "curves.json").read_text(encoding="utf-8")) for name in checkpoints}
    for curves in found.values():
        assert (curves["processes"], curves["sharded"]) == (processes, mode == "fsdp")
    return found


def assert_same_run(actual: dict, expected: dict, steps: int) -> None:
    for key in CURVES:
        assert actual[key][-steps:] == pytest.approx(expected[key][-steps:], abs=2e-4), key
    assert actual["eval_mlm_loss"] == pytest.approx(expected["eval_mlm_loss"], rel=1e-5)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> tuple[Path, dict]:
    """The folder and the curves of one process."""
    folder = tmp_path_factory.mktemp("one")
    return folder / "whole", train(folder, "one", {"whole": None})["whole"]


@pytest.fixture(scope="module")
def two(one, tmp_path_factory) -> dict[str, tuple[Path, dict[str, dict]]]:
    """For each mode the folder and the curves of two processes: of a whole training, and of one that goes on with that of one."""
    checkpoint = one[0] / "checkpoint-3"
    folders = {mode: tmp_path_factory.mktemp(mode) for mode in ("ddp", "fsdp")}
    return {mode: (folder, train(folder, mode, {"whole": None, "resumed": checkpoint})) for mode, folder in folders.items()}


@pytest.fixture(scope="module")
def back(two, tmp_path_factory) -> dict[str, dict]:
    """For each mode the curves of one process that goes on with the training of two."""
    checkpoints = {mode: folder / "whole" / "checkpoint-3" for mode, (folder, _) in two.items()}
    return train(tmp_path_factory.mktemp("back"), "one", checkpoints, accumulation=2)


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_processes_are_one(one, two, mode):
    alone, expected = one
    folder, found = two[mode]
    assert_same_run(found["whole"], expected, steps=5)
    scores = [load_file(output / "scores.safetensors")["scores"] for output in (alone, folder / "whole")]
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-3, atol=1e-6)
    weights = [load_file(output / "model" / "model.safetensors") for output in (alone, folder / "whole")]
    assert weights[0].keys() == weights[1].keys() and not any("projection" in name for name in weights[0])
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_each_resumes_the_other(one, two, back, mode):
    assert_same_run(two[mode][1]["resumed"], one[1], steps=2)
    assert_same_run(back[mode], one[1], steps=2)
