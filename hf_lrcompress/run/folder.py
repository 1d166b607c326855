"""The folder of a run: what each stage recorded, and what may be kept, resumed or replaced."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from hf_lrcompress.export.exporting import ONNX_DIR
from hf_lrcompress.files import (
    LOCK_FILE,
    FileRecords,
    changed_file,
    check_can_be_folder,
    file_hash,
    locked,
    read_object,
    write_atomically,
)
from hf_lrcompress.messages import shown
from hf_lrcompress.models.identity import MODEL_DIR, REPORT_FILE
from hf_lrcompress.models.sentence_modules import names_of_module_files
from hf_lrcompress.run.stage_files import CHECKPOINTS, foreign_file, is_half_written, stage_dirs
from hf_lrcompress.run.stage_record import RECORD_FILE, StageRecord

CONFIG_FILE = "config.yaml"
WEIGHTS = "model.safetensors"
CARD_FILE = "README.md"
FIGURES = ("stages.png", "scores.png", "capacity.png")
FOR_PEOPLE = (".md", ".png")
CONFIG_HEADER = "# The configuration of a run of hf_lrcompress."
REPORT_ADVICE = "delete it, it is made again"
OTHER_SETTINGS = "was made with other settings"


@dataclass(frozen=True)
class RunFolder:
    """A folder, and the run that it is to hold.

    Args:
        path (`Path`): The folder; it need not exist.
        planned (`Mapping[str, StageRecord]`): The records that the stages will begin with, by the name of their directory.
        stated (`Mapping[str, Any]`, *optional*): What the report will say besides, which no stage depends on but the model's card
            repeats: its languages.
    """

    path: Path
    planned: Mapping[str, StageRecord]
    stated: Mapping[str, Any] = field(default_factory=dict)

    def check(self, overwrite: bool, inputs: Sequence[str] = ()) -> list[str]:
        """Refuse a folder that holds something else than this run, complete or begun. All files of complete stages are read.

        Args:
            overwrite (`bool`): Whether what is of no use for this run may be deleted.
            inputs (`Sequence[str]`): What the run reads: it must not lie in what would be deleted.

        Returns:
            `list[str]`: Directories to [`RunFolder.delete`] before the run.

        Raises:
            FileExistsError: If the folder is no run folder, or something in it would have to be overwritten and may not.
            ValueError: If a record is damaged.
        """
        check_can_be_folder(self.path)
        if not self.path.exists():
            return []
        self._check_kind()
        stale = self.stale()
        if stale and not overwrite:
            name, reason = next(iter(stale.items()))
            advice = "give another output_dir, or set overwrite (--overwrite) to make it again"
            raise FileExistsError(f"{self.path / name} {reason}; {advice}")
        for name in stale:
            self._check_deletable(self.path / name, inputs)
        return list(stale)

    def _check_deletable(self, folder: Path, inputs: Sequence[str]) -> None:
        """Refuse to delete what the run reads, or what no stage has made."""
        if folder.is_symlink():
            raise FileExistsError(f"{folder} is a link; give another output_dir, or delete the link")
        for path in inputs:
            if Path(path).resolve().is_relative_to(folder.resolve()):
                raise FileExistsError(f"{path} lies in {folder}, which would be deleted; give another output_dir")
        record = StageRecord.read(folder)
        known = self._files_of_model() if folder.name == MODEL_DIR else set(record.files if record else {})
        foreign = foreign_file(folder, known)
        if foreign:
            raise FileExistsError(f"{folder} would be deleted, but holds {foreign}, which no stage has made; move it elsewhere")

    def _check_kind(self) -> None:
        """Refuse what is not the folder of a run."""
        others = [path for path in self.path.iterdir() if path.name != LOCK_FILE and path.suffix != ".partial"]
        config = self.path / CONFIG_FILE
        is_run = config.is_file() and config.read_text(encoding="utf-8").startswith(CONFIG_HEADER)
        if others and not is_run:
            first = min(path.name for path in others)
            raise FileExistsError(f"{self.path} holds other files (such as {first}); give an empty or new output_dir")

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Write the run's configuration, by which the folder is known to be a run's."""
        text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
        write_atomically(self.path / CONFIG_FILE, f"{CONFIG_HEADER}\n{text}")

    def stale(self) -> dict[str, str]:
        """Directories that are of no use for the planned run, and why: those of stages and that of the final model."""
        reasons = {path.name: self._why_stale(path) for path in stage_dirs(self.path)}
        found = {name: reason for name, reason in reasons.items() if reason}
        why = self._why_model_is_stale() or ("is of a stage that is made again" if found else None)
        if why and (self.path / MODEL_DIR).exists():
            found[MODEL_DIR] = why
        return found

    def _why_stale(self, stage_dir: Path) -> str | None:
        """Why what is in a stage's directory cannot be kept; `None` if it can."""
        record = StageRecord.read(stage_dir)
        wanted = self.planned.get(stage_dir.name)
        if record is None:
            return "holds files of no stage" if _holds_files(stage_dir) else None
        if wanted is None or record.fingerprint != wanted.fingerprint:
            return OTHER_SETTINGS
        if record.complete:
            changed = changed_file(stage_dir, record.files)
            return f"has lost its {changed}, or it was changed since" if changed else None
        begun_by = record.environment.get("processes")
        now = wanted.environment["processes"]
        if begun_by != now and list(stage_dir.glob(CHECKPOINTS)):
            return f"was begun with --num_processes {begun_by}, now there are {now}: their batches differ"
        return None

    def _why_model_is_stale(self) -> str | None:
        """Why the final model cannot be kept: it is another run's, or not what the last stage has made."""
        model_dir = self.path / MODEL_DIR
        if not model_dir.exists():
            return None
        path = self.path / REPORT_FILE
        report = read_object(path, REPORT_ADVICE) if path.is_file() else None
        last = list(self.planned.values())[-1].fingerprint
        if report and report.get("fingerprint") != last:
            return OTHER_SETTINGS
        for key, value in self.stated.items():
            if report and report.get(key, value) != value:
                return f"has a card that says {key} {shown(report[key])}, not {shown(value)}"
        changed = changed_model_file(self.path)
        return f"has another {changed} than its last stage has made" if changed else None

    def _files_of_model(self) -> set[str]:
        """Files that the directory of the final model may have got: of stages, the card, figures, and sentence-transformers'."""
        folders = [path for path in stage_dirs(self.path) if path.is_dir()]
        records = [StageRecord.read(path) for path in folders]
        of_stages = {name for record in records if record for name in record.files}
        of_stages |= {path.name for folder in folders for path in folder.iterdir()}  # of one that is made again
        return of_stages | {CARD_FILE, *FIGURES} | names_of_module_files(self.path / MODEL_DIR)

    def delete(self, directories: Sequence[str]) -> None:
        """Delete directories of stages or of the final model."""
        for name in directories:
            (self.path / name / RECORD_FILE).unlink(missing_ok=True)  # first: what is half deleted must not count as complete
            shutil.rmtree(self.path / name)

    def lock(self) -> FileLock:
        """Make the folder, and keep other runs out of it.

        Raises:
            FileExistsError: If another run is using it.
        """
        return locked(self.path, "another run").lock

    def record(self, directory: str) -> StageRecord:
        """The record of a stage: the one in its directory, or the one that it begins with."""
        return StageRecord.read(self.path / directory) or self.planned[directory]

    def complete(self) -> list[str]:
        """Directories of the stages that are complete."""
        return [directory for directory in self.planned if self.record(directory).complete]

    def records(self) -> list[StageRecord]:
        """The records of all stages, in order."""
        return [self.record(directory) for directory in self.planned]


def exported_files(records: Mapping[str, StageRecord]) -> dict[str, str]:
    """What an export has left to lie beside the final model: the folders of its stages by the files' paths in them.

    Args:
        records (`Mapping[str, StageRecord]`): The records of all stages by the name of their directory.
    """
    files = [(name, directory) for directory, record in records.items() for name in record.files]
    return {name: directory for name, directory in files if name.startswith(f"{ONNX_DIR}/")}


def model_files(output_dir: Path) -> FileRecords:
    """The files of the final model that the last stage with a model and an export have made, by their paths in it."""
    found = {path.name: StageRecord.read(path) for path in stage_dirs(output_dir)}
    records = {name: record for name, record in found.items() if record}
    made = [record.files for record in records.values() if WEIGHTS in record.files]
    files = dict(made[-1]) if made else {}
    return files | {name: records[directory].files[name] for name, directory in exported_files(records).items()}


def changed_model_file(output_dir: Path) -> str | None:
    """The first of [`model_files`] that is not, or no longer, what was made.

    The card and the figures are for people, who may change them.
    """
    for name, recorded in model_files(output_dir).items():
        path = output_dir / MODEL_DIR / name
        if path.suffix not in FOR_PEOPLE and not (path.is_file() and file_hash(path) == recorded["sha256"]):
            return name
    return None


def read_complete_run(output_dir: Path) -> dict[str, Any]:
    """`report.json` of a run whose stages, report and model are all there.

    Raises:
        ValueError: If one of them is not, or the model was changed.
    """
    if not output_dir.is_dir():
        raise FileNotFoundError(f"{output_dir} does not exist; give the folder of a run")
    if not (output_dir / CONFIG_FILE).is_file():
        inside = (output_dir.parent / CONFIG_FILE).is_file()
        raise ValueError(f"{output_dir} is no run folder; give {output_dir.parent if inside else 'the --output_dir of a run'}")
    records = [StageRecord.read(path) for path in stage_dirs(output_dir)]
    report = output_dir / REPORT_FILE
    last = records[-1] if records else None
    done = all(record and record.complete for record in records)
    if last and done and report.is_file() and (output_dir / MODEL_DIR).is_dir():
        content = read_object(report, REPORT_ADVICE)
        if content.get("fingerprint") == last.fingerprint:
            changed = changed_model_file(output_dir)
            if changed:
                raise ValueError(f"{output_dir / MODEL_DIR / changed} was changed; delete {MODEL_DIR}, the run makes it again")
            return content
    raise ValueError(f"{output_dir} holds no complete run; start the same hf-lrcompress compress again to finish it")


def _holds_files(folder: Path) -> bool:
    """Whether there is more than what a process leaves that was killed before its first record."""
    if not folder.is_dir() or folder.is_symlink():
        return True
    return any(not is_half_written(path) for path in folder.iterdir())
