"""The learning rate is chosen on validation, for every model and task; rows say what was chosen and what they stand beside."""

import math
import shutil
from collections import Counter
from dataclasses import fields, replace

import pytest
from evaluation.tiny_tasks import save_models_and_tasks
from seqeval.metrics import f1_score as seqeval_f1
from sklearn.metrics import f1_score

from hf_lrcompress.__main__ import parse_arguments
from hf_lrcompress.commands.evaluate import read_training
from hf_lrcompress.evaluation.encoding import EncodedTask, ModelUnderTest
from hf_lrcompress.evaluation.entries import majority_scores
from hf_lrcompress.evaluation.scoring import Comparison, score_factors, score_models
from hf_lrcompress.evaluation.settings import TaskTraining, chosen_seeds
from hf_lrcompress.evaluation.tables import score_notes
from hf_lrcompress.evaluation.task_data import load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.evaluation.training import train_and_score
from hf_lrcompress.run.configuration import build
from hf_lrcompress.stages.evaluate import Evaluate, compared_with
from hf_lrcompress.texts.languages import Language

pytestmark = pytest.mark.usefixtures("metric_modules")
RATES = (1e-4, 1e-2)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return save_models_and_tasks(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def comparison(inputs, tmp_path):
    return Comparison(
        models=[ModelUnderTest("large", str(inputs / "large"))],
        tasks=[load_task(TASKS["tc"], Language.from_tag("sk"), inputs / "tc")],
        training=TaskTraining(epochs=1, learning_rates=RATES),
        seeds=(3, 4, 5),
        output_dir=tmp_path / "scores",
        reference="large",
    )


@pytest.fixture
def trained(monkeypatch):
    """The trainings that are asked for, as rate and seed, in place of which results are given: on validation, and on test."""
    asked, given = [], {}

    def train(model, encoded, training, seed, callbacks):
        (rate,) = training.learning_rates
        asked.append((rate, seed))
        validation, test = given.get((rate, seed)) or given.get(rate, (0.5, 0.5))
        scores = {encoded.data.task.metric: test, "accuracy": test}
        return {"scores": scores, "validation": validation, "epoch": 1, "seconds": 0.0, "predictions": []}

    monkeypatch.setattr("hf_lrcompress.evaluation.jobs.train_and_score", train)
    return asked, given


def test_all_seeds_are_trained_at_the_best_rate_and_the_first_seed_not_twice(comparison, trained):
    asked, given = trained
    given |= {1e-4: (0.3, 0.9), 1e-2: (0.4, 0.1)}  # test must not decide
    (row,) = score_models(comparison)
    assert row["learning_rate"] == 1e-2 and row["learning_rates"] == [1e-4, 1e-2] and row["values"] == [0.1] * 3
    assert asked == [(1e-4, 3), (1e-2, 3), (1e-2, 4), (1e-2, 5)]


def test_of_equal_rates_the_first_is_taken(comparison, trained):
    rates = replace(comparison, training=TaskTraining(learning_rates=(5e-4, 1e-4, 1e-2)))
    assert score_models(rates)[0]["learning_rate"] == 5e-4


def test_a_rate_at_which_a_seed_fails_gives_way_to_the_next_best(comparison, trained, caplog):
    asked, given = trained
    given |= {1e-4: (0.7, 0.9), 1e-2: (0.8, 0.1), (1e-2, 5): (0.0, 0.0)}
    (row,) = score_models(comparison)
    assert row["learning_rate"] == 1e-4 and row["failed_rates"] == [1e-2] and row["values"] == [0.9] * 3
    assert asked == [(1e-4, 3), (1e-2, 3), (1e-2, 4), (1e-2, 5), (1e-4, 4), (1e-4, 5)]
    assert "large, tc: a training at learning rate 0.01 failed; all seeds go on at 0.0001" in caplog.text
    assert "learning rate 0.0001 (large, which fails at 0.01)" in score_notes([row])[-2]
    asked.clear()
    assert score_models(comparison) == [row] and not asked


def test_a_model_that_fails_at_every_rate_is_scored_at_the_best(comparison, trained):
    asked, given = trained
    given |= {1e-4: (0.0, 0.1), 1e-2: (0.05, 0.2)}
    (row,) = score_models(comparison)
    assert row["learning_rate"] == 1e-2 and row["failed_rates"] == [1e-2, 1e-4] and row["values"] == [0.2] * 3
    assert asked == [(1e-4, 3), (1e-2, 3), (1e-2, 4), (1e-2, 5)]


def test_failing_is_measured_on_validation(comparison):
    data = comparison.tasks[0]
    always = Counter(example.labels for example in data.train).most_common(1)[0][0]
    gold = [example.labels for example in data.validation]
    expected = f1_score(gold, [always] * len(gold), average="macro")
    assert majority_scores(data, data.validation)["macro_f1"] == pytest.approx(expected)


def test_what_adapting_lost_is_not_hidden_by_retention_of_the_adapted(comparison, inputs, monkeypatch):
    scores = {"came": 0.8, "adapted": 0.5, "small": 0.4}

    def train(model, encoded, training, seed, callbacks):
        found = scores[model.name]
        on_test = {"macro_f1": found, "accuracy": found}
        return {"scores": on_test, "validation": found, "epoch": 1, "seconds": 0.0, "predictions": []}

    monkeypatch.setattr("hf_lrcompress.evaluation.jobs.train_and_score", train)
    models = [ModelUnderTest(name, str(inputs / "large")) for name in scores]
    both = replace(comparison, models=models, reference="adapted", original="came")
    kept = [[row["retention"], row["retention_of_original"]] for row in score_models(both)]
    assert kept == [pytest.approx([1.6, 1.0]), pytest.approx([1.0, 0.625]), pytest.approx([0.8, 0.5])]
    assert "retention_of_original" not in score_models(replace(both, original=None))[0]
    assert compared_with(["teacher", "adapt_teacher", "prune_ffn"]) == ("adapt_teacher", "teacher")
    assert compared_with(["teacher", "prune_ffn"]) == ("teacher", None)


def test_models_and_tasks_choose_apart(comparison, inputs, trained, monkeypatch):
    both = [ModelUnderTest(name, str(inputs / name)) for name in ("large", "small")]
    tasks = [*comparison.tasks, load_task(TASKS["ner"], Language.from_tag("sk"), inputs / "ner")]
    best = {("large", "tc"): 1e-4, ("large", "ner"): 1e-2, ("small", "tc"): 1e-2, ("small", "ner"): 1e-4}

    def train(model, encoded, training, seed, callbacks):
        validation = float(training.learning_rates == (best[model.name, encoded.data.task.name],))
        scores = {encoded.data.task.metric: 0.5, "accuracy": 0.5}
        return {"scores": scores, "validation": validation, "epoch": 1, "seconds": 0.0, "predictions": []}

    monkeypatch.setattr("hf_lrcompress.evaluation.jobs.train_and_score", train)
    rows = score_models(replace(comparison, models=both, tasks=tasks))
    assert {(row["model"], row["task"]): row["learning_rate"] for row in rows} == best


def test_what_was_trained_at_the_papers_rate_serves_the_choice(comparison, trained):
    asked, _ = trained
    (paper,) = score_models(replace(comparison, training=TaskTraining(epochs=1)))
    assert paper["learning_rate"] == 1e-4 and paper["learning_rates"] == [1e-4]
    assert asked == [(1e-4, seed) for seed in (3, 4, 5)]
    asked.clear()
    score_models(comparison)
    assert asked == [(1e-2, 3)]  # it is no better than the paper's: three seeds of that are there
    asked.clear()
    score_models(replace(comparison, training=replace(comparison.training, learning_rates=(1e-4, 1e-2, 1e-1))))
    assert asked == [(1e-1, 3)]


def test_every_reduction_factor_chooses(comparison, trained):
    asked, given = trained
    given[1e-2] = (0.9, 0.9)
    rows = score_factors(replace(comparison, seeds=(3,)), [16, 4])
    assert [(row["reduction_factor"], row["learning_rate"], row["seeds"]) for row in rows] == [(16, 1e-2, [3]), (4, 1e-2, [3])]
    assert asked == [(1e-4, 3), (1e-2, 3)] * 2


@pytest.mark.parametrize(("given", "quick", "seeds"), [((), False, (42, 43, 44)), ((), True, (42,)), ((7, 8), True, (7, 8))])
def test_quick_has_one_seed_unless_some_are_given(given, quick, seeds):
    assert chosen_seeds(given, quick) == seeds


def test_a_real_choice_is_that_of_the_results_and_resumes_piece_by_piece(comparison, inputs):
    data = load_task(TASKS["ner"], Language.from_tag("sk"), inputs / "ner")
    rates = TaskTraining(epochs=2, learning_rates=(3e-4, 1e-2))
    comparison = replace(comparison, tasks=[data], seeds=(3, 4), training=rates)
    encoded = EncodedTask.encode(data, comparison.models[0], label_all_tokens=False)
    naive = {
        rate: [train_and_score(comparison.models[0], encoded, rates.with_rate(rate), seed) for seed in (3, 4)]
        for rate in rates.learning_rates
    }
    assert naive[3e-4][0]["scores"] != naive[1e-2][0]["scores"]
    best = max(naive, key=lambda rate: naive[rate][0]["validation"])
    (row,) = score_models(comparison)
    assert row["learning_rate"] == best
    assert row["values"] == [result["scores"]["seqeval_f1"] for result in naive[best]]
    before = {path.name: path.stat().st_mtime_ns for path in comparison.output_dir.iterdir()}
    assert {"large-ner-3.json", "large-ner-lr0.01-3.json"} < set(before) and len(before) == 6  # results and predictions
    (comparison.output_dir / "large-ner-3.json").unlink()
    assert score_models(comparison) == [row]
    after = {path.name: path.stat().st_mtime_ns for path in comparison.output_dir.iterdir()}
    assert {name for name in before if after[name] != before[name]} == {"large-ner-3.json", "large-ner-3.jsonl"}


def test_a_training_with_several_rates_is_refused(comparison):
    encoded = EncodedTask.encode(comparison.tasks[0], comparison.models[0], label_all_tokens=False)
    with pytest.raises(ValueError, match="a training has one learning rate"):
        train_and_score(comparison.models[0], encoded, comparison.training, seed=3)


def test_a_result_is_that_of_its_epochs_whatever_asked_for_them(comparison):
    def made(**given):
        (entry,) = replace(comparison, training=TaskTraining(**given)).entries()
        return entry.job(1e-4, 3).fingerprint

    task = comparison.tasks[0].task
    assert made(quick=True) == made(epochs=task.quick_epochs) != made(epochs=task.quick_epochs + 1)
    of_another_version = replace(task, epochs=200, quick_epochs=50, title="other", everywhere=None)
    longer = replace(comparison.tasks[0], task=of_another_version)
    (entry,) = replace(comparison, tasks=[longer], training=TaskTraining(epochs=3)).entries()
    assert entry.job(1e-4, 3).fingerprint == made(epochs=3)


def test_a_result_is_that_of_its_data_whatever_that_is_called(comparison, inputs, tmp_path):
    moved = tmp_path / "other"
    shutil.copytree(inputs / "tc", moved)
    data = load_task(TASKS["tc"], Language.from_tag("sk"), moved)
    (before,), (after,) = comparison.entries(), replace(comparison, tasks=[data]).entries()
    assert data.source == "other" and after.job(1e-4, 3).fingerprint == before.job(1e-4, 3).fingerprint
    on_hub = [replace(data, source=name, is_local=False) for name in ("Davlan/sib200", "mteb/sib200")]
    assert on_hub[0].identity() != on_hub[1].identity() and "is_local" not in on_hub[0].identity()


def test_quick_has_a_rate_of_its_own_unless_some_are_given():
    """That of adapters: where all is trained the paper's rates are not too low."""
    assert [TaskTraining(quick=True).rates_of(task) for task in TASKS.values()] == [(5e-4,)] * 4
    assert TaskTraining(quick=True, tuning="full").rates_of(TASKS["tc"]) == (1e-4,)
    assert TaskTraining(quick=True, learning_rates=(1e-3, 1e-2)).rates_of(TASKS["tc"]) == (1e-3, 1e-2)
    assert TaskTraining(epochs=20).rates_of(TASKS["tc"]) == (1e-4,)


@pytest.mark.parametrize("task", ["tc", "ner"])
def test_rows_say_the_epochs_and_what_the_most_frequent_label_scores(comparison, inputs, trained, task):
    data = load_task(TASKS[task], Language.from_tag("sk"), inputs / task)
    (row,) = score_models(replace(comparison, tasks=[data], training=TaskTraining(quick=True)))
    assert row["epochs"] == {"tc": 20, "ner": 20}[task]
    if task == "tc":
        (label, _), *_ = Counter(example.labels for example in data.train).most_common()
        expected = f1_score([example.labels for example in data.test], [label] * len(data.test), average="macro")
    else:
        (label, _), *_ = Counter(tag for example in data.train for tag in example.labels).most_common()
        predicted = [[label] * len(example.labels) for example in data.test]
        expected = seqeval_f1([list(example.labels) for example in data.test], predicted)
    assert row["majority"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "vocab.txt", "modeling_own.py", "model.safetensors"])
def test_scores_of_a_model_are_not_those_of_a_changed_one(comparison, trained, inputs, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(inputs / "large", folder)
    (folder / "vocab.txt").write_text("a\n", encoding="utf-8")
    (folder / "modeling_own.py").write_text("# code\n", encoding="utf-8")
    (folder / "README.md").write_text("card", encoding="utf-8")
    comparison = replace(comparison, models=[ModelUnderTest("large", str(folder))])
    rows = score_models(comparison)
    (folder / "README.md").write_text("another card", encoding="utf-8")
    assert score_models(comparison) == rows
    content = (folder / name).read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1]) if name.endswith(".safetensors") else content + b"\n"
    (folder / name).write_bytes(changed)
    with pytest.raises(FileExistsError, match="other data, settings or another model; choose another output directory"):
        score_models(comparison)


def test_stage_and_command_line_have_the_settings_of_task_training():
    given = ["evaluate", "--model", "m", "--lang", "sk"]
    assert read_training(parse_arguments(given)) == TaskTraining() == Evaluate().task_training()
    given += ["--learning_rates", "1e-4,5e-4", "--quick", "--epochs", "3", "--patience", "2", "--label_all_tokens"]
    of_both = {"learning_rates": (1e-4, 5e-4), "quick": True, "epochs": 3, "patience": 2, "label_all_tokens": True}
    of_adapters = {"reduction_factor": 8, "small_reduction_factor": 2}
    assert of_both.keys() | of_adapters.keys() | {"tuning"} == {setting.name for setting in fields(TaskTraining)}
    for settings in ({"tuning": "full"}, of_adapters):
        options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        wanted = TaskTraining(**of_both, **settings)
        assert read_training(parse_arguments([*given, *options])) == wanted
        mapping = of_both | settings | {"learning_rates": [1e-4, 5e-4], "tasks": ["tc"]}
        stage = build(Evaluate, mapping, "evaluate")
        assert stage.task_training() == wanted and type(stage.task_training()) is TaskTraining


@pytest.mark.parametrize("rates", [[0], [-1e-4], [math.nan], [math.inf], ["1e-4"], [True], [None], [[1e-4]]])
def test_rates_that_are_no_positive_numbers_are_refused(rates):
    with pytest.raises(ValueError, match="learning_rates must be (a number|numbers above 0, such as 1e-4), got"):
        build(Evaluate, {"learning_rates": rates}, "evaluate")


def test_the_rates_are_a_list_of_different_ones():
    with pytest.raises(ValueError, match="evaluate: learning_rates must be a list, got 0.001"):
        build(Evaluate, {"learning_rates": 1e-3}, "evaluate")
    with pytest.raises(ValueError, match=r"learning_rates must differ from each other, got \[0.001, 0.001\]"):
        TaskTraining(learning_rates=(1e-3, 1e-3))


def test_a_factor_that_all_models_have_anyway_is_not_trained_again(comparison):
    """All are small, and small ones have a factor of their own."""
    assert comparison.with_factor(16).output_dir == comparison.output_dir
    small = replace(comparison, training=TaskTraining(small_reduction_factor=2))
    assert small.with_factor(2).output_dir == small.output_dir
    assert small.with_factor(16).output_dir == small.output_dir / "r16"
