"""Batches that do not fit give way to smaller ones, and a step stays what it was."""

import copy

import pytest
import torch
from conftest import tiny_model
from tiny_trainers import history, make_trainer

from hf_lrcompress import reduce_layers
from hf_lrcompress.models.architectures import layers_of

LOSSES = {"mlm": 0.5, "logits_mse": 0.5, "hidden_mse": 1.0}
ROWS = [{"input_ids": torch.randint(5, 101, (n,)).tolist()} for n in [20, 9, 14, 20, 5, 17, 20, 11] * 4]


@pytest.fixture
def teacher():
    return tiny_model("xlm-roberta")


@pytest.fixture
def student(teacher):
    return reduce_layers(teacher, [0, 2])


def too_much(student, rows, from_step=0):
    """Have the allocator refuse batches of more rows, from one of the training's batches on."""
    seen = []

    def layer(module, inputs, output):
        if module.training:
            seen.append(len(inputs[0]))
            if len(inputs[0]) > rows and len(seen) > from_step:
                torch.empty(2**60)

    layers_of(student)[1].register_forward_hook(layer)
    return seen


@pytest.mark.parametrize(("from_step", "logging_steps"), [(0, 1), (2, 1), (2, 5)])
def test_a_step_stays_as_large_and_training_is_that_of_smaller_batches(
    student, teacher, tmp_path, caplog, from_step, logging_steps
):
    settings = {"losses": LOSSES, "max_steps": 5, "max_grad_norm": 0.5, "warmup_steps": 2, "logging_steps": logging_steps}
    given = make_trainer(
        copy.deepcopy(student), teacher, ROWS, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4, **settings
    )
    seen = too_much(student, 2, from_step)
    finding = make_trainer(student, teacher, ROWS, tmp_path, auto_find_batch_size=True, **settings)
    given.train(), finding.train()
    for key in ("loss", "grad_norm", "learning_rate", "mlm_loss", "hidden_mse_loss"):
        assert history(finding, key) == pytest.approx(history(given, key), rel=1e-4), key
    assert seen == [8] * (from_step + 1) + [4] + [2] * 20
    assert (finding.args.per_device_train_batch_size, finding.args.gradient_accumulation_steps) == (2, 4)
    assert [record.getMessage().partition(" do not fit")[0] for record in caplog.records][-2:] == ["batches of 8", "batches of 4"]


def test_resumed_it_begins_again_at_the_checkpoint(student, teacher, tmp_path):
    settings = {"losses": LOSSES, "max_steps": 6, "save_strategy": "steps", "save_steps": 3, "auto_find_batch_size": True}
    whole = make_trainer(copy.deepcopy(student), teacher, ROWS, tmp_path / "whole", **settings)
    whole.train()
    too_much(student, 4, from_step=1)
    resumed = make_trainer(student, teacher, ROWS, tmp_path / "other", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert history(resumed, "loss") == pytest.approx(history(whole, "loss"), rel=1e-3)
    assert resumed.args.per_device_train_batch_size == 4


def test_there_is_an_end(student, teacher, tmp_path):
    too_much(student, 0)
    trainer = make_trainer(student, teacher, ROWS, tmp_path, auto_find_batch_size=True)
    with pytest.raises(MemoryError, match="^batches of 1 do not fit into the memory of cpu; give shorter texts"):
        trainer.train()


def test_other_errors_are_not_taken_for_it(student, teacher, tmp_path):
    layers_of(student)[1].register_forward_hook(lambda module, inputs, output: torch.ones(2) @ torch.ones(3))
    trainer = make_trainer(student, teacher, ROWS, tmp_path, auto_find_batch_size=True)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        trainer.train()
    assert trainer.args.per_device_train_batch_size == 8


def test_an_optimizer_that_was_given_is_not_replaced(student, teacher, tmp_path):
    too_much(student, 4)
    trainer = make_trainer(student, teacher, ROWS, tmp_path, auto_find_batch_size=True)
    trainer.optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    with pytest.raises(MemoryError, match="=4 and gradient_accumulation_steps=2 train the same "):
        trainer.train()
