"""A disk that is full: one line with the place, what is needed and what is free, in whatever language the library writes."""

import subprocess

import numpy as np
import pytest
import safetensors.torch
import torch
from made_up_texts import make_texts
from trained_tokenizers import bert

from hf_lrcompress.__main__ import main
from hf_lrcompress.commands.process import full_disk_named
from hf_lrcompress.texts.corpus import CorpusSource, load_corpus

ROOM = 200_000
TENSORS = {"a": torch.zeros(ROOM)}
ONE_LINE = (
    r"^the disk is full at {place}.*, where 0 MB are free \(.+\); the rest of the run writes about 7 MB to {folder}; make room$"
)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, with little room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a disk that is soon full")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def save_tokenizer(folder):
    (folder / "rest").write_bytes(bytes(ROOM - 10_000))
    bert().backend_tokenizer.save(str(folder / "tokenizer.json"))


def read_corpus(folder):
    text = folder.parent / "text.txt"
    text.write_text("\n".join(make_texts(5000, 1)), encoding="utf-8")
    load_corpus(CorpusSource(files=(str(text),)))


WRITERS = {
    "Python": lambda folder: (folder / "a").write_bytes(bytes(2 * ROOM)),
    "numpy": lambda folder: np.save(folder / "a.npy", np.zeros(ROOM)),
    "safetensors": lambda folder: safetensors.torch.save_file(TENSORS, folder / "a.safetensors"),
    "torch": lambda folder: torch.save(TENSORS, folder / "a.pt"),
    "tokenizers": save_tokenizer,
    "datasets": read_corpus,
}


@pytest.mark.parametrize("library", WRITERS)
def test_a_full_disk_is_one_line_whoever_writes(small_disk, monkeypatch, library):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", small_disk)
    line = ONE_LINE.format(place=small_disk, folder=small_disk)
    with pytest.raises(OSError, match=line), full_disk_named(small_disk, lambda: 7_000_000):
        WRITERS[library](small_disk)


def test_the_fuller_disk_is_named_where_the_library_names_none(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    monkeypatch.setattr("hf_lrcompress.commands.process.free_bytes", lambda folder: 10**6 if folder == cache else 10**9)
    line = rf"^the disk is full at {cache}, where 1 MB are free .*\); make room$"
    with pytest.raises(OSError, match=line), full_disk_named(tmp_path / "run"):
        raise OSError(28, "No space left on device")


def test_the_file_is_named_that_any_error_of_the_chain_names(tmp_path):
    with pytest.raises(OSError, match=f"^the disk is full at {tmp_path}, "), full_disk_named(tmp_path / "run"):
        try:
            raise OSError(28, "No space left on device", str(tmp_path))
        except OSError as error:
            raise OSError("publishing lab/model: somewhere") from error


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="^mistake$"), full_disk_named(tmp_path):
        raise RuntimeError("mistake")


def test_a_comparison_names_the_full_disk(small_disk, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", small_disk)
    bert().save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "text.txt").write_text("\n".join(make_texts(5000, 1)), encoding="utf-8")
    command = ["compare", str(tmp_path / "tokenizer"), str(tmp_path / "tokenizer"), "--text", str(tmp_path / "text.txt")]
    assert main(command) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "the disk is full" in line]
    assert line.startswith(f"error: the disk is full at {small_disk}") and line.endswith("make room")
