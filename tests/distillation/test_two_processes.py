"""Two gloo processes must give the losses, gradients and importance scores of one."""

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
import conftest
from accelerate import PartialState
from conftest import tiny_model
from distillation.test_trainer import collate, history, make_trainer
from safetensors.torch import save_file
from hf_lrcompress import GradientImportanceCallback, reduce_layers
import torch

state = PartialState(cpu=True)
output, batch_size, accumulation = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
generator = torch.Generator().manual_seed(7)
dataset = [{"input_ids": torch.randint(5, 101, (n,), generator=generator).tolist()} for n in [20, 9, 14, 20, 5, 17, 20, 11] * 6]
teacher = tiny_model("xlm-roberta")
trainer = make_trainer(
    reduce_layers(teacher, [0, 2]), teacher, dataset, output,
    per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
    max_steps=5, max_grad_norm=0.0, save_strategy="steps", save_steps=3,
)
callback = GradientImportanceCallback()
if accumulation == 1:
    trainer.add_callback(callback)
assert trainer.accelerator.num_processes == state.num_processes
trainer.train(resume_from_checkpoint=f"{output}/checkpoint-3" if accumulation > 1 else None)
metrics = trainer.evaluate()
if state.is_main_process:
    curves = {key: history(trainer, key) for key in ("loss", "mlm_loss", "distillation_loss")}
    curves["eval_mlm_accuracy"] = metrics["eval_mlm_accuracy"]
    curves["processes"] = state.num_processes
    if accumulation == 1:
        save_file({"scores": callback.scores}, f"{output}/scores.safetensors")
    json.dump(curves, open(f"{output}/curves.json", "w"))
"""


def train(output: Path, processes: int, batch_size: int, accumulation: int = 1) -> dict:
    """Eight rows a step. With accumulation, resumed from the checkpoint that is there."""
    output.mkdir(exist_ok=True)
    (output / "train.py").write_text(SCRIPT, encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
    command = [sys.executable, *launch, output / "train.py", output, str(batch_size), str(accumulation)]
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    curves = json.loads((output / "curves.json").read_text(encoding="utf-8"))
    assert curves["processes"] == processes
    return curves


def test_two_processes_are_one(tmp_path):
    one, two = train(tmp_path / "one", 1, batch_size=8), train(tmp_path / "two", 2, batch_size=4)
    for key in ("loss", "mlm_loss", "distillation_loss"):
        assert two[key] == pytest.approx(one[key], abs=1e-4)
    assert two["eval_mlm_accuracy"] == pytest.approx(one["eval_mlm_accuracy"])
    scores = [load_file(tmp_path / name / "scores.safetensors")["scores"] for name in ("one", "two")]
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-3, atol=1e-6)
    # A checkpoint of two processes resumes in one (the Trainer keeps a checkpoint's batch size for each process).
    resumed = train(tmp_path / "two", 1, batch_size=4, accumulation=2)
    assert resumed["loss"][-2:] == pytest.approx(one["loss"][-2:], abs=1e-4)
