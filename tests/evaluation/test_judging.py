"""Scores that look like something: at the floor, after a shortened training, by an F1 that takes two tags for one."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from matplotlib.figure import Figure

from hf_lrcompress.benchmarks import quality
from hf_lrcompress.evaluation.judging import (
    is_at_baseline,
    missed_of_all,
    missed_text,
    partly_notice,
    retention,
    shortened_notice,
)
from hf_lrcompress.evaluation.metrics import score
from hf_lrcompress.evaluation.missed_labels import missed_labels
from hf_lrcompress.evaluation.tables import ACCURACY_NOTE, MAJORITY, capacity_table, missed_notes, score_notes, score_table
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.figures.of_runs import plot_capacity, plot_scores
from hf_lrcompress.publishing.index import render_index
from hf_lrcompress.publishing.metadata import render_eval_results
from hf_lrcompress.publishing.model_card import render_model_card
from hf_lrcompress.publishing.report import render_report

pytestmark = pytest.mark.usefixtures("metric_modules")
REPORT = Path(__file__).parents[1] / "report_of_a_masked_lm.json"
BASELINES = {"tc": 0.057, "sa": 0.472, "ner": 0.0, "pos": 0.06, "xpos": 0.06}


def row(model: str, task: str, mean: float, **more) -> dict:
    """A row as an evaluation of today makes it, after the paper's training."""
    return {
        "model": model,
        "task": task,
        "dataset": f"data/{task}",
        "metric": TASKS[task].metric,
        "mean": mean,
        "std": 0.0,
        "values": [mean] * 3,
        "majority": BASELINES[task],
        "seeds": [42, 43, 44],
        "test_size": 204,
        "train_overlap": 0.0,
        "quick": False,
        "epochs": TASKS[task].epochs,
        "patience": None,
        "tuning": "seq_bn",
        "reduction_factor": 16,
        "extra": {"accuracy": 0.4567, "majority_accuracy": 0.1234},
        "retention": None,
    } | more


def compared(teacher: dict[str, float], student: dict[str, float], **more) -> list[dict]:
    """The rows of both models, with retention."""
    references = {task: row("teacher", task, mean, **more) for task, mean in teacher.items()}
    rows = [*references.values(), *(row("truncate_hidden", task, mean, **more) for task, mean in student.items())]
    return [each | {"retention": retention(each, references[each["task"]])} for each in rows]


def report_of(scores: list[dict]) -> dict:
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    sizes = {"size_mb": 41.6, "latency_ms_batch_1": 3.0, "latency_ms_batch_32": 71.0, "tokens_per_second": 1e4, "speedup": 1.0}
    efficiency = [{"model": name, "parameters": 10_407_712, **sizes} for name in ("teacher", "truncate_hidden")]
    return report | {"scores": scores, "efficiency": efficiency, "skipped_tasks": []}


def eval_notes(report: dict, task: str) -> str:
    """What the Hub shows beside a score on a registered benchmark."""
    (entry,) = yaml.safe_load(render_eval_results(report, {f"data/{task}": task}))
    return entry["notes"]


def last_rows(table: str) -> list[dict[str, str]]:
    heads, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [dict(zip(heads, cells, strict=True)) for cells in rows]


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that are written, to look into."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: figures.append(figure))
    return figures


@pytest.mark.parametrize(
    "task, teacher, student, kept",
    [
        ("tc", 0.8, 0.6, 0.75),
        ("tc", 0.057, 0.057, None),  # one class predicted by both: was 100 %
        ("sa", 0.248, 0.9, None),  # the teacher predicts the rarer class: was 363 %
        ("ner", 0.0, 0.27, None),
        ("ner", 0.009, 0.283, None),  # was 3144 %
        ("ner", 0.29, 0.01, None),  # nothing is left
        ("ner", 0.29, 0.06, 0.06 / 0.29),
    ],
)
def test_at_or_near_the_baseline_there_is_no_retention(task, teacher, student, kept):
    _, compressed = compared({task: teacher}, {task: student})
    assert compressed["retention"] == (None if kept is None else pytest.approx(kept))
    assert is_at_baseline(row("teacher", task, teacher)) or is_at_baseline(compressed) or kept


@pytest.mark.parametrize(
    "task, predicted, gold, missed",
    [
        ("ner", [["B-PER", "O", "O"]], [["B-PER", "B-LOC", "I-LOC"]], {"LOC": 0.5}),
        ("ner", [["O", "O", "I-LOC"]], [["B-PER", "B-LOC", "I-LOC"]], {"PER": 0.5}),  # seqeval takes a lone I- for a span
        ("ner", [["O", "O"]], [["B-ORG", "O"]], {"ORG": 1.0}),
        ("ner", [["B-MISC", "O"]], [["O", "O"]], {}),
        ("ner", [["I-PER", "O", "O"]], [["I-PER", "I-PER", "I-LOC"]], {"LOC": 0.5}),  # IOB1: B- is only for what would run on
        ("ner", [["I-LOC", "I-LOC", "O"]], [["I-LOC", "B-LOC", "I-PER"]], {"PER": 1 / 3}),
        ("pos", [["NOUN", "NOUN", "VERB"]], [["NOUN", "X", "VERB"]], {"X": 1 / 3}),
        ("sa", ["positive"] * 4, ["negative", *["positive"] * 3], {"negative": 0.25}),
        ("tc", ["a", "b", "c"], ["c", "a", "b"], {}),
    ],
)
def test_labels_that_are_never_predicted_are_found(task, predicted, gold, missed):
    assert missed_labels(TASKS[task], predicted, gold) == pytest.approx(missed)


def test_models_with_other_adapters_are_not_compared_without_a_word():
    """A teacher of 768 dimensions keeps r = 16 where its student is given r = 2: it looked as if nothing was lost."""
    scores = [row("teacher", "ner", 0.684), row("truncate_hidden", "ner", 0.675, reduction_factor=2, retention=0.675 / 0.684)]
    report = report_of(scores)
    said = "Models have adapters of different sizes (r): retention compares each with the adapters that it has."
    texts = [*score_notes(scores), render_report(report), render_model_card(report)]
    assert sum(said in text for text in texts) == 3
    assert "3 seeds, seq_bn with r = 16 (teacher), seq_bn with r = 2 (truncate_hidden)" in score_notes(scores)[0]
    assert (
        "| seq_bn with r = 2  |" in render_model_card(report) and eval_notes(report, "ner").count("tuning seq_bn with r = 2") == 1
    )
    alike = [scores[0], scores[1] | {"reduction_factor": 16}]
    assert "3 seeds, seq_bn with r = 16;" in score_notes(alike)[0] and said not in " ".join(score_notes(alike))


def test_tasks_whose_data_has_one_name_are_two_entries_on_the_hub():
    scores = [row("truncate_hidden", "ner", 0.675, dataset="sk"), row("truncate_hidden", "pos", 0.92, dataset="sk")]
    (_, header, _) = render_model_card(report_of(scores + [row("truncate_hidden", "tc", 0.8)])).split("---\n", 2)
    results = yaml.safe_load(header)["model-index"][0]["results"]
    named = {result["dataset"]["type"]: len(result["metrics"]) for result in results if "task" in result}
    assert {name: named[name] for name in ("sk-ner", "sk-pos", "data/tc")} == {"sk-ner": 1, "sk-pos": 2, "data/tc": 1}


def test_what_was_learned_in_part_is_said_and_nothing_is_compared_with_it(drawn, tmp_path):
    """An F1 of 29 that finds persons only, of persons, places and organisations, is no score to keep 98 % of."""
    part = {"LOC": 0.36, "ORG": 0.05}
    whole, learned = row("teacher", "ner", 0.6), row("teacher", "ner", 0.29, missed=part)
    small = row("truncate_hidden", "ner", 0.28, missed=part)
    assert retention(small, whole) == pytest.approx(0.28 / 0.6)  # what it never finds is in its own score already
    assert retention(small, learned) is None and retention(whole, learned) is None
    assert retention(small, row("teacher", "ner", 0.29, missed={"ORG": 0.05})) is not None

    scores = [learned | {"retention": None}, small | {"retention": None}, row("teacher", "tc", 0.8, retention=1.0)]
    report = report_of(scores)
    said = "Never predicted, with one seed at least: LOC and ORG (41 % of the test) by teacher, truncate_hidden."
    assert "NER 28.0 (majority baseline 0.0; never predicts LOC and ORG)" in render_index({"sk": report})
    assert "name: seqeval_f1, never predicts LOC and ORG" in render_model_card(report)
    assert "never predicts LOC and ORG" in eval_notes(report, "ner")
    for text in (render_model_card(report), render_report(report)):
        assert said in text
    teacher = last_rows(score_table(scores, report["efficiency"]))[0]
    assert teacher["NER"] == "29.0 ± 0.0 (never LOC and ORG)" and teacher["retention %"] == "100.0 (without NER)"
    plot_scores(scores, report["efficiency"], tmp_path / "scores.png")
    assert drawn[0].axes[0].get_title() == "Learned in part: NER."
    of_factors = [small, small | {"reduction_factor": 2, "missed": {}}]
    (note,) = missed_notes(of_factors)
    assert "LOC and ORG (41 % of the test) by truncate_hidden (r = 16)." in note
    many = row("teacher", "pos", 0.3, missed=dict.fromkeys(("A", "B|C", "D", "E", "F"), 0.2))
    assert missed_text({"missed": {"2. Places of the world and their people": 0.5}}) == "2. Place … r people"
    assert [len(missed_text({"missed": {"x" * length: 0.5}})) for length in (20, 21, 40)] == [20, 19, 19]
    assert missed_text(many) == "A, B|C, D and 2 more" and missed_text({"missed": {"X": 0.01}}) == ""
    assert "(never A, B\\|C, D and 2 more)" in score_table([many], report["efficiency"][:1])
    floor = row("teacher", "sa", 0.48, missed={"negative": 0.12})
    assert "(at the baseline) |" in score_table([floor], report["efficiency"][:1]) and not missed_notes([floor])
    assert partly_notice([floor]) is None


def test_every_training_is_judged_alone():
    """Two seeds that each miss a little have learned the task; what the others miss stands in the order of its share."""
    assert missed_of_all([{"missed": {"X": 0.03}}, {"missed": {"SYM": 0.03}}, {}]) == {}
    assert list(missed_of_all([{"missed": {"ORG": 0.06}}, {"missed": {"LOC": 0.36}}, {"missed": {"X": 0.01}}])) == ["LOC", "ORG"]


def test_the_benchmark_says_what_it_leaves_out(tmp_path):
    def rows(**missed):
        scores = {task: row("teacher", task, 0.5, learning_rate=1e-3, missed=missed.get(task, {})) for task in ("ner", "pos")}
        settings = SimpleNamespace(task_data=scores)
        return SimpleNamespace(name="ours, 10 M", settings=settings, result=lambda piece: scores.get(piece, {}))

    whole = quality.result_row(rows(), rows())
    assert whole["retention %"] == 100 and "left out of it" not in whole
    part = quality.result_row(rows(ner={"LOC": 0.3, "ORG": 0.1}), rows(ner={"LOC": 0.3, "ORG": 0.1}))
    assert part["retention %"] == 100 and part["left out of it"] == "NER"
    result = {"rows": [part | {"parameters": 10, "similarity": 0.5}], "task_epochs": {"ner": 20, "pos": 4}}
    shown = quality.headline(result)
    assert "| 50.0 ± 0.0 (never LOC and ORG) | 50.0 ± 0.0 | 100.0 (without NER) |" in shown


def test_the_average_says_what_it_leaves_out():
    report = report_of(compared({"tc": 0.8, "sa": 0.9, "ner": 0.009}, {"tc": 0.6, "sa": 0.45, "ner": 0.28}))
    teacher, student, baseline = last_rows(score_table(report["scores"], report["efficiency"]))
    assert teacher["retention %"] == "100.0 (without NER)" and teacher["NER"] == "0.9 ± 0.0 (at the baseline)"
    assert student["retention %"] == "75.0 (without SA, NER)" and student["SA"] == "45.0 ± 0.0 (at the baseline)"
    assert student["NER"] == "28.0 ± 0.0" and student["TC"] == "60.0 ± 0.0 (75 %)"
    assert (baseline["model"], baseline["TC"], baseline["SA"], baseline["NER"]) == (MAJORITY, "5.7", "47.2", "0.0")
    assert any("at the baseline: it has no retention" in note for note in score_notes(report["scores"]))
    floor = report_of(compared({"tc": 0.05}, {"tc": 0.05}))
    assert not any("retention %" in cells for cells in last_rows(score_table(floor["scores"], floor["efficiency"])))


def test_the_baseline_stands_beside_every_score(drawn, tmp_path):
    report = report_of(compared({"tc": 0.8, "ner": 0.0}, {"tc": 0.6, "ner": 0.0}))
    cells = [line for line in render_model_card(report).splitlines() if line.startswith(("| teacher ", "| truncate_hidden "))]
    assert [line.count(" none ") for line in cells if " ner " in line] == [1, 1]
    assert "TC 60.0 (majority baseline 5.7), NER 0.0 (majority baseline 0.0)" in render_index({"sk": report})
    assert "majority baseline 5.7" in eval_notes(report, "tc")
    plot_scores(report["scores"], report["efficiency"], tmp_path / "scores.png")
    plot_capacity(report["scores"], tmp_path / "capacity.png")
    legends = [[text.get_text() for text in figure.axes[0].get_legend().get_texts()] for figure in drawn]
    assert legends[0] == ["TC", "NER", MAJORITY] and MAJORITY in legends[1]
    dashed = [line.get_ydata()[0] for line in drawn[0].axes[0].lines if line.get_linestyle() == "--" and len(line.get_ydata())]
    assert dashed == [pytest.approx(100 * BASELINES[task]) for task in ("tc", "ner")]
    assert MAJORITY in capacity_table(report["scores"])


@pytest.mark.parametrize(
    "change, said",
    [
        ({"epochs": 2}, "2 of 20 epochs (TC); 2 of 100 epochs (POS)"),
        ({"patience": 3}, "stopped after 3 epochs without a better one (TC, POS)"),
        ({"seeds": [42]}, "1 of 3 seeds (TC, POS)"),
        ({"quick": True, "epochs": None}, "the quick preset's epochs (TC, POS)"),  # as old reports have it
    ],
)
def test_a_shortened_training_is_said_wherever_its_scores_stand(change, said, drawn, tmp_path):
    report = report_of(compared({"tc": 0.8, "pos": 0.9}, {"tc": 0.6, "pos": 0.8}, **change))
    notice = f"Shortened: {said}. Not comparable with published scores."
    card = render_model_card(report)
    for text in (card, render_report(report), render_index({"sk": report})):
        assert notice in text and "quick |" not in text
    short = said.partition(" (")[0]
    assert f"name: macro_f1, {short}" in card
    assert f", {short}" in eval_notes(report, "tc")
    plot_scores(report["scores"], report["efficiency"], tmp_path / "scores.png")
    plot_capacity(report["scores"], tmp_path / "capacity.png")
    assert [figure.axes[0].get_title().replace("\n", " ") for figure in drawn] == [notice] * 2
    if change.get("epochs"):
        assert " 2 of 20 |" in card and " 2 of 100 |" in card


def test_the_papers_training_is_not_called_shortened():
    report = report_of(compared({"tc": 0.8}, {"tc": 0.6}))
    assert shortened_notice(report["scores"]) is None and "Shortened" not in render_model_card(report) + render_report(report)


@pytest.mark.parametrize("name", ["pos", "xpos"])
def test_accuracy_tells_apart_what_seqeval_takes_for_one_tag(drawn, monkeypatch, tmp_path, name):
    monkeypatch.setitem(TASKS, name, replace(TASKS["pos"], name=name))  # with any task whose tags are classes of words
    gold = [["PRON", "CCONJ", "VERB", "SCONJ"]]
    swapped = [["PRON", "SCONJ", "VERB", "CCONJ"]]
    assert score("seqeval_f1", swapped, gold) == {"seqeval_f1": 1.0, "accuracy": 0.5}
    report = report_of(compared({name: 0.9}, {name: 0.8}))
    card = render_model_card(report)
    for text in (card, render_report(report)):
        assert ACCURACY_NOTE in text and "accuracy |" in text and " 45.7 |" in text
    assert "type: accuracy\n      value: 0.4567" in card
    assert f"{name.upper()} 80.0 (accuracy 45.7; " in render_index({"sk": report})
    assert "accuracy 45.7" in eval_notes(report, name)
    assert last_rows(score_table(report["scores"], report["efficiency"]))[-1][f"{name.upper()} accuracy"] == "12.3"
    plot_scores(report["scores"], report["efficiency"], tmp_path / "scores.png")
    assert f"{name.upper()} accuracy" in [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]
