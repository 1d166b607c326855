"""What a stage has recorded of itself, and whether that can be read again."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import PartialState

import hf_lrcompress
from hf_lrcompress.files import FileRecords, check_records, read_object, write_atomically
from hf_lrcompress.models.identity import STAGE_RECORD as RECORD_FILE
from hf_lrcompress.run.stage_files import record_files

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate")


def environment() -> dict[str, str]:
    """What a result depends on besides its settings: versions, processor, operating system, processes."""
    versions = {"hf_lrcompress": hf_lrcompress.__version__} | {name: version(name) for name in PACKAGES}
    return versions | {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_count": str(os.cpu_count()),
        "processes": str(PartialState().num_processes),
    }


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
        command (`Sequence[str]`): The command that began the stage.
        files (`FileRecords`): What a complete stage has left, see [`record_files`].

    Raises:
        ValueError: If a field is of another type, as in a record that was damaged.
    """

    name: str
    fingerprint: str
    complete: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)
    version: str = hf_lrcompress.__version__
    environment: Mapping[str, str] = field(default_factory=environment)
    command: Sequence[str] = field(default_factory=lambda: list(sys.argv))
    files: FileRecords = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = {"name": str, "fingerprint": str, "complete": bool, "metrics": Mapping, "environment": Mapping, "files": Mapping}
        for key, kind in kinds.items():
            if not isinstance(getattr(self, key), kind):
                raise ValueError(f"{key} is no {kind.__name__}")
        check_records(self.files)

    @classmethod
    def read(cls, stage_dir: Path) -> "StageRecord | None":
        """The record in a directory, or `None` if there is none.

        Raises:
            ValueError: If it is damaged.
        """
        path = stage_dir / RECORD_FILE
        if not path.is_file():
            return None
        advice = f"delete {stage_dir} to make the stage again"
        content = read_object(path, advice)
        try:
            return cls(**content)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}); {advice}") from None

    def write(self, stage_dir: Path) -> "StageRecord":
        """Put the record into a directory, in one step."""
        stage_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(stage_dir / RECORD_FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        return self

    def with_metrics(self, metrics: Mapping[str, Any]) -> "StageRecord":
        """A copy with further metrics."""
        return replace(self, metrics={**self.metrics, **metrics})

    def completed(self, stage_dir: Path) -> "StageRecord":
        """A copy that says that the stage is complete, with the hashes of what it has left in its directory."""
        return replace(self, complete=True, files=self.files or record_files(stage_dir))
