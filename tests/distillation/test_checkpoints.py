"""A training goes on from the newest checkpoint that is whole, and from nothing else."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from tiny_trainers import make_trainer

from hf_lrcompress.distillation.checkpoints import delete_older, newest_whole, seal

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "checkpoint.json")
DATASET = [{"input_ids": [5, 8, 9, 12, 7]}] * 10


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the checkpoints of two steps."""
    folder = tmp_path_factory.mktemp("training")
    settings = {"losses": {"mlm": 1.0}, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    make_trainer(tiny_model("bert"), None, DATASET, folder, **settings).train()
    return folder


@pytest.fixture
def training(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "training")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [cut, flip_a_bit, os.unlink], ids=["cut", "flipped bit", "missing"])
def test_a_damaged_checkpoint_is_passed_over_and_named(training, caplog, file, damage):
    assert newest_whole(training) == training / "checkpoint-2"
    damage(training / "checkpoint-2" / file)
    with caplog.at_level(logging.WARNING):
        assert newest_whole(training) == training / "checkpoint-1"
    assert "checkpoint-2 is passed over" in caplog.text
    damage(training / "checkpoint-1" / file)
    assert newest_whole(training) is None


def test_resuming_from_what_there_is_takes_the_newest_that_is_whole(training, tmp_path):
    cut(training / "checkpoint-2" / "optimizer.pt")
    (training / "checkpoint-3").mkdir()  # begun, when the process was killed
    settings = {"losses": {"mlm": 1.0}, "max_steps": 4}
    trainer = make_trainer(tiny_model("bert"), None, DATASET, training, **settings)
    trainer.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [1, 2, 3, 4]
    assert trainer._resumed_step == 1
    with pytest.raises(ValueError, match="has no whole checkpoint; train from the beginning"):
        make_trainer(tiny_model("bert"), None, DATASET, tmp_path / "empty", **settings).train(resume_from_checkpoint=True)


def test_checkpoints_are_deleted_by_step_whatever_the_clock_says(training):
    for step, time in ((1, 3000), (2, 2000), (10, 1000)):
        checkpoint = training / f"checkpoint-{step}"
        checkpoint.mkdir(exist_ok=True)
        seal(checkpoint)
        os.utime(checkpoint, (time, time))
    newest = training / "checkpoint-10"
    delete_older(training, newest, None)
    delete_older(training, newest, 2, kept=[str(training / "checkpoint-1")])
    assert sorted(path.name for path in training.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-10", "checkpoint-2"]
    delete_older(training, newest, 1)
    assert newest_whole(training).name == "checkpoint-10" and len(list(training.glob("checkpoint-*"))) == 1


def test_a_training_keeps_as_many_as_it_was_told(tmp_path, monkeypatch):
    monkeypatch.setattr("os.path.getmtime", lambda path: -float(str(path).rpartition("-")[2]))  # a clock that runs backwards
    settings = {"losses": {"mlm": 1.0}, "max_steps": 4, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    make_trainer(tiny_model("bert"), None, DATASET, tmp_path, **settings).train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]


def test_a_training_in_a_used_folder_keeps_its_own_checkpoint(tmp_path):
    """The later ones of a training that was there before go first."""
    settings = {"losses": {"mlm": 1.0}, "save_strategy": "steps"}
    make_trainer(tiny_model("bert"), None, DATASET, tmp_path, **settings, max_steps=6, save_steps=3).train()
    make_trainer(tiny_model("bert"), None, DATASET, tmp_path, **settings, max_steps=2, save_steps=1, save_total_limit=1).train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


def test_the_best_checkpoint_stays_however_its_folder_is_written(training, monkeypatch):
    monkeypatch.chdir(training)
    for step in (1, 2):
        (training / f"checkpoint-{step}").mkdir(exist_ok=True)
    delete_older(Path("./"), Path("./checkpoint-2"), 1, kept=["./checkpoint-1", None])
    assert sorted(path.name for path in training.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]


@pytest.mark.parametrize("name", ["checkpoint-x", "checkpoint-", "checkpoint-3.partial"])
def test_what_is_no_checkpoint_is_left_alone(training, name):
    (training / name).mkdir()
    delete_older(training, training / "checkpoint-2", 1)
    assert newest_whole(training) == training / "checkpoint-2" and (training / name).exists()


@pytest.mark.parametrize("length", [{"max_steps": 3}, {"max_steps": -1, "num_train_epochs": 1.5}], ids=["steps", "epochs"])
def test_a_training_that_is_over_is_not_trained_on(tmp_path, length):
    settings = {"losses": {"mlm": 1.0}, "save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"} | length
    whole = make_trainer(tiny_model("bert"), None, DATASET, tmp_path, **settings)
    whole.train()
    resumed = make_trainer(tiny_model("bert"), None, DATASET, tmp_path, **settings)
    assert resumed.train(resume_from_checkpoint=str(newest_whole(tmp_path))).global_step == 3
    for expected, actual in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(expected, actual)
