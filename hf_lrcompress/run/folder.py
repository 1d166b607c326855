"""The folder of a run: what each stage recorded, and what may be kept, resumed or replaced."""

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

import hf_lrcompress
from hf_lrcompress.files import write_atomically
from hf_lrcompress.models.loading import STAGE_RECORD as RECORD_FILE

MODEL_DIR = "model"
REPORT_FILE = "report.json"
LOCK_FILE = ".lock"
CONFIG_FILE = "config.yaml"
CONFIG_HEADER = "# The configuration of a run of hf_lrcompress."
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate")


def environment() -> dict[str, str]:
    """What a result depends on besides its settings: versions, processor, operating system."""
    versions = {"hf_lrcompress": hf_lrcompress.__version__} | {name: version(name) for name in PACKAGES}
    return versions | {"python": platform.python_version(), "machine": platform.machine(), "cpu_count": str(os.cpu_count())}


@dataclass(frozen=True)
class StageRecord:
    """What a stage leaves in its directory (`stage.json`), written last and by rename.

    Args:
        name (`str`): The stage.
        fingerprint (`str`): Hash of settings, inputs and the parent's fingerprint.
        complete (`bool`): Whether the stage's model is there.
        metrics (`Mapping`): What was measured.
        version (`str`): Version of this package.
        environment (`Mapping`): See [`environment`].
    """

    name: str
    fingerprint: str
    complete: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)
    version: str = hf_lrcompress.__version__
    environment: Mapping[str, str] = field(default_factory=environment)

    @classmethod
    def read(cls, stage_dir: Path) -> "StageRecord | None":
        """The record in a directory, or `None` if there is none."""
        path = stage_dir / RECORD_FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def write(self, stage_dir: Path) -> "StageRecord":
        """Put the record into a directory, in one step."""
        stage_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(stage_dir / RECORD_FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        return self

    def with_metrics(self, metrics: Mapping[str, Any], complete: bool = False) -> "StageRecord":
        """A copy with further metrics."""
        return replace(self, complete=complete or self.complete, metrics={**self.metrics, **metrics})


@dataclass(frozen=True)
class RunFolder:
    """A folder, and the run that it is to hold.

    Args:
        path (`Path`): The folder; it need not exist.
        planned (`Mapping[str, StageRecord]`): The records that the stages will begin with, by the name of their directory.
    """

    path: Path
    planned: Mapping[str, StageRecord]

    def check(self, overwrite: bool, inputs: Sequence[str] = ()) -> None:
        """Refuse a folder that holds something else than this run, complete or begun.

        Args:
            overwrite (`bool`): Whether stages made with other settings may be deleted.
            inputs (`Sequence[str]`): What the run reads: it must not lie in what would be deleted.

        Raises:
            FileExistsError: If the folder is no run folder, or something in it would have to be overwritten and may not.
        """
        if not self.path.exists():
            return
        self._check_kind()
        stale = self.stale()
        if stale and not overwrite:
            advice = "give another output_dir, or set overwrite (--overwrite) to make it again"
            raise FileExistsError(f"{self.path / stale[0]} was made with other settings; {advice}")
        for name in stale:
            for path in inputs:
                if Path(path).resolve().is_relative_to((self.path / name).resolve()):
                    raise FileExistsError(f"{path} lies in {self.path / name}, which would be deleted; give another output_dir")

    def _check_kind(self) -> None:
        """Refuse what is not the folder of a run."""
        if not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file; give another output_dir")
        others = [path for path in self.path.iterdir() if path.name != LOCK_FILE and path.suffix != ".partial"]
        config = self.path / CONFIG_FILE
        is_run = config.is_file() and config.read_text(encoding="utf-8").startswith(CONFIG_HEADER)
        if others and not is_run:
            first = min(path.name for path in others)
            raise FileExistsError(f"{self.path} holds other files (such as {first}); give an empty or new output_dir")

    def stale(self) -> list[str]:
        """Directories of stages, and of the final model, that do not belong to the planned run."""
        stale = []
        for path in sorted(self.path.glob("[0-9][0-9]-*")):
            record = StageRecord.read(path)
            wanted = self.planned.get(path.name)
            if record is None and wanted is None:
                continue
            if record is None or wanted is None or record.fingerprint != wanted.fingerprint:
                stale.append(path.name)
        report = self.path / REPORT_FILE
        final = json.loads(report.read_text(encoding="utf-8"))["fingerprint"] if report.is_file() else None
        if (self.path / MODEL_DIR).exists() and final != list(self.planned.values())[-1].fingerprint:
            stale.append(MODEL_DIR)
        return stale

    def delete_stale(self) -> None:
        """Delete what [`RunFolder.check`] would refuse."""
        for name in self.stale():
            (self.path / name / RECORD_FILE).unlink(missing_ok=True)  # first: what is half deleted must not count as complete
            shutil.rmtree(self.path / name)

    def lock(self) -> FileLock:
        """Make the folder, and keep other runs out of it.

        Raises:
            FileExistsError: If another run is using it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK_FILE, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise FileExistsError(f"another run is using {self.path}; wait for it or give another output_dir") from error
        return lock

    def record(self, directory: str) -> StageRecord:
        """The record of a stage: the one in its directory, or the one that it begins with."""
        return StageRecord.read(self.path / directory) or self.planned[directory]

    def records(self) -> list[StageRecord]:
        """The records of all stages, in order."""
        return [self.record(directory) for directory in self.planned]


def delete_checkpoints(stage_dir: Path) -> None:
    """Delete the checkpoints of a complete stage."""
    for checkpoint in stage_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(checkpoint)


def read_complete_run(output_dir: Path) -> dict[str, Any]:
    """`report.json` of a run whose stages, report and model are all there.

    Raises:
        ValueError: If one of them is not.
    """
    records = [StageRecord.read(path) for path in sorted(output_dir.glob("[0-9][0-9]-*"))]
    report = output_dir / REPORT_FILE
    last = records[-1] if records else None
    done = all(record and record.complete for record in records)
    if last and done and report.is_file() and (output_dir / MODEL_DIR).is_dir():
        content = json.loads(report.read_text(encoding="utf-8"))
        if content["fingerprint"] == last.fingerprint:
            return content
    raise ValueError(f"{output_dir} holds no complete run; start the same recipes/compress.py again to finish it")
