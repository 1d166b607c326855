"""There is room for a run, or one line says how much it needs, before anything is written."""

import pytest
from transformers import BertConfig

from hf_lrcompress.run.disk_space import check_space, needed_bytes
from hf_lrcompress.run.planning import PlannedStage
from hf_lrcompress.stages.reduce_layers import ReduceLayers
from hf_lrcompress.stages.trim_vocab import TrimVocab

PLAN = [
    PlannedStage("teacher", "00-teacher", None, BertConfig(), 1000, "a"),
    PlannedStage("trim_vocab", "01-trim_vocab", TrimVocab(), BertConfig(), 600, "b"),
    PlannedStage("reduce_layers", "02-reduce_layers", ReduceLayers(), BertConfig(), 400, "c", training_mb=5.0),
]


def test_models_the_final_one_and_two_checkpoints_of_the_largest_training():
    assert needed_bytes(PLAN) == 4 * (600 + 400 + 400 + 2 * 3 * 400)
    assert needed_bytes(PLAN, ["01-trim_vocab"]) == 4 * (400 + 400 + 2 * 3 * 400)
    assert needed_bytes(PLAN, ["01-trim_vocab", "02-reduce_layers"]) == 0


def test_what_a_begun_stage_has_written_counts_as_room(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 10_000})())
    (tmp_path / "02-reduce_layers" / "checkpoint-1").mkdir(parents=True)
    with pytest.raises(OSError, match="make room"):
        check_space(PLAN, [], tmp_path)
    (tmp_path / "02-reduce_layers" / "checkpoint-1" / "optimizer.pt").write_bytes(b"x" * 8_000)
    check_space(PLAN, [], tmp_path)


def test_too_little_room_is_one_line_with_both_numbers(tmp_path, monkeypatch):
    check_space(PLAN, [], tmp_path / "new" / "run")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 4_000})())
    with pytest.raises(OSError, match=r"writes about 0 MB to .*run, where 0 MB are free; make room"):
        check_space(PLAN, [], tmp_path / "new" / "run")
