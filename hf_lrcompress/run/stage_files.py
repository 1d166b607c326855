"""The files of a stage: what is deleted when it ends, what is recorded of the others, and whether they are still the same."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_lrcompress.files import file_hash, sync
from hf_lrcompress.models.loading import STAGE_RECORD as RECORD_FILE

CHECKPOINTS = f"{PREFIX_CHECKPOINT_DIR}-*"
HALF_WRITTEN = (".tmp*", "*.partial")
"""What a process that was killed leaves: safetensors' file and ours."""
LOGS = "runs"
KINDS = (".json", ".jsonl", ".safetensors", ".txt", ".model", ".py", ".md", ".png")
"""Endings of what stages write."""
ALWAYS_HASHED = 4_000_000_000
"""Bytes of a stage up to which its files are hashed at every start; above it those of the recorded size and time are believed."""

FileRecords = Mapping[str, Mapping[str, Any]]
"""By a file's path in its folder: `sha256`, `bytes` and `modified_ns`."""


def clean(stage_dir: Path) -> None:
    """Delete the checkpoints of a complete stage, and what was half written when a process was killed."""
    for checkpoint in stage_dir.glob(CHECKPOINTS):
        shutil.rmtree(checkpoint)
    for path in stage_dir.iterdir():
        if is_half_written(path):
            path.unlink()


def is_half_written(path: Path) -> bool:
    """Whether a file is what a killed process was writing."""
    return any(path.match(pattern) for pattern in HALF_WRITTEN)


def record_files(stage_dir: Path) -> FileRecords:
    """Give what a stage has written the usual permissions, have it on the disk itself, and hash it."""
    for name in _lasting(stage_dir):
        (stage_dir / name).chmod(0o666 & ~_umask())  # safetensors makes its files for the owner alone
    sync(stage_dir)
    return {name: {"sha256": file_hash(stage_dir / name)} | _size_and_time(stage_dir / name) for name in _lasting(stage_dir)}


def changed_file(stage_dir: Path, recorded: FileRecords) -> str | None:
    """The first of the recorded files that is missing or has other bytes than were recorded; `None` if there is none."""
    hash_all = sum(record["bytes"] for record in recorded.values()) <= ALWAYS_HASHED
    for name, record in recorded.items():
        path = stage_dir / name
        if not path.is_file() or path.stat().st_size != record["bytes"]:
            return name
        same_time = path.stat().st_mtime_ns == record["modified_ns"]
        if (hash_all or not same_time) and file_hash(path) != record["sha256"]:
            return name
    return None


def foreign_file(folder: Path, recorded: FileRecords) -> str | None:
    """A file in the directory of a stage or of the final model that this package has not made; `None` if there is none.

    Args:
        folder (`Path`): The directory.
        recorded (`FileRecords`): What its stage has left; without any, what is of a kind that stages write is theirs.
    """
    for name in _lasting(folder):
        known = name in recorded if recorded else Path(name).suffix in KINDS
        if not known:
            return name
    return None


def _lasting(stage_dir: Path) -> Iterator[str]:
    """The paths of a stage's files in its directory, without its record, logs and what [`clean`] deletes."""
    passing = (CHECKPOINTS, *HALF_WRITTEN, LOGS, RECORD_FILE)
    for path in sorted(stage_dir.rglob("*")):
        relative = path.relative_to(stage_dir)
        top = Path(relative.parts[0])
        if path.is_file() and not any(top.match(pattern) for pattern in passing):
            yield relative.as_posix()


def _umask() -> int:
    """What permissions new files do not have."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _size_and_time(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
