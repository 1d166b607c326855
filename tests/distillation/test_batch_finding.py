"""Batches that do not fit give way to smaller ones, and a step stays what it was."""

import copy

import pytest
import torch
from conftest import tiny_model
from datasets import Dataset
from tiny_trainers import history, make_trainer, random_rows

from hf_lrcompress import reduce_layers
from hf_lrcompress.models.architectures import layers_of

LOSSES = {"mlm": 0.5, "logits_mse": 0.5, "hidden_mse": 1.0}
FINDS = {"auto_find_batch_size": True}


@pytest.fixture(scope="module")
def rows():
    return random_rows()


@pytest.fixture
def teacher():
    return tiny_model("xlm-roberta")


@pytest.fixture
def student(teacher):
    return reduce_layers(teacher, [0, 2])


def refuse(student, more_than, after=0, training=True):
    """Have the allocator refuse larger batches, once so many have passed; gives the sizes that come."""
    seen = []

    def layer(module, inputs, output):
        if module.training == training:
            seen.append(len(inputs[0]))
            if len(inputs[0]) > more_than and len(seen) > after:
                torch.empty(2**60)

    layers_of(student)[1].register_forward_hook(layer)
    return seen


@pytest.mark.parametrize(("after", "logging_steps"), [(0, 1), (1, 1), (1, 5)])
def test_a_step_stays_as_large_and_training_is_that_of_smaller_batches(
    student, teacher, rows, tmp_path, caplog, after, logging_steps
):
    settings = {"losses": LOSSES, "max_steps": 5, "max_grad_norm": 0.5, "warmup_steps": 2, "logging_steps": logging_steps}
    asked_for = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    found = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    given = make_trainer(copy.deepcopy(student), teacher, rows, tmp_path, **settings, **found)
    seen = refuse(student, more_than=2, after=after)
    finding = make_trainer(student, teacher, rows, tmp_path, **settings, **asked_for, **FINDS)
    given.train(), finding.train()
    for key in ("loss", "grad_norm", "learning_rate", "mlm_loss", "hidden_mse_loss"):
        assert history(finding, key) == pytest.approx(history(given, key), rel=1e-4), key
    assert seen == [4] * (after + 1) + [2] * 20
    assert {key: getattr(finding.args, key) for key in found} == found
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("batches of 4 do not fit") and said.endswith("train the same: begun again with them")


def test_after_the_first_step_nothing_that_was_learnt_is_thrown_away(student, teacher, rows, tmp_path):
    refuse(student, more_than=4, after=1)
    trainer = make_trainer(student, teacher, rows, tmp_path, **FINDS)
    with pytest.raises(MemoryError, match="=4 and gradient_accumulation_steps=2 train the same$"):
        trainer.train()
    assert trainer.state.global_step == 1 and trainer.args.per_device_train_batch_size == 8


def test_resumed_it_takes_the_batches_that_were_found(student, teacher, rows, tmp_path):
    """Of grouped documents the order depends on them: others would see some twice, and some never."""
    lengths = [len(row["input_ids"]) for row in rows]
    documents = Dataset.from_list([row | {"length": length} for row, length in zip(rows, lengths, strict=True)])
    settings = {"losses": LOSSES, "max_steps": 4, "save_strategy": "steps", "save_steps": 2} | FINDS
    first = copy.deepcopy(student)
    refuse(first, more_than=4)
    whole = make_trainer(first, teacher, documents, tmp_path, **settings)
    whole.train()
    seen = refuse(student, more_than=8)
    resumed = make_trainer(student, teacher, documents, tmp_path / "other", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert seen == [4] * 4
    assert history(resumed, "loss") == pytest.approx(history(whole, "loss"), rel=1e-4)


def test_resumed_with_less_memory_it_goes_on_at_the_checkpoint(student, teacher, rows, tmp_path):
    settings = {"losses": LOSSES, "max_steps": 6, "save_strategy": "steps", "save_steps": 3, "save_total_limit": 1} | FINDS
    whole = make_trainer(copy.deepcopy(student), teacher, rows, tmp_path, **settings | {"save_total_limit": 2})
    whole.train()
    refuse(student, more_than=4)
    resumed = make_trainer(student, teacher, rows, tmp_path / "other", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert history(resumed, "loss") == pytest.approx(history(whole, "loss"), rel=1e-3)
    assert resumed.args.per_device_train_batch_size == 4


def test_what_comes_before_the_first_step_counts(student, teacher, rows, tmp_path):
    """The projections' start, and an evaluation."""
    refuse(student, more_than=2, training=False)
    settings = {"losses": LOSSES, "eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True} | FINDS
    trainer = make_trainer(student, teacher, rows, tmp_path, **settings)
    trainer.train()
    args = trainer.args
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, args.per_device_eval_batch_size) == (2, 4, 2)
    assert len(history(trainer, "loss")) == 4 and len(history(trainer, "eval_loss")) == 3


def test_an_evaluation_that_does_not_fit_ends_a_training_with_advice(student, teacher, rows, tmp_path):
    refuse(student, more_than=2, training=False)
    trainer = make_trainer(student, teacher, rows, tmp_path, eval_strategy="steps", eval_steps=2, **FINDS)
    with pytest.raises(MemoryError, match="^batches of 8 do not fit"):
        trainer.train()


def test_room_is_left_for_what_the_optimizer_keeps(student, teacher, rows, tmp_path, monkeypatch):
    """It comes after the first batch, and is of no use to a training that has it already."""
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    before = make_trainer(copy.deepcopy(student), teacher, rows, tmp_path, **settings)
    before.train()
    monkeypatch.setattr("hf_lrcompress.DistillationTrainer.get_num_trainable_parameters", lambda trainer: 2**55)
    resumed = make_trainer(copy.deepcopy(student), teacher, rows, tmp_path, **settings, **FINDS)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    anew = make_trainer(student, teacher, rows, tmp_path, **settings, **FINDS)
    with pytest.raises(MemoryError, match="^batches of 1 do not fit into the memory of cpu; give shorter texts or a smaller"):
        anew.train()


def test_other_errors_are_not_taken_for_it(student, teacher, rows, tmp_path):
    layers_of(student)[1].register_forward_hook(lambda module, inputs, output: torch.ones(2) @ torch.ones(3))
    trainer = make_trainer(student, teacher, rows, tmp_path, **FINDS)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        trainer.train()
    assert trainer.args.per_device_train_batch_size == 8


def test_an_optimizer_that_was_given_is_used_and_training_goes_on_after_it(student, teacher, rows, tmp_path):
    refuse(student, more_than=4)
    trainer = make_trainer(student, teacher, rows, tmp_path, **FINDS)
    trainer.optimizer = given = torch.optim.AdamW(student.parameters(), lr=1e-3)
    trainer.train()
    assert given.state[student.get_input_embeddings().weight]["step"] == 4
    refuse(student, more_than=2)
    trainer.train()
    assert given.state[student.get_input_embeddings().weight]["step"] == 8 and trainer.args.per_device_train_batch_size == 2
