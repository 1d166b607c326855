import copy
import os

import pytest
import torch
from conftest import randomise, tiny_config, tiny_model
from tiny_tokenizers import unigram
from tiny_trainers import collate
from torch.nn import functional as F
from transformers import AutoModel, Trainer, TrainingArguments

from hf_lrcompress import GradientImportanceCallback, prune_ffn, reduce_layers, select_neurons
from hf_lrcompress.calibration.importance import LEFT_BEHIND, score_neurons
from hf_lrcompress.models.architectures import disable_dropout, ffn_inputs_of, layers_of


@pytest.fixture(scope="module")
def dataset():
    generator = torch.Generator().manual_seed(8)
    return [{"input_ids": torch.randint(5, 101, (12,), generator=generator).tolist()} for _ in range(12)]


def arguments(output_dir, **settings):
    defaults = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 0.0,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(output_dir=str(output_dir), **defaults | settings)


def without_dropout(model_type):
    model = tiny_model(model_type)
    disable_dropout(model)
    return model


def scores_by_hand(model, batches):
    """|Σ (w · ∂L/∂w + b ∂L/∂b)| over the rows of every neuron, one at a time, summed over batches."""
    scores = torch.zeros(len(layers_of(model)), 36)
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        for i, linears in enumerate(ffn_inputs_of(model)):
            for neuron in range(36):
                owned = [(linear, row) for linear in linears for row in range(neuron, linear.out_features, 36)]
                terms = [torch.dot(p[row].view(-1), p.grad[row].view(-1)) for linear, row in owned for p in linear.parameters()]
                scores[i, neuron] += torch.stack(terms).sum().abs().detach()
    return scores


def run(model, dataset, args, resume=None, data_collator=collate):
    callback = GradientImportanceCallback()
    trainer = Trainer(model, args, train_dataset=dataset, data_collator=data_collator, callbacks=[callback])
    trainer.train(resume_from_checkpoint=resume)
    return callback.scores


def test_any_trainer_gives_the_scores_of_a_hand_written_loop(model_type, dataset, tmp_path):
    model = without_dropout(model_type)
    before = copy.deepcopy(model.state_dict())
    batches = []

    def recording(rows):
        batches.append(collate(rows))
        return batches[-1]

    scores = run(model, dataset, arguments(tmp_path), data_collator=recording)
    expected = scores_by_hand(without_dropout(model_type), batches)
    assert len(batches) == 3
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-7)
    assert scores.dtype == torch.float32 and scores.shape == (len(layers_of(model)), 36)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_zeroed_neuron_scores_nothing(dataset, tmp_path):
    model = without_dropout("bert")
    dense = model.base_model.encoder.layer[1].intermediate.dense
    with torch.no_grad():
        dense.weight[7], dense.bias[7] = 0, 0
    scores = run(model, dataset, arguments(tmp_path))
    assert scores[1, 7] == 0 and (scores[1, :7] > 0).all()


def test_scores_survive_a_checkpoint(dataset, tmp_path, model_type="bert"):
    args = arguments(tmp_path, save_strategy="steps", save_steps=1)
    whole = run(without_dropout(model_type), dataset, args)
    resumed = run(without_dropout(model_type), dataset, args, resume=str(tmp_path / "checkpoint-2"))
    torch.testing.assert_close(resumed, whole, rtol=1e-5, atol=1e-8)


def test_scores_are_not_begun_again_in_the_middle(dataset, tmp_path):
    run(without_dropout("bert"), dataset, arguments(tmp_path / "first", save_strategy="steps", save_steps=1))
    elsewhere = arguments(tmp_path / "second")
    with pytest.raises(FileNotFoundError, match="second/checkpoint-2/.* does not exist: resume importance with it"):
        run(without_dropout("bert"), dataset, elsewhere, resume=str(tmp_path / "first" / "checkpoint-2"))


@pytest.mark.parametrize("settings", [{"max_grad_norm": 1.0}, {"gradient_accumulation_steps": 2}])
def test_settings_that_would_bend_the_scores_are_refused(dataset, tmp_path, settings, model_type="bert"):
    with pytest.raises(ValueError, match="gradient_accumulation_steps=1, max_grad_norm=0"):
        run(without_dropout(model_type), dataset, arguments(tmp_path, **settings))


def test_frozen_neurons_are_refused(dataset, tmp_path):
    model = without_dropout("bert")
    model.bert.encoder.layer[1].requires_grad_(False)
    with pytest.raises(ValueError, match="the feed-forward network of layer 1 is frozen"):
        run(model, dataset, arguments(tmp_path))


def test_high_scores_matter_more_than_low_ones(dataset, tmp_path):
    """Pruning the neurons with the lowest scores must change the outputs less than pruning those with the highest."""
    model = without_dropout("bert")
    scores = run(model, dataset, arguments(tmp_path))
    batch = collate(dataset)
    with torch.no_grad():
        whole = model.eval()(**batch).loss
        good = prune_ffn(model, select_neurons(scores, 24))(**batch).loss
        bad = prune_ffn(model, select_neurons(-scores, 24))(**batch).loss
    assert (good - whole).abs() < (bad - whole).abs()


def test_a_scoring_pass_needs_no_settings_and_changes_no_weight(capsys, model_type="bert"):
    tokenizer, model = unigram(), tiny_model(model_type)
    rows = [{"input_ids": [0, *range(5, 20), 2], "attention_mask": [1] * 17} for _ in range(6)]
    before = copy.deepcopy(model.state_dict())
    scores = score_neurons(model, rows, tokenizer, batch_size=2)
    assert scores.shape == (4, 36) and (scores > 0).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(score_neurons(tiny_model(model_type), rows, tokenizer, batch_size=2), scores)
    assert "train_loss" not in capsys.readouterr().out, "it is no training"


@pytest.mark.parametrize("training", [True, False])
def test_a_scored_model_stays_in_its_mode(dataset, training):
    """A model that is cut from one in training mode has its dropout on, and computes another thing each time."""
    model = tiny_model("bert").train(training)
    score_neurons(model, dataset, unigram())
    assert model.training == training


def test_scores_leave_nothing_to_the_trainings_after_them(dataset, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "false")
    before = dict(os.environ)
    score_neurons(tiny_model("bert"), dataset, unigram(), bf16=True)
    assert os.environ.items() >= {name: before[name] for name in LEFT_BEHIND}.items()
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    in_fp32 = score_neurons(tiny_model("bert"), dataset, unigram())
    score_neurons(tiny_model("bert"), dataset, unigram(), bf16=True)
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ
    assert torch.equal(score_neurons(tiny_model("bert"), dataset, unigram()), in_fp32)


def test_scores_are_those_of_the_loss_that_is_distilled(tmp_path):
    teacher = tiny_model("bert")
    student = reduce_layers(teacher, [1, 3])
    rows = [{"input_ids": [0, *range(5, 5 + n), 2], "attention_mask": [1] * (n + 2)} for n in (15, 9, 12, 15)]
    losses = {"logits_kl": 1.0}
    scores = score_neurons(copy.deepcopy(student), rows, unigram(), batch_size=4, losses=losses, teacher=teacher)
    disable_dropout(student)
    batch = unigram().pad(rows, return_tensors="pt")
    real = batch["attention_mask"].bool()
    log_student = student(**batch).logits[real].log_softmax(-1)
    F.kl_div(log_student, teacher(**batch).logits[real].softmax(-1), reduction="batchmean").backward()
    for layer, (linear,) in enumerate(ffn_inputs_of(student)):
        terms = (linear.weight * linear.weight.grad).sum(1) + linear.bias * linear.bias.grad
        torch.testing.assert_close(scores[layer], terms.abs().detach(), rtol=1e-3, atol=1e-6)


def test_scores_for_the_representation_need_no_head():
    teacher = randomise(AutoModel.from_config(tiny_config("bert"))).eval()
    student = reduce_layers(teacher, [1, 3])
    rows = [{"input_ids": [0, *range(5, 20), 2], "attention_mask": [1] * 17} for _ in range(6)]
    losses = {"relations": 1.0, "hidden_cosine": 1.0}
    scores = score_neurons(student, rows, unigram(), batch_size=2, losses=losses, teacher=teacher)
    assert scores.shape == (2, 36) and (scores > 0).all()


def test_scores_need_the_teacher_that_their_loss_compares_with():
    model = tiny_model("bert")
    rows = [{"input_ids": [0, *range(5, 20), 2], "attention_mask": [1] * 17} for _ in range(2)]
    with pytest.raises(ValueError, match="relations compare with a teacher"):
        score_neurons(model, rows, unigram(), losses={"relations": 1.0})
