"""The least-squares start of projections, and losses on hidden states against loops written from the definitions."""

import copy

import pytest
import torch
from conftest import tiny_model
from tiny_trainers import collate, history, make_trainer, random_rows
from torch.nn import functional as F

from hf_lrcompress import reduce_layers, truncate_hidden
from hf_lrcompress.distillation.feature_losses import similarity_disagreement
from hf_lrcompress.distillation.projections import StateMoments, StateProjection, same_relative_depth

HIDDEN = {"hidden_cosine": 1.0, "hidden_mse": 0.5, "sentence_cosine": 2.0}


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(200, 6, generator=generator) + 30 * torch.ones(6)
    teacher = student @ torch.randn(6, 9, generator=generator) + torch.randn(200, 9, generator=generator)
    return student, teacher


@pytest.fixture
def teacher():
    return tiny_model("bert")


@pytest.fixture
def student(teacher):
    return reduce_layers(truncate_hidden(teacher, 12), [1, 3])


@pytest.fixture(scope="module")
def dataset():
    return random_rows()


def test_the_start_is_the_ridge_regression_of_all_batches(states):
    moments, ridge = StateMoments(6), 0.1
    for student, teacher in zip(states[0].split(70), states[1].split(70), strict=True):
        moments.add(student, teacher)
    start = moments.least_squares(ridge)
    s, t = (each.double() for each in states)
    centred, centred_t = s - s.mean(0), t - t.mean(0)
    penalty = (ridge * centred.square().sum() / 6) ** 0.5 * torch.eye(6, dtype=torch.float64)
    rows, targets = torch.cat([centred, penalty]), torch.cat([centred_t, torch.zeros(6, 9, dtype=torch.float64)])
    expected = torch.linalg.lstsq(rows, targets).solution.T
    torch.testing.assert_close(start["weight"].double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(start["student_mean"].double(), s.mean(0), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(start["teacher_mean"].double(), t.mean(0), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(start["teacher_variance"].double(), centred_t.square().mean(), rtol=1e-5, atol=1e-5)


def test_a_projection_is_affine_and_predicts_what_is_left_of_the_teachers_mean(states):
    moments = StateMoments(6)
    moments.add(*states)
    project = StateProjection(6, 9)
    project.load_state_dict(moments.least_squares(ridge=1e-6))
    s, t = states
    ones = torch.cat([s, torch.ones(200, 1)], dim=1).double()
    affine = torch.linalg.lstsq(ones, t.double()).solution
    expected = (ones @ affine).float() - t.mean(0)
    torch.testing.assert_close(project(s), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(project.centred(t), t - t.mean(0))


def test_states_without_spread_have_a_map_too():
    moments = StateMoments(2)
    moments.add(torch.ones(3, 2), torch.randn(3, 4))
    assert all(tensor.isfinite().all() for tensor in moments.least_squares().values())


def test_depths_are_relative():
    assert same_relative_depth(6, 12) == (0, 2, 4, 6, 8, 10, 12)
    assert same_relative_depth(4, 6) == (0, 2, 3, 4, 6)
    assert same_relative_depth(3, 3) == (0, 1, 2, 3)


def states_of(student, teacher, batch, pairs):
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        all_states = [model.eval()(**inputs, output_hidden_states=True).hidden_states for model in (student, teacher)]
    return [(all_states[0][i].double(), all_states[1][j].double()) for i, j in pairs]


def naive_losses(student, teacher, fitted_on, batch, pairs):
    """The three losses, token by token, with the least-squares maps of `fitted_on`."""
    real = fitted_on["attention_mask"].bool()
    maps = []
    for s, t in states_of(student, teacher, fitted_on, pairs):
        s, t = s[real], t[real]
        covariance = (s - s.mean(0)).T @ (s - s.mean(0)) / len(s)
        ridge = 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance))
        weight = torch.linalg.solve(covariance + ridge, (s - s.mean(0)).T @ (t - t.mean(0)) / len(s))
        maps.append((weight, t.mean(0) - s.mean(0) @ weight, t.mean(0), (t - t.mean(0)).square().mean()))
    depth_weights = [0.25] * (len(pairs) - 1) + [1.0]
    cosine, mse, sentence, tokens = 0.0, 0.0, 0.0, 0
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        for (s, t), (weight, bias, mean, variance), depth in zip(
            states_of(student, teacher, batch, pairs), maps, depth_weights, strict=True
        ):
            for i in range(length):
                predicted = s[row, i] @ weight + bias
                cosine += depth * (1 - F.cosine_similarity(predicted - mean, t[row, i] - mean, dim=0))
                mse += depth * (predicted - t[row, i]).square().mean() / variance
        pooled = s[row, :length].mean(0) @ weight + bias
        sentence += 1 - F.cosine_similarity(pooled - mean, t[row, :length].mean(0) - mean, dim=0)
        tokens += length
    total = sum(depth_weights)
    return cosine / total / tokens, mse / total / tokens, sentence / len(batch["input_ids"])


@pytest.mark.parametrize(("hidden_layers", "targets"), [(None, (0, 2, 4)), ([1, 1, 3], (1, 1, 3))])
def test_losses_on_hidden_states_are_those_of_the_definition(student, teacher, dataset, tmp_path, hidden_layers, targets):
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN, hidden_layers=hidden_layers)
    loss = trainer.compute_loss(student.train(), collate(dataset[:8]))
    pairs = list(zip(range(3), targets, strict=True))
    cosine, mse, sentence = naive_losses(student, teacher, collate(dataset), collate(dataset[:8]), pairs)
    assert loss.item() == pytest.approx((cosine + 0.5 * mse + 2 * sentence).item(), rel=1e-4)
    metrics = trainer.evaluate(dataset[:8])
    assert metrics["eval_hidden_cosine_loss"] == pytest.approx(cosine.item(), rel=1e-4)
    assert metrics["eval_hidden_mse_loss"] == pytest.approx(mse.item(), rel=1e-4)
    assert metrics["eval_sentence_cosine_loss"] == pytest.approx(sentence.item(), rel=1e-4)
    assert "eval_mlm_accuracy" not in metrics


def test_a_student_that_holds_the_teachers_states_starts_near_zero(teacher, dataset, tmp_path):
    trainer = make_trainer(copy.deepcopy(teacher), teacher, dataset, tmp_path, losses=HIDDEN)
    assert trainer.evaluate()["eval_loss"] < 0.01


def test_training_goes_on_and_evaluates_again(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN, max_steps=6)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    middle = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < middle < before


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentences_are_what_their_pooling_makes_of_them(student, teacher, dataset, tmp_path, pooling):
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses={"sentence_similarity": 1.0}, sentence_pooling=pooling)
    inputs = {name: tensor for name, tensor in collate(dataset[:8]).items() if name != "labels"}
    mask = inputs["attention_mask"].unsqueeze(-1)
    vectors = []
    for model in (student.eval(), teacher):
        with torch.no_grad():
            states = model.base_model(**inputs).last_hidden_state
        vectors.append(states[:, 0] if pooling == "cls" else (states * mask).sum(dim=1) / mask.sum(dim=1))
    expected = similarity_disagreement(*vectors).mean().item()
    assert trainer.evaluate(dataset[:8])["eval_sentence_similarity_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("loss", "learnt"), [("sentence_similarity", False), ("sentence_cosine", True)])
def test_a_map_that_no_loss_uses_is_not_trained(student, teacher, dataset, tmp_path, loss, learnt):
    # DDP stops at parameters that get no gradient.
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses={loss: 1.0}, max_steps=1)
    assert len(trainer.projections) == 1
    assert [parameter.requires_grad for parameter in trainer.projections.parameters()] == [learnt] * 2
    trainer.train()
    assert history(trainer, f"{loss}_loss")[0] > 0


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 8), (2, 4)])
def test_accumulation_gives_the_losses_of_one_large_batch(student, teacher, dataset, tmp_path, batch_size, accumulation):
    whole = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path, losses=HIDDEN | {"relations": 1.0})
    settings = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation}
    parts = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN | {"relations": 1.0}, **settings)
    whole.train(), parts.train()
    for key in ("loss", "hidden_cosine_loss", "hidden_mse_loss", "sentence_cosine_loss", "relations_loss"):
        assert history(parts, key) == pytest.approx(history(whole, key), abs=1e-4)
    assert history(parts, "grad_norm") == pytest.approx(history(whole, "grad_norm"), rel=1e-4)


def test_relations_have_their_gradients_where_activations_are_computed_again(student, teacher, dataset, tmp_path):
    losses = {"relations": 1.0}
    kept = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path, losses=losses)
    again = make_trainer(student, teacher, dataset, tmp_path, losses=losses, gradient_checkpointing=True)
    kept.train(), again.train()
    assert min(history(kept, "grad_norm")) > 0
    assert history(again, "grad_norm") == pytest.approx(history(kept, "grad_norm"), rel=1e-4)
    reentrant = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    with pytest.raises(ValueError, match="relations have no gradient where use_reentrant is true"):
        make_trainer(student, teacher, dataset, tmp_path, losses=losses, **reentrant)


def test_the_best_checkpoint_comes_back_with_its_projections(student, teacher, dataset, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 6}
    settings |= {"load_best_model_at_end": True, "learning_rate": 0.5}
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN, **settings)
    trainer.train()
    assert trainer.state.best_model_checkpoint
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.best_metric, abs=1e-5)


def test_what_a_projection_cannot_start_or_go_on_from_is_said(student, teacher, dataset, tmp_path):
    make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path, max_steps=1, save_strategy="steps", save_steps=1).train()
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN)
    with pytest.raises(ValueError, match="has no projections.safetensors: it was saved with other losses"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN)
    trainer = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path / "new", losses=HIDDEN)
    with pytest.raises(ValueError, match="has no whole checkpoint; train from the beginning"):
        trainer.train(resume_from_checkpoint=True)
    fresh = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path / "new", losses=HIDDEN)
    trainer.train(), fresh.train()
    assert history(trainer, "loss") == history(fresh, "loss")  # the maps are computed all the same
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN)
    trainer.train_dataset = None
    with pytest.raises(ValueError, match="give a train_dataset"):
        trainer.evaluate()


def test_an_optimizer_that_would_leave_the_projections_as_they_are_is_refused(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN)
    trainer.optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match="hidden_cosine, hidden_mse, sentence_cosine: the optimizer does not train the projections"
    ):
        trainer.train()
    trainer.optimizer.add_param_group({"params": list(trainer.projections.parameters())})
    trainer.start_projections()
    before = [parameter.clone() for parameter in trainer.projections.parameters()]
    trainer.train()
    assert not all(map(torch.equal, before, trainer.projections.parameters()))
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN)
    trainer.create_optimizer()
    trainer.train()  # what the Trainer itself makes has them, before the training too


def test_layers_that_do_not_fit_are_refused(student, teacher, dataset, tmp_path):
    with pytest.raises(ValueError, match="hidden_layers has 2 entries, but the student 3 hidden states"):
        make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN, hidden_layers=[0, 4])
    with pytest.raises(ValueError, match="hidden_layers names 5, but the teacher's hidden states are 0 to 4"):
        make_trainer(student, teacher, dataset, tmp_path, losses=HIDDEN, hidden_layers=[0, 2, 5])
    with pytest.raises(ValueError, match="relation_layer=4, but the teacher has 4 layers: give 0 to 3, or -1"):
        make_trainer(student, teacher, dataset, tmp_path, losses={"relations": 1.0}, relation_layer=4)
    with pytest.raises(ValueError, match="relation_heads=5 must divide the student's attention of width 12"):
        make_trainer(student, teacher, dataset, tmp_path, losses={"relations": 1.0}, relation_heads=5)
    albert = tiny_model("albert")
    with pytest.raises(ValueError, match="share their weights, so its relations are those of the last"):
        make_trainer(student, albert, dataset, tmp_path, losses={"relations": 1.0}, relation_layer=1)


def test_every_standard_call_of_a_trainer_works_after_training(teacher, student, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path / "run", losses={"mlm": 1.0, **HIDDEN}, max_steps=2)
    trainer.train()
    first = trainer.evaluate()
    assert first["eval_hidden_mse_loss"] > 0
    assert trainer.evaluate()["eval_loss"] == pytest.approx(first["eval_loss"], rel=1e-6)
    assert trainer.predict(dataset[:10]).metrics["test_loss"] == pytest.approx(first["eval_loss"], rel=1e-6)
    trainer.save_model(str(tmp_path / "saved"))
    trainer.save_state()
    trainer.log_metrics("eval", first)
    trainer.save_metrics("eval", first)
    trainer.create_model_card()
    loaded, info = type(student).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["unexpected_keys"] and loaded.num_parameters() == student.num_parameters()
    trainer.args.max_steps = 3
    assert trainer.train().global_step == 3
    assert trainer.evaluate()["eval_loss"] > 0
