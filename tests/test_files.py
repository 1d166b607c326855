"""Hashes, and files that are there whole or not at all."""

import hashlib

import pytest

from hf_lrcompress.files import copy_directory, file_hash, json_hash, locked, write_atomically, written_whole


def test_hashes_are_of_contents(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    assert file_hash(tmp_path / "a") == file_hash(str(tmp_path / "a")) == hashlib.sha256(b"one").hexdigest()
    assert json_hash({"a": 1, "b": [2]}) == json_hash({"b": (2,), "a": 1}) != json_hash({"a": 1, "b": [3]})
    with pytest.raises(FileNotFoundError, match="file .*gone does not exist"):
        file_hash(tmp_path / "gone")


@pytest.mark.parametrize("folder", [False, True])
def test_what_was_interrupted_is_not_there_and_what_was_left_is_gone(tmp_path, folder):
    path = tmp_path / "result"
    (tmp_path / "result.partial").mkdir()  # of a process that was killed
    with pytest.raises(KeyboardInterrupt), written_whole(path) as partial:
        partial.mkdir() if folder else partial.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_files_and_folders_are_written(tmp_path):
    write_atomically(tmp_path / "a.txt", "one")
    write_atomically(tmp_path / "a.txt", "ž")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "ž"
    (tmp_path / "from" / "log").mkdir(parents=True)
    (tmp_path / "from" / "a").write_text("a", encoding="utf-8")
    copy_directory(tmp_path / "from", tmp_path / "to", ["log"], {"b": b"b"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == {"a": b"a", "b": b"b"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "from", "to"]


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder; give a file"):
        file_hash(tmp_path)


def test_a_locked_folder_is_free_at_the_end_of_the_block(tmp_path):
    lock = locked(tmp_path / "new", "another test")
    with pytest.raises(FileExistsError, match="^another test is using .*new; wait for it or give another folder$"):
        locked(tmp_path / "new", "another test")
    with lock:
        pass
    locked(tmp_path / "new", "another test").lock.release()  # while `lock` is still there
