"""Trainings of an evaluation in several processes: launched together, or started as workers."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest
from evaluation.tiny_tasks import save_models_and_tasks
from own_code import ADD_ROW, with_own_code

from hf_lrcompress.__main__ import main
from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.jobs import ScoringJob, run_jobs
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.evaluation.task_data import load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.texts.languages import Language
from hf_lrcompress.workers import start_worker

pytestmark = pytest.mark.usefixtures("metric_modules")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return save_models_and_tasks(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def job_of(inputs, tmp_path):
    """A training of a model, by the model's folder."""
    data = load_task(TASKS["tc"], Language.from_tag("sk"), inputs / "tc")

    def make(folder):
        model = ModelUnderTest(folder.name, str(folder))
        return ScoringJob(model, data, TaskTraining(epochs=1), 42, tmp_path / f"{folder.name}.json", "x")

    return make


def predictions_in(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.jsonl")}


def assert_each_was_trained_once(errors):
    for task, rate in (("tc", "0.0001"), ("ner", "0.0003")):
        assert errors.count(f"large, {task}, seed 1, learning rate {rate}:") == 1, errors[-6000:]


def test_scores_are_those_of_one_process(inputs, started, tmp_path, monkeypatch, capfd):
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    for name, value in (environment | {"HF_DATASETS_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    command = ["evaluate", "--model", str(inputs / "large"), "--lang", "sk", "--epochs", "1", "--seeds", "1"]
    command += [f"--task_data={task}={inputs / task}" for task in ("tc", "ner")]
    assert main([*command, "--output_dir", str(tmp_path / "alone")]) == 0
    capfd.readouterr()
    alone = predictions_in(tmp_path / "alone")
    assert len(alone) == 2

    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "hf_lrcompress"]
    assert subprocess.run([*launched, *command, "--output_dir", str(tmp_path / "launched")]).returncode == 0
    assert_each_was_trained_once(capfd.readouterr().err)
    assert predictions_in(tmp_path / "launched") == alone

    assert main([*command, "--workers", "2", "--output_dir", str(tmp_path / "workers")]) == 0
    assert_each_was_trained_once(capfd.readouterr().err)
    assert predictions_in(tmp_path / "workers") == alone and len(started) == 2


def test_one_that_fails_stops_no_other(inputs, job_of, tmp_path, capfd):
    jobs = [job_of(tmp_path / "nowhere"), job_of(inputs / "large")]
    with pytest.raises(OSError, match="a process of the evaluation has ended with exit code 1; it has said why"):
        run_jobs(jobs, workers=2)
    assert "error: " in capfd.readouterr().err and [job.is_done() for job in jobs] == [False, True]


@pytest.mark.parametrize("workers", [1, 2])
def test_time_is_recorded_while_trainings_run(inputs, job_of, monkeypatch, workers):
    monkeypatch.setattr("hf_lrcompress.evaluation.jobs.EVERY", 0.1)
    calls = []
    run_jobs([job_of(inputs / "large"), job_of(inputs / "small")], workers=workers, now_and_then=lambda: calls.append(1))
    assert len(calls) >= 2


def test_on_ctrl_c_those_that_run_are_ended(inputs, job_of, monkeypatch):
    started = []

    def start(command, *arguments, **settings):
        if started:
            raise KeyboardInterrupt
        started.append(start_worker([sys.executable, "-c", "import time; time.sleep(60)"], *arguments, **settings))
        return started[0]

    monkeypatch.setattr("hf_lrcompress.evaluation.jobs.start_worker", start)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job_of(inputs / "large"), job_of(inputs / "small")], workers=2)
    assert started[0].returncode == -signal.SIGTERM


def test_shares_end_with_a_parent_that_was_killed(inputs, job_of, tmp_path):
    """Else the same command, given again, would train beside them, into the same files."""
    job = job_of(inputs / "large")
    long = replace(job, training=replace(job.training, epochs=10_000))
    (tmp_path / "jobs").write_bytes(pickle.dumps([long, replace(long, path=tmp_path / "other.json")]))
    code = "import pickle, sys; from hf_lrcompress.evaluation.jobs import run_jobs\n"
    code += "run_jobs(pickle.load(open(sys.argv[1], 'rb')), workers=2)"
    parent = psutil.Popen([sys.executable, "-c", code, str(tmp_path / "jobs")])
    shares = []
    while len(shares) < 2:
        assert parent.poll() is None
        time.sleep(0.1)
        shares = parent.children()
    parent.kill()
    parent.wait()
    _, train_on = psutil.wait_procs(shares, timeout=90)
    for share in train_on:
        share.kill()
    assert not train_on


def test_a_share_in_a_new_process_knows_the_models_own_code(inputs, job_of, tmp_path):
    files = {path.name: path.read_bytes() for path in (inputs / "small").iterdir()}
    (tmp_path / "own").mkdir()
    for name, content in with_own_code(files).items():
        (tmp_path / "own" / name).write_bytes(content)
    job = job_of(tmp_path / "own")
    command = [sys.executable, "-c", ADD_ROW + "from hf_lrcompress.evaluation.jobs import run_share; run_share()"]
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run(command, input=pickle.dumps(([job], 0)), capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert 0 <= job.result()["scores"]["macro_f1"] <= 1
