"""The one maker of tables, and the tables and figures of scores."""

import pytest
from matplotlib.figure import Figure

from hf_lrcompress.evaluation.tables import ACCURACY_NOTE, MAJORITY, UNDISTILLED, capacity_table, score_notes, score_table
from hf_lrcompress.figures import maker
from hf_lrcompress.figures.of_runs import plot_capacity, plot_scores, plot_stages, plot_training
from hf_lrcompress.tables import STAGE_COLUMNS, escaped, make_table

EFFICIENCY = [
    {
        "model": name,
        "parameters": parameters,
        "size_mb": 4 * parameters / 1e6,
        "latency_ms_batch_1": 10.0,
        "latency_ms_batch_32": 200.0,
        "tokens_per_second": 20000.0,
        "speedup": speedup,
    }
    for name, parameters, speedup in (("teacher", 1_000_000, 1.0), ("student", 250_000, 4.0))
]


def score(model: str, task: str, values: list[float], retention: float | None, **more) -> dict:
    return {
        "model": model,
        "task": task,
        "metric": "macro_f1",
        "mean": sum(values) / len(values),
        "std": 0.01,
        "values": values,
        "seeds": list(range(len(values))),
        "test_size": 1204,
        "train_overlap": 0.005,
        "retention": retention,
        "quick": False,
        "tuning": "seq_bn",
        "extra": {"accuracy": 0.9},
    } | more


SCORES = [
    score("teacher", "tc", [0.8, 0.9], None),
    score("teacher", "pos", [0.95], None),
    score("student", "tc", [0.7, 0.7], 0.8235),
    score("student", "pos", [0.9], 0.9474),
]


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_table_shows_what_rows_have_and_says_what_is_not_known():
    rows = [{"stage": "teacher", "parameters": 1234, "other": 1}, {"stage": "small", "mlm_accuracy": 0.25, "parameters": None}]
    heads, _, first, second = cells_of(make_table(rows, STAGE_COLUMNS))
    assert heads == ["stage", "parameters", "masked-token accuracy"]
    assert first == ["teacher", "1,234", "not measured"] and second == ["small", "not measured", "0.2500"]
    assert cells_of(make_table(rows, STAGE_COLUMNS, missing=""))[2] == ["teacher", "1,234", ""]
    assert make_table([], STAGE_COLUMNS) == "not measured"


def test_numbers_stand_at_the_right_and_text_at_the_left():
    assert cells_of(make_table([{"stage": "a", "seconds": 1.0}], STAGE_COLUMNS))[1] == [":--------", "----------:"]


def test_scores_are_a_row_a_model_in_the_order_of_the_paper():
    heads, _, teacher, student = cells_of(score_table(SCORES, EFFICIENCY))
    assert heads[:9] == ["model", "reduction %", "parameters", "MB", "TC", "POS", "POS accuracy", "average", "retention %"]
    assert teacher[:9] == ["teacher", "0.0", "1,000,000", "4.0", "85.0 ± 1.0", "95.0", "90.0", "90.0", ""]
    assert student[:9] == ["student", "75.0", "250,000", "1.0", "70.0 ± 1.0 (82 %)", "90.0 (95 %)", "90.0", "80.0", "88.5"]
    assert student[9:] == ["10.0", "200.0", "20,000", "4.00"]
    assert cells_of(score_table(SCORES, EFFICIENCY, base=2_000_000))[2][1] == "50.0"
    assert heads[-1] == "times as fast" and cells_of(score_table(SCORES, EFFICIENCY[:1]))[0][-1] == "tokens a second"


def test_retention_of_the_teacher_as_it_came_stands_beside_that_of_the_adapted_one():
    kept = {("student", "tc"): 0.5, ("student", "pos"): 0.7}
    scores = [row | {"retention_of_original": kept.get((row["model"], row["task"]))} for row in SCORES]
    heads, _, teacher, student = cells_of(score_table(scores, EFFICIENCY))
    place = heads.index("retention %") + 1
    assert heads[place] == "retention % of the teacher as it came"
    assert (teacher[place], student[place - 1], student[place]) == ("", "88.5", "60.0")


def test_what_guessing_gives_is_a_row_of_its_own():
    guessed = [row | {"majority": 0.05 if row["task"] == "tc" else 0.15} for row in SCORES]
    guessed = [row | {"extra": row["extra"] | {"majority_accuracy": 0.2}} for row in guessed]
    last = cells_of(score_table(guessed, EFFICIENCY))[-1]
    assert last[:8] == [MAJORITY, "", "", "", "5.0", "15.0", "20.0", "10.0"] and not any(last[8:])
    assert any(note.startswith(MAJORITY) for note in score_notes(guessed))


def test_the_notes_say_how_the_models_were_trained():
    _, tc, pos, skipped = score_notes(SCORES, ["ner"])
    assert tc == "TC: topic classification, macro_f1 × 100 on 1,204 test texts, 0.5 % of them also in train; 2 seeds, seq_bn."
    assert pos.endswith(f"1 seed, seq_bn; {ACCURACY_NOTE}.") and skipped.startswith("NER: skipped")
    rates = {"teacher": 1e-4, "student": 1e-3}
    trained = [row | {"epochs": 20, "learning_rate": rates[row["model"]]} for row in SCORES]
    assert "; 20 epochs; learning rate 0.0001 (teacher), 0.001 (student)" in score_notes(trained)[1]
    assert any(UNDISTILLED in note for note in score_notes([*SCORES, score(UNDISTILLED, "tc", [0.1], None)]))


def test_the_average_by_the_size_of_the_adapters():
    capacity = [row | {"reduction_factor": factor, "mean": row["mean"] / factor} for factor in (4, 2) for row in SCORES]
    rows = cells_of(capacity_table(capacity))
    assert rows[0] == ["model", "r = 2", "r = 4"]
    assert rows[2:] == [["teacher", "45.0", "22.5"], ["student", "40.0", "20.0"]]
    guessed = [row | {"majority": 0.05 if row["task"] == "tc" else 0.15} for row in capacity]
    assert cells_of(capacity_table(guessed))[4:] == [[MAJORITY, "10.0", "10.0"]]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("intfloat/multilingual-e5-small", "intfloat/multilingual-e5-small"),
        ("my_train.txt, b.txt", "my_train.txt, b.txt"),
        ("a\n\n# Heading\r\n```\u2028b", r"a # Heading \`\`\` b"),
        ("<img src=x> [a](b) *c* _d_ |e|", r"\<img src=x\> \[a\](b) \*c\* \_d\_ \|e\|"),
        ("__init__ a\\_b &lt; ~~x~~ $$y$$", r"\_\_init\_\_ a\\\_b \&lt; \~\~x\~\~ \$\$y\$\$"),
    ],
)
def test_names_that_others_chose_are_no_markup(name, shown):
    assert escaped(name) == shown


@pytest.fixture
def drawn(monkeypatch) -> dict[str, Figure]:
    """The figures that are written, by the names of their files."""
    figures = {}
    save = Figure.savefig

    def savefig(figure, path, **options):
        figures[path.name] = figure
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


@pytest.mark.parametrize("teacher", [[], [{"stage": "teacher", "parameters": 9_000_000, "sentence_similarity": 1.0}]])
def test_the_figure_of_stages_has_their_sizes_and_what_they_kept(tmp_path, drawn, teacher):
    rows = [{"stage": "small", "parameters": 5_250_000, "mlm_accuracy": 0.2, "sentence_similarity": 0.9}]
    plot_stages([*teacher, *rows], tmp_path / "stages.png")
    assert (tmp_path / "stages.png").read_bytes().startswith(b"\x89PNG")
    left, right = drawn["stages.png"].axes
    assert [text.get_text() for text in left.texts] == ["9.0", "5.2"][-1 - len(teacher) :]
    kept = {line.get_label(): list(line.get_xdata()) for line in right.lines}
    assert kept == {"masked-token accuracy": [0.2], "sentence similarity": [*(1.0 for _ in teacher), 0.9]}


def test_the_figure_of_scores_has_the_models_by_size_and_all_of_the_scale(tmp_path, drawn):
    alone = score(UNDISTILLED, "tc", [0.1], None, quick=True)
    plot_scores([*SCORES, alone], [*EFFICIENCY, EFFICIENCY[1] | {"model": UNDISTILLED}], tmp_path / "scores.png")
    (axes,) = drawn["scores.png"].axes
    sizes = [float(label.get_text().split("\n")[1].removesuffix(" MB")) for label in axes.get_xticklabels()]
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(named) == sorted(["TC", "POS", "POS accuracy", UNDISTILLED])
    assert len(sizes) == 3 and sizes == sorted(sizes, reverse=True) and axes.get_ylim() == (0, 100)


def test_the_figure_of_a_training_has_every_loss(tmp_path, drawn):
    history = [{"step": step, "loss": 1 / step, "mlm_loss": 2 / step} for step in (1, 2, 3)]
    plot_training([*history, {"step": 3, "train_loss": 0.5}], tmp_path / "training.png")
    (axes,) = drawn["training.png"].axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        "loss": [1, 1 / 2, 1 / 3],
        "mlm_loss": [2, 1, 2 / 3],
    }


def test_nothing_is_drawn_that_would_be_a_single_dot(tmp_path):
    plot_scores(SCORES, EFFICIENCY[:1], tmp_path / "scores.png")
    plot_training([{"step": 1, "loss": 1.0}], tmp_path / "training.png")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_a_line_says_what_to_install_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(maker, "find_spec", lambda name: None)
    maker.can_draw.cache_clear()
    for name in ("a.png", "b.png"):
        plot_capacity([row | {"reduction_factor": 4} for row in SCORES], tmp_path / name)
    maker.can_draw.cache_clear()
    assert not list(tmp_path.iterdir())
    said = [record.getMessage() for record in caplog.records]
    assert said == ['no figures are drawn: pip install ".[figures]" in the repository']
