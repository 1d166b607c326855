"""What holds on a CPU holds on a GPU. Skipped where there is none; LRCOMPRESS_TEST_DEVICE=cpu tries the tests themselves out."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import keep_two_layers, tiny_model
from evaluation.tiny_tasks import save_models_and_tasks
from made_up_texts import make_texts
from saved_teachers import save_teacher
from tiny_trainers import history, make_trainer, random_rows
from trained_tokenizers import xlm_roberta
from transformers import TrainerCallback

from hf_lrcompress.calibration.importance import score_neurons
from hf_lrcompress.distillation.cross_entropy import linear_cross_entropy
from hf_lrcompress.distillation.kl_divergence import linear_kl
from hf_lrcompress.distillation.loss_table import LOSSES
from hf_lrcompress.distillation.losses import linear_mse
from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.scoring import Comparison, score_models
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.evaluation.task_data import load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.surgery.layer_reduction import reduce_layers
from hf_lrcompress.texts.languages import Language

DEVICE = os.environ.get("LRCOMPRESS_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU"),
]

LOSS_PAIRS = [["mlm", name] for name in LOSSES if name != "mlm"]


@pytest.fixture(scope="module")
def dataset():
    return random_rows()


@pytest.fixture
def teacher():
    return tiny_model("xlm-roberta")


@pytest.fixture
def student(teacher):
    return reduce_layers(teacher, keep_two_layers(teacher))


def gradients(function, tensors, device):
    """The value of a function of some tensors on a device, and its gradients, all of them back on the CPU."""
    moved = [tensor.to(device) for tensor in tensors]
    leaves = [tensor.requires_grad_() for tensor in moved if tensor.is_floating_point()]
    value = function(*moved)
    value.sum().backward()
    return [value.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("tokens", [5, 700])
@pytest.mark.parametrize("function", [linear_cross_entropy, linear_mse, linear_kl], ids=lambda function: function.__name__)
def test_losses_over_the_vocabulary_and_their_gradients(function, tokens):
    torch.manual_seed(0)
    features, weight, bias = torch.randn(tokens, 24), torch.randn(3000, 24), torch.randn(3000)
    if function is linear_cross_entropy:
        given = [features, weight, bias, torch.randint(3000, (tokens,))]
    else:
        given = [features, weight, bias, *(tensor + 0.1 * torch.randn_like(tensor) for tensor in (features, weight, bias))]

    def value(*tensors):
        result = function(*tensors)
        return result[0] if isinstance(result, tuple) else result

    expected = gradients(value, [tensor.clone() for tensor in given], "cpu")
    for mine, theirs in zip(gradients(value, given, DEVICE), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("names", LOSS_PAIRS, ids="+".join)
def test_a_training_is_that_of_the_cpu(student, teacher, dataset, tmp_path, names, bf16):
    settings = {"losses": dict.fromkeys(names, 1.0), "bf16": bf16}
    both = [(make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path / "cpu", **settings), "cpu")]
    both[0][0].train()
    teacher.to(DEVICE)
    both.append((make_trainer(student, teacher, dataset, tmp_path / "gpu", use_cpu=DEVICE == "cpu", **settings), DEVICE))
    both[1][0].train()
    assert next(student.parameters()).device.type == DEVICE
    for name in [f"{name}_loss" for name in names]:
        expected, found = (history(trainer, name) for trainer, _ in both)
        assert found == pytest.approx(expected, rel=5e-2 if bf16 else 1e-3)


def test_a_training_begun_on_the_cpu_goes_on_on_the_gpu_and_back(student, teacher, dataset, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    whole = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path / "whole", **settings)
    whole.train()
    for stop, on_cpu in ((2, True), (4, DEVICE == "cpu"), (6, True)):
        part = make_trainer(copy.deepcopy(student), teacher, dataset, tmp_path / "parts", use_cpu=on_cpu, **settings)
        part.teacher_model.to(part.args.device)
        part.add_callback(Stop(stop))
        part.train(resume_from_checkpoint=stop > 2)
    for expected, found in zip(whole.model.parameters(), part.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


class Stop(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a GPU")
def test_a_batch_that_the_card_has_no_room_for_is_found_smaller(tmp_path):
    sizes = {"hidden_size": 192, "intermediate_size": 768, "max_position_embeddings": 132}
    teacher = tiny_model("xlm-roberta", **sizes)  # a layer keeps some 400 MB of such a batch
    rows = [{"input_ids": [5 + (row + place) % 90 for place in range(128)]} for row in range(256)]
    settings = {"per_device_train_batch_size": 256, "max_steps": 1, "auto_find_batch_size": True, "use_cpu": False}
    trainer = make_trainer(reduce_layers(teacher, [0, 2]), teacher, rows, tmp_path, **settings)
    room = torch.cuda.memory_reserved() + 500 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        trainer.train()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    found = trainer.args.per_device_train_batch_size
    assert found < 256 and found * trainer.args.gradient_accumulation_steps == 256 and history(trainer, "loss")


@pytest.fixture
def without_gpu(monkeypatch):
    """Called, it hides the GPU."""
    return lambda: monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)


def test_importance_is_that_of_the_cpu(dataset, without_gpu):
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    rows = [row | {"attention_mask": [1] * len(row["input_ids"])} for row in dataset]
    found = score_neurons(copy.deepcopy(model), rows, tokenizer)
    without_gpu()
    expected = score_neurons(model, rows, tokenizer)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.max().item())


def test_a_score_is_that_of_the_cpu(tmp_path, metric_modules, without_gpu):
    inputs = save_models_and_tasks(tmp_path)
    task = load_task(TASKS["ner"], Language.from_tag("sk"), inputs / "ner")
    model = ModelUnderTest("large", str(inputs / "large"))
    both = [Comparison([model], [task], TaskTraining(epochs=8), (3,), tmp_path / name, reference="large") for name in "ab"]
    found = score_models(both[0])[0]["mean"]
    without_gpu()
    assert found == pytest.approx(score_models(both[1])[0]["mean"], abs=0.1)


def test_two_stages_are_those_of_the_cpu(tmp_path):
    save_teacher(tmp_path / "teacher")
    for name in ("train", "validation"):
        (tmp_path / f"{name}.txt").write_text("\n".join(make_texts(200, len(name))), encoding="utf-8")
    config = {
        "teacher": str(tmp_path / "teacher"),
        "train": {"files": [str(tmp_path / "train.txt")]},
        "validation": {"files": [str(tmp_path / "validation.txt")]},
        "stages": ["trim_vocab", "reduce_layers"],
        "trim_vocab": {"vocab_size": 200},
        "reduce_layers": {"num_hidden_layers": 2},
        "block_size": 32,
        "training": {"max_steps": 4, "bf16": False, "disable_dropout": True},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    reports = []
    for name, visible in (("cpu", ""), ("gpu", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))):
        command = [sys.executable, "-m", "hf_lrcompress", "compress", "--lang", "sk", "--config", str(tmp_path / "config.yaml")]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": visible}
        subprocess.run([*command, "--output_dir", str(tmp_path / name)], check=True, env=environment)
        reports.append(json.loads((tmp_path / name / "report.json").read_text())["stages"])
    for expected, found in zip(*reports, strict=True):
        assert found["parameters"] == expected["parameters"]
        assert found["mlm_accuracy"] == pytest.approx(expected["mlm_accuracy"], abs=0.02)
        assert found["sentence_similarity"] == pytest.approx(expected["sentence_similarity"], abs=0.02)
