import copy
import os

import pytest
import torch
from conftest import keep_two_layers, tiny_model
from tiny_trainers import collate, history, make_trainer, naive_parts, random_rows
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, HfArgumentParser, PreTrainedTokenizerFast, TrainerCallback, TrainingArguments

from hf_lrcompress import DistillationConfig, DistillationTrainer, reduce_layers, truncate_hidden
from hf_lrcompress.models.architectures import layers_of


@pytest.fixture(scope="module")
def dataset():
    return random_rows()


@pytest.fixture(params=["bert", "xlm-roberta"])
def model_type(request):
    return request.param


@pytest.fixture
def teacher(model_type):
    return tiny_model(model_type)


@pytest.fixture
def student(teacher):
    return reduce_layers(teacher, keep_two_layers(teacher))


def test_loss_and_gradients_are_those_of_the_definition(student, teacher, dataset, tmp_path):
    batch, naive_student = collate(dataset[:8]), copy.deepcopy(student)
    trainer = make_trainer(student, teacher, dataset, tmp_path, alpha=0.3)
    loss = trainer.compute_loss(student.train(), batch)
    mlm, mse = naive_parts(naive_student.eval(), teacher, batch)
    expected = 0.3 * mlm + 0.7 * mse
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward(), expected.backward()
    for (name, mine), naive in zip(student.named_parameters(), naive_student.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, naive.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_kl_with_temperature_is_the_mean_over_tokens(student, teacher, dataset, tmp_path):
    batch = collate(dataset[:8])
    trainer = make_trainer(student, teacher, dataset, tmp_path, alpha=0.0, distillation_loss="kl", temperature=2.0)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        logits = [model(**inputs).logits[real] / 2 for model in (student, teacher)]
        loss = trainer.compute_loss(student.train(), batch)
    expected = 4 * F.kl_div(logits[0].log_softmax(-1), logits[1].softmax(-1), reduction="batchmean")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_both_parts_are_logged_and_make_the_loss(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path, alpha=0.25, logging_steps=2)
    trainer.train()
    losses, mlm, mse = (history(trainer, key) for key in ("loss", "mlm_loss", "logits_mse_loss"))
    assert len(losses) == 2
    for total, first, second in zip(losses, mlm, mse, strict=True):
        assert total == pytest.approx(0.25 * first + 0.75 * second, abs=2e-4)
    assert all(key not in trainer.state.log_history[-1] for key in ("mlm_loss",))


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 8), (2, 4)])
def test_accumulation_gives_the_losses_of_one_large_batch(student, teacher, dataset, tmp_path, batch_size, accumulation):
    """Rows have different lengths: dividing each small batch by its own count would give other losses."""
    whole = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path)
    parts = make_trainer(
        student, teacher, dataset, tmp_path, per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation
    )
    whole.train(), parts.train()
    assert history(parts, "loss") == pytest.approx(history(whole, "loss"), abs=1e-4)
    assert history(parts, "grad_norm") == pytest.approx(history(whole, "grad_norm"), rel=1e-4)
    assert history(parts, "mlm_loss") == pytest.approx(history(whole, "mlm_loss"), abs=1e-4)


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(student, teacher, dataset, tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path, **settings)
    whole.train()
    resumed = make_trainer(student, teacher, dataset, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for key in ("loss", "mlm_loss", "logits_mse_loss"):
        assert history(resumed, key)[-3:] == pytest.approx(history(whole, key)[-3:], abs=1e-5)


def test_a_checkpoint_holds_the_student_only_and_loads_strictly(student, teacher, dataset, tmp_path):
    make_trainer(student, teacher, dataset, tmp_path, max_steps=1, save_strategy="steps", save_steps=1).train()
    loaded, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "checkpoint-1", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.num_parameters() == student.num_parameters()
    assert any(value > 0 for key, value in loaded.config.to_dict().items() if "dropout" in key and value)


def test_the_teacher_is_unchanged(student, teacher, dataset, tmp_path):
    before = copy.deepcopy(teacher.state_dict())
    make_trainer(student, teacher, dataset, tmp_path, losses={"mlm": 1.0, "hidden_cosine": 1.0}).train()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_the_student_is_an_ordinary_model_to_everyone_else(student, teacher, dataset, tmp_path):
    inputs = {"input_ids": torch.arange(5, 15)[None]}
    with torch.no_grad():
        before = student(**inputs).logits
        make_trainer(student, teacher, dataset, tmp_path)
        torch.testing.assert_close(student.eval()(**inputs).logits, before)


def test_evaluation_reports_masked_token_accuracy(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path, per_device_eval_batch_size=4)
    metrics = trainer.evaluate()
    batch = collate(dataset[:10])
    with torch.no_grad():
        predicted = student.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
    masked = batch["labels"] != -100
    assert metrics["eval_mlm_accuracy"] == pytest.approx((predicted == batch["labels"])[masked].float().mean().item())
    mlm, mse = naive_parts(student, teacher, batch)
    assert metrics["eval_mlm_loss"] == pytest.approx(mlm.item(), rel=1e-5)
    assert metrics["eval_logits_mse_loss"] == pytest.approx(mse.item(), rel=1e-5)
    assert metrics["eval_loss"] == pytest.approx(0.5 * (mlm + mse).item(), rel=1e-5)


@pytest.mark.parametrize("losses", [{"mlm": 0.5, "logits_kl": 0.5}, {"hidden_cosine": 1.0, "relations": 0.5}])
def test_the_best_model_is_chosen_by_what_an_evaluation_measures(student, teacher, dataset, tmp_path, losses):
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=losses)
    of_time = {"epoch", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time"}
    assert trainer.evaluate().keys() - of_time == {f"eval_{name}" for name in trainer.args.evaluated}


def test_evaluations_do_not_change_the_training(student, teacher, dataset, tmp_path):
    """Dropout is drawn at random in each step, and so is a data loader's seed when it begins."""
    trained = []
    for evaluating in ({}, {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True}):
        own = copy.deepcopy(student)
        trainer = make_trainer(own, teacher, dataset, tmp_path, disable_dropout=False, **evaluating)
        trainer.train()
        assert len(history(trainer, "eval_loss")) == (5 if evaluating else 0)
        trained.append(own.state_dict())
    without, with_evaluations = trained
    assert all(torch.equal(tensor, with_evaluations[name]) for name, tensor in without.items())


@pytest.mark.parametrize(("alpha", "part"), [(0.9, "mlm_loss"), (0.0, "logits_mse_loss")])
def test_training_lowers_the_loss(student, teacher, dataset, tmp_path, alpha, part):
    trainer = make_trainer(student, teacher, dataset, tmp_path, alpha=alpha, max_steps=40, learning_rate=3e-3)
    trainer.train()
    assert history(trainer, part)[-1] < 0.8 * history(trainer, part)[0]


@pytest.mark.parametrize("distillation_loss", ["mse", "kl"])
def test_masked_positions_only(student, teacher, dataset, tmp_path, distillation_loss):
    batch = collate(dataset[:8])
    settings = {"alpha": 0.0, "distillation_loss": distillation_loss, "distillation_positions": "masked"}
    trainer = make_trainer(student, teacher, dataset, tmp_path, **settings)
    with torch.no_grad():
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        logits = [model(**inputs).logits[batch["labels"] != -100] for model in (student, teacher)]
        loss = trainer.compute_loss(student.train(), batch)
    if distillation_loss == "mse":
        expected = (logits[0] - logits[1]).square().mean()
    else:
        expected = F.kl_div(logits[0].log_softmax(-1), logits[1].softmax(-1), reduction="batchmean")
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert trainer.evaluate(dataset[:8])[f"eval_logits_{distillation_loss}_loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["hidden_mse", "hidden_cosine", "sentence_cosine", "sentence_similarity", "relations"])
@pytest.mark.parametrize("hidden_size", [24, 12])
def test_feature_losses_are_learnt_resumed_and_left_out_of_the_model(teacher, dataset, tmp_path, name, hidden_size):
    student = reduce_layers(truncate_hidden(teacher, hidden_size), keep_two_layers(teacher))
    names = set(student.state_dict())
    rate = 1e-3 if hidden_size == 24 and name != "relations" else 5e-3  # it starts where least squares can bring it
    settings = {"max_steps": 12, "save_strategy": "steps", "save_steps": 6, "learning_rate": rate}
    settings["losses"] = {"mlm": 0.5, "logits_mse": 0.5, name: 10.0}
    whole = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path, **settings)
    whole.train()
    features = history(whole, f"{name}_loss")
    assert sum(features[6:]) < 0.9 * sum(features[:6])
    parts = zip(*(history(whole, key) for key in ("loss", "mlm_loss", "logits_mse_loss")), features, strict=True)
    for total, mlm, mse, feature in parts:
        assert total == pytest.approx(0.5 * mlm + 0.5 * mse + 10 * feature, abs=2e-4)
    assert set(whole.model.state_dict()) == names
    _, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "checkpoint-6", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    resumed = make_trainer(student, teacher, dataset, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert history(resumed, f"{name}_loss")[-6:] == pytest.approx(features[-6:], abs=1e-5)
    for key in (f"eval_{name}_loss", "eval_loss"):
        assert resumed.evaluate()[key] == pytest.approx(whole.evaluate()[key], abs=1e-5)


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_lost(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path, max_steps=6, save_strategy="steps", save_steps=2)

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 4:
                model.get_output_embeddings().bias.data[0] = torch.nan

    trainer.add_callback(Poison())
    with pytest.raises(FloatingPointError, match="the loss is nan at step 5; the last good checkpoint is .*checkpoint-4;"):
        trainer.train()
    kept = AutoModelForMaskedLM.from_pretrained(tmp_path / "checkpoint-4")
    assert all(parameter.isfinite().all() for parameter in kept.parameters())


@pytest.mark.parametrize(("batch_size", "steps", "advice"), [(8, 1, "4 and g.*=2"), (9, 2, "3 and g.*=6"), (1, 4, "shorter")])
def test_a_batch_that_does_not_fit_is_one_line(student, teacher, dataset, tmp_path, batch_size, steps, advice):
    settings = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": steps}
    trainer = make_trainer(student, teacher, dataset, tmp_path, **settings)
    layers_of(student)[1].register_forward_hook(lambda module, inputs, output: torch.empty(2**60))
    with pytest.raises(MemoryError, match=f"^batches of {batch_size} do not fit into the memory of cpu; .*{advice}"):
        trainer.train()


def test_less_is_promised_of_smaller_batches_where_sentences_are_compared(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses={"mlm": 1.0, "sentence_similarity": 1.0})
    layers_of(student)[1].register_forward_hook(lambda module, inputs, output: torch.empty(2**60))
    with pytest.raises(MemoryError, match="=4 and .*=2 take less, though sentence_similarity then compares fewer sentences "):
        trainer.train()
    trainer.args.per_device_train_batch_size = 5  # of two sentences there is nothing to compare
    with pytest.raises(MemoryError, match="batches of 5 do not fit .*; give shorter texts or a smaller model"):
        trainer.train()


def test_workers_that_would_mask_every_epoch_alike_are_refused(student, teacher, dataset, tmp_path):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({f"{i}": i for i in range(101)}, "0")), mask_token="3", pad_token="0"
    )
    args = DistillationConfig(str(tmp_path), dataloader_persistent_workers=True, dataloader_num_workers=1, use_cpu=True)
    with pytest.raises(ValueError, match="dataloader_persistent_workers would mask every epoch alike; leave it out"):
        DistillationTrainer(student, args, teacher_model=teacher, train_dataset=dataset, processing_class=tokenizer)


def test_tf32_is_refused_where_it_is_too_coarse(tmp_path):
    with pytest.raises(ValueError, match="tf32 is too coarse for logits_mse"):
        DistillationConfig(str(tmp_path), tf32=True)


def test_a_checkpoint_with_weights_that_are_not_finite_is_not_written(student, teacher, dataset, tmp_path):
    trainer = make_trainer(student, teacher, dataset, tmp_path, max_steps=4, save_strategy="steps", save_steps=2)

    class Poison(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 4:
                model.get_output_embeddings().bias.data[0] = torch.nan

    trainer.add_callback(Poison())
    with pytest.raises(FloatingPointError, match="a weight is not finite at step 4; the last good checkpoint is .*checkpoint-2"):
        trainer.train()
    assert not (tmp_path / "checkpoint-4").exists()


@pytest.mark.parametrize("distillation_loss", ["mse", "kl"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_stands_for_two_losses(student, teacher, dataset, tmp_path, alpha, distillation_loss):
    both = {"mlm": alpha, f"logits_{distillation_loss}": 1 - alpha}
    short = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path, alpha=alpha, distillation_loss=distillation_loss)
    losses = make_trainer(
        student, teacher, dataset, tmp_path, losses={name: both[name] for name in both if both[name] or alpha < 1}
    )
    assert short.args.loss_weights == losses.args.loss_weights
    short.train(), losses.train()
    assert history(losses, "loss") == history(short, "loss")
    assert DistillationConfig(output_dir=str(tmp_path), use_cpu=True).loss_weights == {"logits_mse": 0.5, "mlm": 0.5}


def test_a_weight_of_zero_reports_a_loss_and_learns_nothing_from_it(student, teacher, dataset, tmp_path):
    other = copy.deepcopy(student)
    without = make_trainer(other, teacher, dataset, tmp_path, losses={"relations": 1.0})
    reported = make_trainer(student, teacher, dataset, tmp_path, losses={"relations": 1.0, "logits_kl": 0.0})
    without.train(), reported.train()
    assert history(reported, "relations_loss") == pytest.approx(history(without, "relations_loss"), abs=1e-6)
    assert min(history(reported, "logits_kl_loss")) > 0 and not history(without, "logits_kl_loss")


def test_alpha_one_is_plain_mlm_and_needs_no_teacher(student, dataset, tmp_path):
    batch = collate(dataset[:8])
    trainer = make_trainer(student, None, dataset, tmp_path, alpha=1.0)
    with torch.no_grad():
        expected = student.eval()(**batch).loss
        torch.testing.assert_close(trainer.compute_loss(student.train(), batch), expected, rtol=1e-5, atol=1e-6)


def test_bf16_autocast_stays_close(student, teacher, dataset, tmp_path):
    exact = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path)
    rough = make_trainer(student, teacher, dataset, tmp_path, bf16=True)
    exact.train(), rough.train()
    assert history(rough, "loss") == pytest.approx(history(exact, "loss"), rel=0.02)


def test_wrong_pairs_are_refused(student, teacher, dataset, tmp_path, model_type):
    with pytest.raises(ValueError, match="give teacher_model, or set alpha=1"):
        make_trainer(student, None, dataset, tmp_path)
    with pytest.raises(ValueError, match="101 rows, the teacher's 120: ids 101 to 119 are in one only; trim the teacher with"):
        make_trainer(student, tiny_model(model_type, vocab_size=120), dataset, tmp_path)
    with pytest.raises(ValueError, match="same object"):
        make_trainer(teacher, teacher, dataset, tmp_path)
    with pytest.raises(ValueError, match="training mode, so its dropout is on; call teacher_model.eval"):
        make_trainer(student, copy.deepcopy(teacher).train(), dataset, tmp_path)
    odd = tiny_model(model_type, hidden_size=20, num_attention_heads=4)
    with pytest.raises(ValueError, match="relation_heads=3 must divide the teacher's attention of width 20"):
        make_trainer(student, odd, dataset, tmp_path, losses={"relations": 1.0})


def test_tokenizers_that_differ_are_refused_by_id(student, teacher, tmp_path):
    words = [*"abcdefgh", "[UNK]", "[PAD]", "[MASK]"]
    others = [*words[:3], "x", *words[4:], "more"]
    vocabularies = [{word: i for i, word in enumerate(order)} for order in (words, others)]
    backends = [Tokenizer(WordLevel(vocabulary, "[UNK]")) for vocabulary in vocabularies]
    tokenizers = [PreTrainedTokenizerFast(tokenizer_object=backend) for backend in backends]
    args = DistillationConfig(output_dir=str(tmp_path), use_cpu=True)
    with pytest.raises(ValueError, match=r"differ at 2 ids, such as 3 \('d' and 'x'\), 11 \(None and 'more'\); trim the teacher"):
        DistillationTrainer(
            student, args, teacher_model=teacher, processing_class=tokenizers[0], teacher_processing_class=tokenizers[1]
        )


def test_several_gpus_in_one_process_are_refused(student, tmp_path):
    args = DistillationConfig(output_dir=str(tmp_path), alpha=1.0, use_cpu=True)
    args._n_gpu = 2
    with pytest.raises(ValueError, match="start with accelerate launch"):
        DistillationTrainer(student, args, data_collator=collate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, "alpha must be from 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"distillation_loss": "cosine"}, "distillation_loss must be one of mse, kl"),
        ({"distillation_positions": "some"}, "distillation_positions must be one of all, masked"),
        ({"alpha": "half"}, "alpha must be from 0"),
        ({"losses": {"attention": 1.0}}, "a name in losses must be one of logits_mse, logits_kl, mlm, relations,"),
        ({"losses": {"relations": -1.0}}, "the weight of relations must be a number from 0, got -1.0"),
        ({"losses": {"relations": "much"}}, "the weight of relations must be a number from 0, got 'much'"),
        ({"losses": {"relations": 0.0, "mlm": 0}}, "all weights are 0"),
        ({"losses": {}}, "losses must be names and weights"),
        ({"losses": "mlm"}, "losses must be JSON, such as"),
        (
            {"losses": {"sentence_similarity": 1.0}, "per_device_train_batch_size": 2},
            "per_device_train_batch_size must be 3 or more",
        ),
        (
            {"losses": {"sentence_similarity": 1.0}, "per_device_eval_batch_size": 2},
            "per_device_eval_batch_size must be 3 or more",
        ),
        ({"losses": ["mlm"]}, "losses must be names and weights"),
        ({"losses": {"mlm": 1.0}, "alpha": 0.5}, "alpha=0.5 and losses are both given"),
        ({"relation_heads": 0}, "relation_heads must be a whole number, 1 or more"),
        ({"relation_layer": -2}, "relation_layer must be a whole number, -1 or more"),
        ({"hidden_layers": [0, 1.5]}, "hidden_layers must be a whole number"),
        ({"head_steps": -1}, "head_steps must be a whole number, 0 or more"),
        ({"mlm_probability": 0.0}, "mlm_probability must be between"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor must be 0.0: the losses are not of logits alone"),
        ({"batch_eval_metrics": True}, "batch_eval_metrics must be False"),
        ({"eval_do_concat_batches": False}, "eval_do_concat_batches must be True"),
        ({"losses": {"relations": 1.0}, "torch_compile": True}, "relations are read inside the layers, which cannot be compiled"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        DistillationConfig(output_dir=str(tmp_path), **settings)


def test_losses_can_be_given_as_on_a_command_line(tmp_path):
    given = ["--output_dir", str(tmp_path), "--use_cpu", "--losses", '{"mlm": 0.5, "logits_kl": 1}']
    (args,) = HfArgumentParser(DistillationConfig).parse_args_into_dataclasses(given)
    assert args.loss_weights == {"logits_kl": 1.0, "mlm": 0.5}


def test_a_copy_of_a_student_computes_and_learns_with_its_own_weights(student, teacher, dataset, tmp_path):
    """The forward that a training leaves behind held the student itself: a copy computed with the original's weights."""
    make_trainer(student, teacher, dataset, tmp_path, max_steps=1).train()
    inputs = {"input_ids": torch.tensor([dataset[0]["input_ids"]])}
    logits = student.eval()(**inputs).logits
    copied = copy.deepcopy(student)
    torch.testing.assert_close(copied(**inputs).logits, logits)
    for parameter in copied.parameters():
        parameter.data.zero_()
    assert not copied(**inputs).logits.any() and torch.equal(student(**inputs).logits, logits)
    copied = copy.deepcopy(student)
    make_trainer(copied, teacher, dataset, tmp_path, max_steps=1).train()
    assert torch.equal(student.eval()(**inputs).logits, logits) and not torch.equal(copied.eval()(**inputs).logits, logits)


@pytest.mark.parametrize("bf16", [False, True])
def test_trainings_that_share_a_student_keep_their_losses(student, teacher, dataset, tmp_path, bf16):
    """The settings of the last one made were in the student's forward, and took those of the others away."""
    weights = ({"mlm": 0.5, "logits_mse": 0.5}, {"mlm": 1.0}, {"hidden_mse": 1.0})

    def losses(trainer):
        return {name: value for name, value in trainer.evaluate().items() if name.endswith("loss")}

    alone = [losses(make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path, losses=each, bf16=bf16)) for each in weights]
    together = [make_trainer(student, teacher, dataset, tmp_path, losses=each, bf16=bf16) for each in weights]
    assert [losses(trainer) for trainer in together] == [pytest.approx(each) for each in alone]
    together[0].train()
    assert history(together[0], "logits_mse_loss")[0] == pytest.approx(alone[0]["eval_logits_mse_loss"], rel=0.5)


def test_what_would_be_ignored_or_rounded_away_is_refused(student, teacher, dataset, tmp_path):
    with pytest.raises(TypeError, match="args must be a DistillationConfig, got TrainingArguments"):
        DistillationTrainer(student, TrainingArguments(str(tmp_path), use_cpu=True), teacher_model=teacher)
    args = DistillationConfig(str(tmp_path), use_cpu=True)
    for name in ("compute_loss_func", "compute_metrics", "preprocess_logits_for_metrics"):
        with pytest.raises(ValueError, match=f"{name} would not be called"):
            DistillationTrainer(student, args, teacher_model=teacher, data_collator=collate, **{name: print})
    with pytest.raises(ValueError, match="weights are bfloat16, in which small steps are rounded away; load it"):
        make_trainer(copy.deepcopy(student).bfloat16(), teacher, dataset, tmp_path)


def test_compiled_layers_compute_the_same(student, teacher, dataset, tmp_path):
    plain = make_trainer(copy.deepcopy(student), copy.deepcopy(teacher), dataset, tmp_path)
    compiled = make_trainer(student, teacher, dataset, tmp_path, torch_compile=True, torch_compile_backend="aot_eager")
    plain.train(), compiled.train()
    assert not any(name.startswith("ACCELERATE_DYNAMO") for name in os.environ)  # later Trainers would compile too
    assert all(layer._compiled_call_impl is not None for model in (student, teacher) for layer in layers_of(model))
    assert history(compiled, "loss") == pytest.approx(history(plain, "loss"), abs=1e-4)
    compiled.save_model(tmp_path / "saved")
    _, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
