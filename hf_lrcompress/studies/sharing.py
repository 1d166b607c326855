"""Stages that several runs of a study have in common: made by one, linked into the others."""

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hf_lrcompress.files import changed_file, delete
from hf_lrcompress.run.stage_files import stage_dirs
from hf_lrcompress.run.stage_record import StageRecord

SHARED = "shared_from"
"""The metric of a stage that was taken from another run: its folder's name and the seconds that the stage took there."""


def complete_stages(runs_dirs: Iterable[Path]) -> dict[str, Path]:
    """Directories of all complete stages in the run folders of studies, by fingerprint: of the first study that has one."""
    found: dict[str, Path] = {}
    for path in [path for runs_dir in runs_dirs for run_dir in sorted(runs_dir.glob("*")) for path in stage_dirs(run_dir)]:
        record = None
        with suppress(ValueError):  # damaged: its own run says so
            record = StageRecord.read(path)
        if record and record.complete:
            found.setdefault(record.fingerprint, path)
    return found


def shared_stages(run_dir: Path) -> dict[str, dict[str, Any]]:
    """What a run has taken from others: the run that it was taken from and its seconds there, by the stage's name."""
    records = [StageRecord.read(path) for path in stage_dirs(run_dir)]
    return {record.name: record.metrics[SHARED] for record in records if record and SHARED in record.metrics}


def share_stages(run_dir: Path, stages: Mapping[str, str], complete: Mapping[str, Path]) -> list[str]:
    """Give a run the stages that another has made. What the run has begun of them is deleted.

    Files are linked, or copied where links cannot be made; none of them is ever written to again.

    Args:
        run_dir (`Path`): The folder of the run, which must not be running.
        stages (`Mapping[str, str]`): Fingerprints of its stages by directory.
        complete (`Mapping[str, Path]`): What there is, see [`complete_stages`].

    Returns:
        `list[str]`: The directories that were given.
    """
    given = []
    for directory, fingerprint in stages.items():
        source = complete.get(fingerprint)
        if source and source.parent != run_dir and _share(source, run_dir / directory):
            given.append(directory)
    return given


def _share(source: Path, target: Path) -> bool:
    """Whether a stage was linked: not if the run has it, or it is not what its record says."""
    record = StageRecord.read(source)
    own = StageRecord.read(target)
    if record is None or (own and own.complete) or changed_file(source, record.files):
        return False
    spent = [record.metrics, record.metrics.get("around", {})]
    seconds = sum(part.get("seconds", 0.0) for part in spent)
    partial = target.parent / f"{SHARED}.partial"
    delete(partial)  # a process that was killed has left it
    for name in record.files:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        _link(source / name, partial / name)
    record.with_metrics({SHARED: {"run": _run_name(source, target), "seconds": seconds}}).write(partial)
    delete(target)
    partial.replace(target)
    return True


def _run_name(source: Path, target: Path) -> str:
    """The run that has made a stage; of another study it is STUDY/RUN."""
    run = source.parent
    return run.name if run.parent == target.parent.parent else f"{run.parents[1].name}/{run.name}"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
