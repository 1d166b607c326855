"""What is in a run's folder is believed only as far as it was recorded, and nothing else in it is ever deleted."""

import json
import os
import shutil
from dataclasses import replace

import pytest

from hf_lrcompress.run.folder import CONFIG_FILE, CONFIG_HEADER, RunFolder, read_complete_run
from hf_lrcompress.run.stage_files import clean, record_files
from hf_lrcompress.run.stage_record import StageRecord

PLANNED = {"00-teacher": StageRecord("teacher", "a"), "01-trim_vocab": StageRecord("trim_vocab", "b")}


@pytest.fixture
def run(tmp_path):
    """The folder of a complete run of one stage."""
    for directory, record in PLANNED.items():
        stage_dir = tmp_path / directory
        record.write(stage_dir)
        if directory != "00-teacher":
            (stage_dir / "model.safetensors").write_bytes(b"weights")
            (stage_dir / "tokenizer.json").write_text("{}")
        record.completed(stage_dir).write(stage_dir)
    (tmp_path / "model").mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / "model" / name).write_bytes((tmp_path / "01-trim_vocab" / name).read_bytes())
    (tmp_path / "report.json").write_text('{"fingerprint": "b"}')
    (tmp_path / CONFIG_FILE).write_text(CONFIG_HEADER)
    return tmp_path


def begin_again(stage_dir):
    """A stage as it is in the middle of its training."""
    record = StageRecord.read(stage_dir)
    replace(record, complete=False, files={}).write(stage_dir)
    (stage_dir / "checkpoint-3").mkdir()


def flip_a_bit(path):
    """Change one bit, but neither size nor time."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES = {
    "flipped bit": flip_a_bit,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "missing": lambda path: path.unlink(),
}


def test_a_complete_run_is_kept(run):
    folder = RunFolder(run, PLANNED)
    folder.check(overwrite=False)
    assert folder.stale() == {} and read_complete_run(run) == {"fingerprint": "b"}


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("directory", ["01-trim_vocab", "model"])
def test_changed_bytes_are_noticed_and_made_again_only_if_asked(run, directory, name, damage):
    DAMAGES[damage](run / directory / name)
    folder = RunFolder(run, PLANNED)
    with pytest.raises(FileExistsError, match=f"{directory} .*{name}.*--overwrite"):
        folder.check(overwrite=False)
    folder.delete(folder.check(overwrite=True))
    assert not (run / directory).exists() and (run / "00-teacher").exists()


def test_a_stage_that_is_made_again_takes_the_final_model_along(run):
    (run / "00-teacher" / "mine").mkdir()
    (run / "01-trim_vocab" / "tokenizer.json").unlink()
    assert RunFolder(run, PLANNED).check(overwrite=True) == ["01-trim_vocab", "model"]


def test_without_its_report_the_final_model_stays(run):
    (run / "report.json").unlink()
    assert RunFolder(run, PLANNED).check(overwrite=False) == []


def test_a_card_of_another_language_is_not_taken_for_this_runs(run):
    """No stage depends on the language where texts are files, but the card names it."""
    (run / "report.json").write_text('{"fingerprint": "b", "language": "sk"}')
    assert RunFolder(run, PLANNED, {"language": "sk", "further_languages": []}).check(overwrite=False) == []
    other = RunFolder(run, PLANNED, {"language": "cs"})
    with pytest.raises(FileExistsError, match="model has a card that says language 'sk', not 'cs'; .*--overwrite"):
        other.check(overwrite=False)
    assert other.check(overwrite=True) == ["model"]


def test_a_changed_model_is_not_published(run):
    flip_a_bit(run / "model" / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors was changed; delete model"):
        read_complete_run(run)


def test_the_card_and_the_figures_of_the_model_may_be_changed(run):
    (run / "model" / "README.md").write_text("mine")
    (run / "model" / "stages.png").write_bytes(b"drawn again")
    RunFolder(run, PLANNED).check(overwrite=False)


@pytest.mark.parametrize("half", [".tmpAbC123", "stage.json.partial"])
def test_a_stage_without_its_first_record_is_not_begun(run, half):
    begun = run / "02-prune_ffn"
    begun.mkdir()
    (begun / half).write_bytes(b"half")
    folder = RunFolder(run, PLANNED | {"02-prune_ffn": StageRecord("prune_ffn", "b")})
    assert "02-prune_ffn" not in folder.stale()
    (begun / "mine.txt").write_text("not a stage's")
    assert folder.stale()["02-prune_ffn"] == "holds files of no stage"


def test_another_number_of_processes_does_not_go_on_from_a_checkpoint(run):
    begin_again(run / "01-trim_vocab")
    folder = RunFolder(run, PLANNED)
    folder.check(overwrite=False)
    several = replace(PLANNED["01-trim_vocab"], environment=PLANNED["01-trim_vocab"].environment | {"processes": "2"})
    folder = RunFolder(run, PLANNED | {"01-trim_vocab": several})
    with pytest.raises(FileExistsError, match="begun with --num_processes 1, now there are 2"):
        folder.check(overwrite=False)


@pytest.mark.parametrize("begun", [False, True])
def test_overwriting_leaves_what_no_stage_has_made(run, begun):
    stage_dir = run / "01-trim_vocab"
    if begun:
        begin_again(stage_dir)
    planned = PLANNED | {"01-trim_vocab": StageRecord("trim_vocab", "other")}
    mine = stage_dir / "mine.yaml"
    mine.write_text("notes")
    with pytest.raises(FileExistsError, match="holds mine.yaml, which no stage has made; move it"):
        RunFolder(run, planned).check(overwrite=True)
    mine.unlink()
    with pytest.raises(FileExistsError, match="lies in .*01-trim_vocab, which would be deleted"):
        RunFolder(run, planned).check(overwrite=True, inputs=[str(stage_dir / "tokenizer.json")])
    RunFolder(run, planned).check(overwrite=True)


@pytest.mark.parametrize("name", ["01-trim_vocab.bak", "05-scores", "01-trim_vocab copy"])
def test_a_copy_of_a_stage_is_left_alone(run, name):
    """It is what one makes before `--overwrite`."""
    shutil.copytree(run / "01-trim_vocab", run / name)
    (run / name / "notes.md").write_text("mine")
    assert RunFolder(run, PLANNED).check(overwrite=False) == []
    planned = PLANNED | {"01-trim_vocab": StageRecord("trim_vocab", "other")}
    assert RunFolder(run, planned).check(overwrite=True) == ["01-trim_vocab", "model"]
    assert read_complete_run(run) == {"fingerprint": "b"}


@pytest.mark.parametrize("name", ["notes.txt", "onnx/model_fp16.onnx"])
def test_overwriting_leaves_what_a_user_has_put_beside_the_final_model(run, name):
    (run / "model" / "README.md").write_text("the card")
    (run / "model" / "stages.png").write_bytes(b"a figure")
    (run / "model" / "modules.json").write_text('[{"path": "", "type": "x"}, {"path": "1_Pooling", "type": "y"}]')
    (run / "model" / "1_Pooling").mkdir()
    (run / "model" / "1_Pooling" / "config.json").write_text("{}")
    planned = PLANNED | {"01-trim_vocab": StageRecord("trim_vocab", "other")}
    assert RunFolder(run, planned).check(overwrite=True) == ["01-trim_vocab", "model"]
    mine = run / "model" / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match=f"model would be deleted, but holds {name}, which no stage has made"):
        RunFolder(run, planned).check(overwrite=True)


def test_overwriting_follows_no_link(run, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (run / "01-trim_vocab").rename(elsewhere / "stage")
    (run / "01-trim_vocab").symlink_to(elsewhere / "stage")
    planned = PLANNED | {"01-trim_vocab": StageRecord("trim_vocab", "other")}
    with pytest.raises(FileExistsError, match="is a link"):
        RunFolder(run, planned).check(overwrite=True)
    assert (elsewhere / "stage" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "content", ["", "null", "[]", '{"name": "x"}', '{"name": 1, "fingerprint": 2}', '{"name": "x', "[" * 10_000]
)
def test_a_damaged_record_is_one_line_that_names_it(run, content):
    (run / "01-trim_vocab" / "stage.json").write_text(content)
    with pytest.raises(ValueError, match=r"01-trim_vocab/stage.json is damaged.*delete .*01-trim_vocab to make the stage again"):
        RunFolder(run, PLANNED).check(overwrite=False)


def test_a_damaged_report_is_one_line_too(run):
    (run / "report.json").write_text("null")
    with pytest.raises(ValueError, match=r"report.json is damaged.*delete it, it is made again"):
        RunFolder(run, PLANNED).check(overwrite=False)


def test_stages_end_clean_and_readable_by_others(tmp_path):
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "optimizer.pt").write_bytes(b"1")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "events").write_bytes(b"1")
    (tmp_path / "undistilled.partial" / "inner").mkdir(parents=True)
    for name in ("model.safetensors", ".tmpx", "tokenizer.json.partial"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "model.safetensors").chmod(0o600)
    umask = os.umask(0o022)
    try:
        assert list(record_files(tmp_path)) == ["model.safetensors"]
    finally:
        os.umask(umask)
    clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "runs"]
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_record_has_versions_processes_and_the_command(run):
    record = json.loads((run / "01-trim_vocab" / "stage.json").read_text())
    assert record["environment"]["torch"] and record["environment"]["processes"] == "1" and record["command"]
