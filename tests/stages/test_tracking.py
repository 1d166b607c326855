"""Experiment tracking by the Trainer's own `report_to`: one run per stage, those of a run folder together."""

import importlib.util
import sqlite3

import pytest
from conftest import tiny_model
from made_up_texts import make_texts
from trained_tokenizers import xlm_roberta

from hf_lrcompress.stages.adapt_teacher import AdaptTeacher
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.stages.protocol import StageContext
from hf_lrcompress.stages.training import train_student
from hf_lrcompress.stages.training_arguments import training_arguments, with_effect
from hf_lrcompress.texts.corpus import CorpusSource
from hf_lrcompress.texts.languages import Language


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train a stage for two steps, tracked; gives the stage's directory."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "text.txt").write_text("\n".join(make_texts(60, 1)), encoding="utf-8")
    text = CorpusSource(files=(str(tmp_path / "text.txt"),))
    tokenizer = xlm_roberta()

    def train(name: str, tracker: str):
        stage_dir = tmp_path / "sk-tiny" / name
        settings = {"max_steps": 2, "logging_steps": 1, "disable_tqdm": True, "report_to": tracker}
        inputs = RunInputs(Language.from_tag("sk"), ModelSource(""), text, text, settings, block_size=32)
        task = StageContext(inputs, ModelSource(""), stage_dir, masked=None, similarities=None)
        model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        train_student(task, model, None, tokenizer, AdaptTeacher().arguments(inputs, str(stage_dir)))
        return stage_dir

    return train


def test_a_stage_is_a_run_and_the_run_folder_its_project():
    arguments = training_arguments({}, "runs/sk-tiny/02-adapt_teacher", seed=1)
    assert (arguments.run_name, arguments.project, arguments.report_to) == ("02-adapt_teacher", "sk-tiny", [])
    assert training_arguments({"run_name": "mine"}, "runs/sk-tiny/02-adapt_teacher", seed=1).run_name == "mine"


def test_tensorboard_writes_into_each_stages_directory(train):
    for name in ("01-adapt_teacher", "02-reduce_layers"):
        stage_dir = train(name, "tensorboard")
        assert list(stage_dir.glob("runs/*/events*")) and not (stage_dir / "training_args.bin").exists()


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_has_a_run_for_each_stage_in_one_group(train, tmp_path, monkeypatch):
    import wandb

    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    started, init = [], wandb.init
    monkeypatch.setattr(wandb, "init", lambda **settings: started.append(init(**settings)) or started[-1])
    for name in ("01-adapt_teacher", "02-reduce_layers"):
        train(name, "wandb")
    assert [(run.name, run.group) for run in started] == [("01-adapt_teacher", "sk-tiny"), ("02-reduce_layers", "sk-tiny")]
    assert wandb.run is None


@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_has_a_run_for_each_stage_in_one_local_project(train, tmp_path, monkeypatch):
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    stages = ["01-adapt_teacher", "02-reduce_layers"]
    for name in stages:
        train(name, "trackio")
    (database,) = (tmp_path / "trackio").glob("*.db")
    assert database.stem == "sk-tiny"
    with sqlite3.connect(database) as connection:
        assert sorted(row[0] for row in connection.execute("select distinct run_name from metrics")) == stages


def test_when_evaluations_choose_they_change_the_result():
    settings = {"eval_steps": 5, "save_steps": 5, "logging_steps": 1, "learning_rate": 1e-3}
    assert with_effect(settings) == {"learning_rate": 1e-3}
    following = [{"lr_scheduler_type": name} for name in ("reduce_lr_on_plateau", "greedy")]
    for choosing in ({"load_best_model_at_end": True}, *following):
        assert with_effect(settings | choosing) == {"eval_steps": 5, "save_steps": 5, "learning_rate": 1e-3} | choosing
