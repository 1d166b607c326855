"""Encoders without a masked-LM head as student and teacher, and text that is not masked."""

import copy

import pytest
import torch
from conftest import MODEL_TYPES, SHARED_LAYERS, keep_two_layers, randomise, tiny_config, tiny_model
from tiny_tokenizers import unigram
from tiny_trainers import collate, history, make_trainer, random_rows
from transformers import AutoModel, AutoModelForMaskedLM

from hf_lrcompress import DistillationConfig, DistillationTrainer, reduce_layers
from hf_lrcompress.distillation.masked_accuracy import MaskedText, masked_token_accuracy
from hf_lrcompress.distillation.masking import ReproducibleMasking

LOSSES = dict.fromkeys(("relations", "hidden_cosine", "hidden_mse", "sentence_cosine", "sentence_similarity"), 1.0)


def pad(rows):
    batch = collate(rows)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


@pytest.fixture(scope="module")
def dataset():
    return random_rows()


def arguments(tmp_path, **settings):
    defaults = {"max_steps": 4, "logging_steps": 1, "learning_rate": 1e-3, "report_to": "none", "disable_tqdm": True}
    defaults |= {"disable_dropout": True, "save_strategy": "no", "use_cpu": True, "losses": LOSSES}
    return DistillationConfig(output_dir=str(tmp_path), **defaults | settings)


def headless(model_type, **changes):
    return randomise(AutoModel.from_config(tiny_config(model_type, **changes))).eval()


def losses_for(model):
    grouped = getattr(model.config, "num_key_value_heads", 3) != 3
    return {name: weight for name, weight in LOSSES.items() if name != "relations" or not grouped}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_family_is_distilled_and_saved_without_a_head(model_type, dataset, tmp_path):
    teacher = headless(model_type)
    shared = model_type in SHARED_LAYERS
    student = headless(model_type) if shared else reduce_layers(teacher, keep_two_layers(teacher))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * parameter.std()
    assert type(student) is type(teacher)
    names = set(student.state_dict())
    args = arguments(
        tmp_path, losses=losses_for(teacher), max_steps=30, per_device_train_batch_size=32, save_strategy="steps", save_steps=10
    )
    trainer = DistillationTrainer(
        student, args, teacher_model=teacher, train_dataset=dataset, eval_dataset=dataset[:8], data_collator=pad
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < 0.8 * before
    trainer.save_model(tmp_path / "saved")
    for directory in (tmp_path / "saved", tmp_path / "checkpoint-30"):
        loaded, info = AutoModel.from_pretrained(directory, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert set(student.state_dict()) == names == set(loaded.state_dict())


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(dataset, tmp_path):
    teacher = headless("xlm-roberta")
    args = arguments(tmp_path, max_steps=6, save_strategy="steps", save_steps=3)
    runs = []
    for resume in (None, str(tmp_path / "checkpoint-3")):
        student = reduce_layers(teacher, [1, 3])
        trainer = DistillationTrainer(student, args, teacher_model=teacher, train_dataset=dataset, data_collator=pad)
        trainer.train(resume_from_checkpoint=resume)
        runs.append(trainer)
    for name in LOSSES:
        assert history(runs[1], f"{name}_loss")[-3:] == pytest.approx(history(runs[0], f"{name}_loss")[-3:], abs=1e-6)


def test_a_head_changes_nothing_where_no_loss_needs_it(dataset, tmp_path):
    teacher = tiny_model("bert")
    student = reduce_layers(teacher, [1, 3])
    pairs = [(student.base_model, teacher.base_model), (copy.deepcopy(student), teacher), (student.base_model, teacher)]
    curves = []
    for small, large in pairs:
        args = arguments(tmp_path, max_grad_norm=0.0)
        trainer = DistillationTrainer(copy.deepcopy(small), args, teacher_model=large, train_dataset=dataset, data_collator=pad)
        trainer.train()
        curves.append(history(trainer, "loss"))
    assert curves[1] == pytest.approx(curves[0], abs=1e-4) and curves[2] == pytest.approx(curves[0], abs=1e-4)


@pytest.mark.parametrize(("losses", "masks"), [(LOSSES, False), (LOSSES | {"mlm": 1.0}, True), ({"logits_kl": 1.0}, False)])
def test_text_is_masked_only_where_a_loss_needs_it(tmp_path, losses, masks):
    tokenizer = unigram()
    rows = [{"input_ids": [0, *range(5, 5 + n), 2], "attention_mask": [1] * (n + 2)} for n in (9, 14)]
    teacher = tiny_model("xlm-roberta")
    args = arguments(tmp_path, losses=losses, max_steps=1)
    student = reduce_layers(teacher, [1, 3])
    trainer = DistillationTrainer(
        student, args, teacher_model=teacher, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )
    assert isinstance(trainer.data_collator, ReproducibleMasking) is masks
    batch = trainer.data_collator(rows)
    assert ("labels" in batch) is masks and batch["attention_mask"].sum() == 27
    trainer.train(), trainer.evaluate()


@pytest.mark.parametrize("model_type", ["distilbert", "mpnet", "modernbert"])
def test_a_teacher_takes_of_the_batch_what_it_knows(model_type, dataset, tmp_path):
    def with_types(rows):
        batch = pad(rows)
        return {**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])}

    args = arguments(tmp_path, losses={"hidden_mse": 1.0}, max_steps=1)
    trainer = DistillationTrainer(
        headless("bert"), args, teacher_model=headless(model_type), train_dataset=dataset, data_collator=with_types
    )
    assert trainer.train().global_step == 1


def test_no_text_to_start_from_is_said(tmp_path):
    args = arguments(tmp_path, losses={"hidden_mse": 1.0}, max_steps=1)
    trainer = DistillationTrainer(headless("bert"), args, teacher_model=headless("bert"), train_dataset=[], data_collator=pad)
    with pytest.raises(ValueError, match="the train_dataset has no examples"):
        trainer.train()


def test_masked_tokens_need_a_head():
    with pytest.raises(ValueError, match="a BertModel predicts no tokens; load it with AutoModelForMaskedLM"):
        masked_token_accuracy(headless("bert"), unigram(), MaskedText(("a",), ((),), 8))


def test_what_a_model_without_a_head_cannot_do_is_said(dataset, tmp_path):
    teacher, student = headless("bert"), headless("bert", num_hidden_layers=2)
    with pytest.raises(ValueError, match="logits_mse, mlm need a masked-LM head, and the student, a BertModel, has none"):
        make_trainer(student, teacher, dataset, tmp_path)
    with pytest.raises(ValueError, match="logits_kl need a masked-LM head, and the teacher, a BertModel, has none"):
        make_trainer(tiny_model("bert"), teacher, dataset, tmp_path, losses={"logits_kl": 1.0})
    with pytest.raises(ValueError, match="hidden_cosine compare with a teacher: give teacher_model"):
        make_trainer(student, None, dataset, tmp_path, losses={"hidden_cosine": 1.0})
    with pytest.raises(ValueError, match="101 rows, the teacher's 120"):
        make_trainer(student, headless("bert", vocab_size=120), dataset, tmp_path, losses={"hidden_cosine": 1.0})
    trainer = DistillationTrainer(
        tiny_model("bert"), arguments(tmp_path, losses={"mlm": 1.0}), train_dataset=dataset, data_collator=pad
    )
    with pytest.raises(ValueError, match="the data_collator gives no labels"):
        trainer.train()


def test_another_teacher_layer_and_other_heads_make_other_relations(dataset, tmp_path):
    teacher = headless("bert")
    first = reduce_layers(teacher, [0])
    curves = []
    for settings in ({"relation_layer": 0}, {"relation_layer": -1}, {"relation_layer": 3}, {"relation_heads": 6}):
        args = arguments(tmp_path, losses={"relations": 1.0}, max_steps=1, **settings)
        trainer = DistillationTrainer(copy.deepcopy(first), args, teacher_model=teacher, train_dataset=dataset, data_collator=pad)
        trainer.train()
        curves.append(history(trainer, "relations_loss")[0])
    assert curves[0] == pytest.approx(0, abs=1e-6) and curves[1] == curves[2] > 1e-4 and curves[3] != curves[1]


def test_a_masked_lm_student_keeps_its_class(dataset, tmp_path):
    teacher = tiny_model("modernbert")
    trainer = make_trainer(reduce_layers(teacher, [0, 3]), teacher, dataset, tmp_path, losses={"hidden_cosine": 1.0})
    trainer.train()
    trainer.save_model(tmp_path / "saved")
    _, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
