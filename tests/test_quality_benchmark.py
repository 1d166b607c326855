"""The benchmark of methods: its pieces, their order, and what it refuses."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml
from conftest import tiny_model
from made_up_texts import make_texts
from trained_tokenizers import bert

from hf_lrcompress.__main__ import main
from hf_lrcompress.benchmarks.quality import ROWS_FILE, check_work_dir, read_rows
from hf_lrcompress.benchmarks.quality_pieces import SURGERY, TRAINED, Method, Piece, Row, Settings, make_pieces, pieces_of

CONFIG = {
    "objective": "representation",
    "block_size": 32,
    "examples": "documents",
    "stages": ["trim_vocab", "truncate_hidden"],
    "training": {"losses": {"hidden_cosine": 1}, "per_device_train_batch_size": 8},
    "trim_vocab": {"vocab_size": 300},
    "truncate_hidden": {"distil_from": "trim_vocab"},
}
ROWS = {"wide": {"set": {"truncate_hidden.hidden_size": 18}}, "narrow, short": {"set": {"truncate_hidden.hidden_size": 12}}}
REFUSED = (
    (("--epochs", "2"), "were made with other settings"),
    (("--task_data", "topics=x"), "error: unknown task 'topics'; there are: "),
    (("--rows", "none"), "there is no row 'none'"),
)


def note(folder: Path, name: str, fails: bool = False) -> None:
    """Leaves a file that says what was there before it."""
    if fails:
        raise ValueError(f"{name} cannot be made")
    (folder / name).write_text(" ".join(sorted(path.name for path in folder.iterdir())))


def test_a_piece_waits_for_what_it_needs_and_is_left_out_if_that_fails(tmp_path, capsys):
    pieces = [
        Piece("last", note, (tmp_path, "last"), frozenset(["first", "second"])),
        Piece("second", note, (tmp_path, "second"), frozenset(["first"])),
        Piece("first", note, (tmp_path, "first")),
        Piece("bad", note, (tmp_path, "bad", True)),
        Piece("after bad", note, (tmp_path, "after bad"), frozenset(["bad"])),
    ]
    with pytest.raises(OSError, match="^bad: bad cannot be made$"):
        make_pieces(pieces, workers=2)
    assert (tmp_path / "last").read_text() == "first second"
    assert not (tmp_path / "after bad").exists()
    assert "second: done" in capsys.readouterr().err


def settings(tmp_path, **changes) -> Settings:
    values = {
        "language": "sk",
        "text": str(tmp_path / "train.txt"),
        "held_out": str(tmp_path / "validation.txt"),
        "teacher": str(tmp_path / "teacher"),
        "task_data": {"tc": str(tmp_path / "tc")},
        "task_epochs": {"tc": 1},
        "work_dir": tmp_path / "work",
        "epochs": 6,
        "short_epochs": 1,
        "learning_rates": (5e-4, 1e-3),
        "seeds": (42, 43),
    }
    return Settings(**values | changes)


def test_the_epochs_are_shared_and_surgery_alone_trains_nothing(tmp_path):
    method = Method("small-cpu-paper", {"adapt_teacher": 2, "reduce_layers": 1, "truncate_hidden": 3})
    row = Row("paper", method, settings(tmp_path))
    trained = row.config(trains=True).to_mapping()
    epochs = {stage: trained[stage]["training"]["num_train_epochs"] for stage in method.shares}
    assert epochs == {"adapt_teacher": 2, "reduce_layers": 1, "truncate_hidden": 3}
    alone = row.config(trains=False).to_mapping()
    assert alone["stages"] == ["trim_vocab", "reduce_layers", "prune_ffn", "truncate_hidden"]
    assert alone["reduce_layers"]["distil"] is alone["truncate_hidden"]["distil"] is False


def test_the_pieces_of_a_row(tmp_path):
    method = Method("small-cpu", {"truncate_hidden": 1})
    pieces = {piece.title: piece.needs for piece in pieces_of(Row("ours", method, settings(tmp_path)))}
    assert not pieces[f"ours, {TRAINED}"] and not pieces[f"ours, {SURGERY}"]
    trials = {"ours, tc at 0.0005", "ours, tc at 0.001"}
    assert all(pieces[trial] == {f"ours, {TRAINED}"} for trial in trials)
    assert pieces["ours, tc, seed 43"] == trials
    assert pieces["ours, tc"] == {"ours, tc, seed 42", "ours, tc, seed 43"}
    one_rate = settings(tmp_path, learning_rates=(1e-3,))
    assert {piece.title: piece.needs for piece in pieces_of(Row("t", None, one_rate))}["t, tc, seed 42"] == frozenset()
    assert len(pieces_of(Row("short", Method("small-cpu", {}, short=True), one_rate))) == 2


def test_every_row_of_the_file_is_a_configuration(tmp_path):
    class Arguments:
        rows_file = ROWS_FILE
        rows = None

    for row in read_rows(Arguments, settings(tmp_path)):
        for trains in (True, False):
            assert row.method is None or row.config(trains).stages


def test_scores_on_other_data_are_not_mixed_in(tmp_path):
    folders = {name: tmp_path / name for name in ("tc", "ner", "other", "teacher")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / ("config.json" if name == "teacher" else "train.jsonl")).write_text(name)
    texts = {name: str(tmp_path / "tc" / "train.jsonl") for name in ("text", "held_out")}
    given = partial(settings, tmp_path, **texts)
    check_work_dir(given(task_data={"tc": str(folders["tc"])}))
    check_work_dir(given(task_data={"ner": str(folders["ner"])}))
    check_work_dir(given(task_data={"tc": str(folders["tc"]), "ner": str(folders["ner"])}))
    with pytest.raises(ValueError, match="made with other settings"):
        check_work_dir(given(task_data={"tc": str(folders["other"])}))
    with pytest.raises(ValueError, match="made with other settings"):
        check_work_dir(given(task_data={}, seeds=(42,)))
    check_work_dir(given(task_data={}, teacher=str(folders["teacher"].rename(tmp_path / "moved"))))
    (tmp_path / "moved" / "config.json").write_text("another")
    with pytest.raises(ValueError, match="made with other settings"):
        check_work_dir(given(task_data={}, teacher=str(tmp_path / "moved")))


def test_a_result_of_another_row_is_not_taken_for_this_ones(tmp_path):
    (tmp_path / "work").mkdir()
    Row("ours", Method("small-cpu", {}), settings(tmp_path)).save(TRAINED, {"parameters": 1})
    assert Row("ours", Method("small-cpu", {}), settings(tmp_path)).result(TRAINED)["parameters"] == 1
    with pytest.raises(ValueError, match="made by another row 'ours', or with another configuration; rename the row"):
        Row("ours", Method("small-cpu", {}, short=True), settings(tmp_path)).result(TRAINED)


def test_a_result_of_a_configuration_that_has_changed_is_not_taken(tmp_path):
    (tmp_path / "work").mkdir()
    config = tmp_path / "mine.yaml"
    config.write_text("objective: representation")
    row = Row("mine", Method(str(config), {}), settings(tmp_path))
    row.save(TRAINED, {"parameters": 1})
    config.write_text("# The same.\nobjective: representation")
    assert row.result(TRAINED)["parameters"] == 1
    config.write_text("objective: mlm")
    with pytest.raises(ValueError, match="or with another configuration"):
        row.result(TRAINED)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "train.txt").write_text("\n".join(make_texts(300, 1)), encoding="utf-8")
    (folder / "validation.txt").write_text("\n".join(make_texts(60, 2)), encoding="utf-8")
    tokenizer = bert()
    tiny_model("bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id).bert.save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    (folder / "tc").mkdir()
    for split, count in {"train": 12, "validation": 6, "test": 6}.items():
        rows = [{"text": text, "label": str(i % 2)} for i, text in enumerate(make_texts(count, len(split)))]
        (folder / "tc" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    texts = {name: {"files": [str(folder / f"{name}.txt")]} for name in ("train", "validation")}
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | texts | {"teacher": "teacher"}), encoding="utf-8")
    same = {"config": str(folder / "config.yaml"), "shares": {"truncate_hidden": 1}}
    rows = {name: same | row | {"short": "short" in name} for name, row in ROWS.items()}
    (folder / "rows.yaml").write_text(yaml.safe_dump(rows, sort_keys=False), encoding="utf-8")
    return folder


def command(inputs: Path, *more: str | Path) -> list[str]:
    given = ["benchmark", "quality", "--lang", "sk", "--text", inputs / "train.txt", "--held_out", inputs / "validation.txt"]
    given += ["--teacher", inputs / "teacher", "--rows_file", inputs / "rows.yaml", "--work_dir", inputs / "work"]
    given += ["--task_data", f"tc={inputs / 'tc'}", "--task_epochs", "tc=1", "--seeds", "42"]
    return [str(part) for part in (*given, *more)]


def test_rows_are_made_scored_and_put_together_once(inputs, capsys):
    given = command(inputs, "--workers", "2", "--output", inputs / "first.json")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HOME": str(inputs / "cache")}
    first = subprocess.run([sys.executable, "-m", "hf_lrcompress", *given], capture_output=True, text=True, env=environment)
    assert first.returncode == 0, first.stderr
    teacher, wide, narrow = json.loads((inputs / "first.json").read_text(encoding="utf-8"))["rows"]
    assert teacher["TC"] and wide["TC"] and narrow["TC"] is None
    guessed = ["at the majority baseline" in row["TC"] for row in (teacher, wide)]
    assert (teacher["retention %"] is None) == guessed[0] and (wide["retention %"] is None) == any(guessed)
    assert narrow["parameters"] < wide["parameters"]
    for row in (wide, narrow):
        assert -1 <= row["similarity, surgery alone"] <= 1 and -1 <= row["similarity"] <= 1
    made = {path: path.stat().st_mtime_ns for path in (inputs / "work").rglob("*.json") if path.name != "settings.json"}
    assert main(command(inputs, "--workers", "0", "--output", inputs / "again.json")) == 0
    capsys.readouterr()
    assert (inputs / "again.json").read_bytes() == (inputs / "first.json").read_bytes()
    assert made == {path: path.stat().st_mtime_ns for path in made}
    for more, line in REFUSED:
        assert main(command(inputs, *more)) == 2
        said = capsys.readouterr().err
        assert line in said and said.count("\n") == 1
