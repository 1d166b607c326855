"""What a checkpoint brings beside its encoder changes no score; and what a person sees meanwhile."""

import json
import logging
import re
import shutil

import pytest
import torch
from conftest import tiny_config, tiny_model
from evaluation.tiny_tasks import save_models_and_tasks
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from hf_lrcompress.evaluation import progress
from hf_lrcompress.evaluation.adapters import load_for_task
from hf_lrcompress.evaluation.efficiency import measure_efficiency, speed_notes, timed_with
from hf_lrcompress.evaluation.encoding import EncodedTask, ModelUnderTest
from hf_lrcompress.evaluation.scoring import Comparison, score_models
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.evaluation.task_data import load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.evaluation.training import train_and_score
from hf_lrcompress.texts.languages import Language

pytestmark = pytest.mark.usefixtures("metric_modules")
CLASSES = {"tc": AutoModelForSequenceClassification, "ner": AutoModelForTokenClassification}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return save_models_and_tasks(tmp_path_factory.mktemp("inputs"))


def trained(directory, task) -> dict:
    data = load_task(TASKS[task], Language.from_tag("sk"), directory.parent / task)
    model = ModelUnderTest("model", str(directory))
    return train_and_score(model, EncodedTask.encode(data, model, False), TaskTraining(epochs=1), seed=3) | {"seconds": 0}


@pytest.fixture(scope="module")
def plain(inputs):
    """What training on a checkpoint without a classifier gives, by task."""
    return {task: trained(inputs / "large", task) for task in CLASSES}


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("task", ["tc", "ner"])
def test_a_trained_classifier_is_scored_as_its_encoder_is(inputs, plain, task, labels):
    classifier = CLASSES[task].from_pretrained(inputs / "large", num_labels=labels)
    for parameter in classifier.classifier.parameters():
        torch.nn.init.normal_(parameter)
    directory = inputs / f"classifier-{task}-{labels}"
    shutil.copytree(inputs / "large", directory)
    classifier.save_pretrained(directory)
    assert trained(directory, task) == plain[task]


@pytest.mark.parametrize("task", ["tc", "ner"])
def test_a_tokenizer_that_pads_on_the_left_changes_no_score(inputs, plain, task):
    """Tags were read where the tokens would be without padding, and a text's head read the state of padding."""
    directory = inputs / f"left-{task}"
    shutil.copytree(inputs / "large", directory)
    file = directory / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) | {"padding_side": "left"}
    file.write_text(json.dumps(settings), encoding="utf-8")
    assert AutoTokenizer.from_pretrained(directory).padding_side == "left"
    assert trained(directory, task) == plain[task]


@pytest.mark.parametrize("key", ["output_hidden_states", "output_attentions"])
def test_a_config_that_asks_for_more_outputs_is_scored_all_the_same(inputs, plain, key):
    directory = inputs / key
    shutil.copytree(inputs / "large", directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    (directory / "config.json").write_text(json.dumps(config | {key: True}), encoding="utf-8")
    assert trained(directory, "ner") == plain["ner"]
    assert measure_efficiency([ModelUnderTest("model", str(directory))])[0]["parameters"] > 0


def test_a_head_is_counted_only_where_all_have_one_and_tokens_are_those_that_ran(tmp_path):
    model = tiny_model("bert", max_position_embeddings=20)
    model.save_pretrained(tmp_path / "masked-lm")
    model.bert.save_pretrained(tmp_path / "encoder")
    both = [ModelUnderTest(name, str(tmp_path / name)) for name in ("masked-lm", "encoder")]
    rows = measure_efficiency(both)
    assert rows[0]["parameters"] == rows[1]["parameters"] < model.num_parameters()
    assert measure_efficiency(both[:1])[0]["parameters"] == model.num_parameters()
    for row in rows:
        assert row["tokens_per_second"] == pytest.approx(32 * 20 / (row["latency_ms_batch_32"] / 1000))
    in_words = f"Milliseconds are those of texts of 20 tokens, {timed_with(torch.get_num_threads())}."
    assert speed_notes(rows) == [in_words] and speed_notes([{"model": "of older code"}]) == []
    assert timed_with(1).startswith("with one thread of a CPU,") and timed_with(2).startswith("with 2 threads of a CPU,")


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("model_type", ["albert", "bert", "deberta-v2", "modernbert", "xlm-roberta"])
def test_a_new_head_is_the_same_whatever_head_the_checkpoint_has(model_type, tokens, tmp_path):
    """A pooler, a classifier with as many labels and a masked-LM head against none of them."""
    classes = CLASSES["ner" if tokens else "tc"]
    classifier = classes.from_config(tiny_config(model_type, num_labels=2))
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    classifier.save_pretrained(tmp_path / "head")
    masked_lm = tiny_model(model_type)
    encoder = classifier.base_model.state_dict()
    masked_lm.base_model.load_state_dict({name: encoder[name] for name in masked_lm.base_model.state_dict()})
    masked_lm.save_pretrained(tmp_path / "masked_lm")
    masked_lm.base_model.save_pretrained(tmp_path / "none")
    loaded = []
    for name in ("head", "masked_lm", "none"):
        torch.manual_seed(1)
        loaded.append(load_for_task(str(tmp_path / name), ["a", "b"], tokens).state_dict())
    for other in loaded[:2]:
        assert other.keys() == loaded[2].keys()
        assert all(torch.equal(tensor, loaded[2][name]) for name, tensor in other.items())
    for name, tensor in masked_lm.base_model.state_dict().items():
        new = loaded[0].get(f"{classifier.base_model_prefix}.{name}")
        assert new is None or torch.equal(new, tensor)  # None: the library `adapters` renames it


def test_progress_names_model_task_seed_and_epoch_and_says_how_long_it_takes(inputs, tmp_path, caplog, monkeypatch):
    seconds = iter(range(0, 10_000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    data = load_task(TASKS["tc"], Language.from_tag("sk"), inputs / "tc")
    models = [ModelUnderTest("large", str(inputs / "large"))]
    training = TaskTraining(epochs=2, learning_rates=(1e-4, 1e-3))
    with caplog.at_level(logging.INFO):
        score_models(Comparison(models, [data], training, (3, 4), tmp_path, "large"))
    said = [record.getMessage() for record in caplog.records if record.name == "hf_lrcompress.evaluation.progress"]
    trials, seeds = said[:6], said[6:]
    assert trials[0] == "1 of 2: large, tc, seed 3, learning rate 0.0001, begins"
    # half of one of three trainings, the third of which comes after the choice: five such halves are left
    said_of_epoch = r"1 of 2: large, tc, seed 3, learning rate 0.0001, epoch 1 of 2 \(\d+\.\d on validation\), about 0:"
    assert re.match(said_of_epoch, trials[1])
    assert trials[3].startswith("2 of 2: large, tc, seed 3, learning rate 0.001, begins, about 0:")
    assert len(seeds) == 3 and "large, tc, seed 4" in seeds[0] and seeds[-1].endswith(" on validation), about 0:00:00 left")
    assert not [record for record in caplog.records if "none are activated" in record.getMessage()]
