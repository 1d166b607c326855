"""A trainer that is used more than once, as in a notebook: each training and evaluation is by itself."""

import copy
import math

import pytest
import torch
from conftest import keep_two_layers, tiny_model
from datasets import Dataset
from tiny_trainers import make_trainer, random_rows
from trained_tokenizers import xlm_roberta
from transformers import TrainerCallback

from hf_lrcompress import DistillationConfig, DistillationTrainer, reduce_layers


@pytest.fixture
def dataset():
    return random_rows()


@pytest.fixture
def teacher():
    return tiny_model("xlm-roberta")


@pytest.fixture
def student(teacher):
    return reduce_layers(teacher, keep_two_layers(teacher))


class Interrupt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise KeyboardInterrupt


def test_each_training_logs_its_own_losses(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path, max_steps=5, logging_steps=3)
    trainer.train()
    trainer.add_callback(Interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.remove_callback(Interrupt)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert logged
    for row in logged:
        assert row["loss"] == pytest.approx(0.5 * row["mlm_loss"] + 0.5 * row["logits_mse_loss"], rel=1e-3)


def test_predict_measures_what_evaluate_does(tmp_path):
    tokenizer = xlm_roberta()
    teacher = tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    rows = Dataset.from_dict(dict(tokenizer(["Dobrý deň, ako sa máte?", "Vlak mešká hodinu."] * 8)))
    args = DistillationConfig(output_dir=str(tmp_path), num_train_epochs=2, report_to="none", use_cpu=True, save_strategy="no")
    student = reduce_layers(teacher, keep_two_layers(teacher))
    trainer = DistillationTrainer(
        student, args, teacher_model=teacher, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    predicted = trainer.predict(rows)
    assert predicted.metrics["test_loss"] == trainer.evaluate()["eval_loss"]
    assert len(predicted.predictions) == len(rows)


@pytest.mark.parametrize(("sentences", "compared"), [(8, 8), (9, 8), (10, 8), (11, 11), (2, 0)])
def test_sentences_that_are_compared_with_too_few_others_do_not_count(student, teacher, dataset, tmp_path, sentences, compared):
    losses = {"sentence_similarity": 1.0}
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=losses, per_device_eval_batch_size=8)
    found = trainer.evaluate(dataset[:sentences])["eval_sentence_similarity_loss"]
    if compared in (0, 8):
        assert found == (trainer.evaluate(dataset[:8])["eval_sentence_similarity_loss"] if compared else 0)
    else:
        rest = trainer.evaluate(dataset[8:sentences])["eval_sentence_similarity_loss"]
        first = trainer.evaluate(dataset[:8])["eval_sentence_similarity_loss"]
        assert math.isclose(found, (8 * first + 3 * rest) / 11, rel_tol=1e-5)


def test_a_student_with_nothing_to_train_is_one_line(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student.requires_grad_(False), teacher, dataset, tmp_path, max_steps=1)
    with pytest.raises(ValueError, match="^all weights of the student are frozen: nothing would be trained$"):
        trainer.train()


def test_a_teacher_that_would_be_trained_along_is_refused(student, teacher, dataset, tmp_path):
    student.roberta.embeddings = teacher.roberta.embeddings
    with pytest.raises(ValueError, match=r"share \d+ weights, such as roberta.embeddings.*: the teacher would be trained too"):
        make_trainer(student, teacher, dataset, tmp_path)


@pytest.mark.parametrize("other", [None, "FacebookAI/xlm-roberta-base", torch.nn.Linear(2, 2)], ids=["none", "name", "module"])
def test_what_is_no_model_is_one_line(student, teacher, dataset, tmp_path, other):
    with pytest.raises(TypeError, match=f"^model must be a transformers model, got {type(other).__name__}; load one"):
        make_trainer(other, teacher, dataset, tmp_path)
    if other is not None:
        with pytest.raises(TypeError, match="^teacher_model must be a transformers model"):
            make_trainer(student, other, dataset, tmp_path)


def test_models_without_numbers_and_model_init_are_refused(student, teacher, dataset, tmp_path):
    with pytest.raises(ValueError, match="^teacher_model has weights on the meta device, which hold no numbers; load them$"):
        make_trainer(student, copy.deepcopy(teacher).to("meta"), dataset, tmp_path)
    args = DistillationConfig(output_dir=str(tmp_path), alpha=1, use_cpu=True)
    with pytest.raises(ValueError, match="model_init would not be called"):
        DistillationTrainer(student, args, train_dataset=dataset, model_init=lambda: student)


@pytest.mark.parametrize("name", ["bf16_full_eval", "fp16_full_eval"])
def test_evaluations_that_would_round_the_weights_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} must be False: it would round the student's weights for good"):
        DistillationConfig(output_dir=str(tmp_path), use_cpu=True, **{name: True})
