"""The files of a stage: what is deleted when it ends, what is recorded of the others, and whether they are still the same."""

import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_lrcompress.files import FileRecords, delete, hash_files, lasting_files
from hf_lrcompress.models.identity import STAGE_RECORD as RECORD_FILE
from hf_lrcompress.stages import STAGES
from hf_lrcompress.stages.evaluate import TEACHER

CHECKPOINTS = f"{PREFIX_CHECKPOINT_DIR}-*"
HALF_WRITTEN = (".tmp*", "*.partial")
"""What a process that was killed leaves: safetensors' file and ours."""
LOGS = "runs"
KINDS = (".json", ".jsonl", ".safetensors", ".txt", ".model", ".py", ".md", ".png", ".onnx")
"""Endings of what stages write."""
PASSING = (CHECKPOINTS, *HALF_WRITTEN, LOGS, RECORD_FILE)
"""What is no part of a complete stage."""


def stage_dirs(run_dir: Path) -> list[Path]:
    """The folders of stages in a run's, in order. A copy of one, or a folder of somebody's own, is none."""
    names = "|".join([TEACHER, *STAGES])
    return sorted(path for path in run_dir.glob("*") if re.fullmatch(rf"\d\d-({names})", path.name))


def clean(stage_dir: Path) -> None:
    """Delete the checkpoints of a complete stage, and what was half written when a process was killed."""
    for checkpoint in stage_dir.glob(CHECKPOINTS):
        shutil.rmtree(checkpoint)
    for path in stage_dir.iterdir():
        if is_half_written(path):
            delete(path)


def is_half_written(path: Path) -> bool:
    """Whether a file is what a killed process was writing."""
    return any(path.match(pattern) for pattern in HALF_WRITTEN)


def record_files(stage_dir: Path) -> FileRecords:
    """Give what a stage has written the usual permissions, have it on the disk itself, and hash it."""
    for path in lasting_files(stage_dir, PASSING):
        path.chmod(0o666 & ~_umask())  # safetensors makes its files for the owner alone
    return hash_files(stage_dir, PASSING)


def foreign_file(folder: Path, recorded: Collection[str]) -> str | None:
    """A file in the directory of a stage or of the final model that this package has not made; `None` if there is none.

    Args:
        folder (`Path`): The directory.
        recorded (`Collection[str]`): What its stage has left; without any, what is of a kind that stages write is theirs.
    """
    for path in lasting_files(folder, PASSING):
        name = path.relative_to(folder).as_posix()
        known = name in recorded if recorded else Path(name).suffix in KINDS
        if not known:
            return name
    return None


def _umask() -> int:
    """What permissions new files do not have."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
