"""The folder of a study: which grid it is, the run folder of every point, and a line for each that is finished."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_lrcompress.files import LOCK_FILE, check_can_be_folder, locked, read_object, write_atomically
from hf_lrcompress.run.folder import RunFolder, read_complete_run
from hf_lrcompress.studies.points import PlannedPoint
from hf_lrcompress.studies.results import named_as, result_of
from hf_lrcompress.studies.sharing import complete_stages, shared_stages

GRID_FILE = "study.json"
POINTS_FILE = "points.jsonl"
TABLE_FILE = "study.md"
FIGURE_FILE = "study.png"
RUNS_DIR = "runs"


@dataclass(frozen=True)
class StudyFolder:
    """A folder, and the study that it is to hold.

    Args:
        path (`Path`): The folder; it need not exist.
        facts (`Mapping`): What every line of the results begins with: the name of the study and its scale.
        planned (`Sequence[PlannedPoint]`): The points.
        reused (`Sequence[Path]`, *optional*): Folders of other studies, whose stages may be used.
    """

    path: Path
    facts: Mapping[str, Any]
    planned: Sequence[PlannedPoint]
    reused: Sequence[Path] = ()

    @property
    def runs_dir(self) -> Path:
        """Where the run folders are."""
        return self.path / RUNS_DIR

    def run_dir(self, planned: PlannedPoint) -> Path:
        """The run folder of a point."""
        return self.runs_dir / planned.point.directory

    def log_file(self, planned: PlannedPoint) -> Path:
        """What the process of a point has said."""
        return self.runs_dir / f"{planned.point.directory}.log"

    def complete_stages(self) -> dict[str, Path]:
        """Directories of all complete stages that its runs may share, by fingerprint."""
        return complete_stages([self.runs_dir, *(path / RUNS_DIR for path in self.reused)])

    def check(self, overwrite: bool) -> None:
        """Refuse a folder that holds something else than this study, and ones to reuse that hold none.

        Args:
            overwrite (`bool`): Whether the study there may be another. What it has in common with this one is kept.

        Raises:
            FileExistsError: If the folder is no study's, or another's.
            ValueError: If one to reuse is no study's.
        """
        for path in self.reused:
            if not (path / GRID_FILE).is_file():
                raise ValueError(f"--reuse {path}: no study was made there; give the output_dir of one")
        check_can_be_folder(self.path)
        if not self.path.exists():
            return
        grid_file = self.path / GRID_FILE
        others = [path for path in self.path.iterdir() if path.name != LOCK_FILE and path.suffix != ".partial"]
        if not grid_file.exists():
            if others:
                first = min(path.name for path in others)
                raise FileExistsError(f"{self.path} holds other files (such as {first}); give an empty or new output_dir")
            return
        different = self._difference(read_object(grid_file, "delete it to make the study again"))
        if different and not overwrite:
            advice = "give another output_dir, or set --overwrite: what both have in common is kept"
            raise FileExistsError(f"{self.path} holds a study with another grid ({different}); {advice}")

    def _difference(self, grid: Mapping[str, Any]) -> str | None:
        """How the study that was begun here differs; `None` if it does not."""
        if grid == self._grid:
            return None
        before = grid.get("points", {})
        for name, fingerprint in self._grid["points"].items():
            if before.get(name) != fingerprint:
                return f"{name} was made with other settings" if name in before else f"without {name}"
        more = [name for name in before if name not in self._grid["points"]]
        return f"with {more[0]} too" if more else "of another name or scale"

    @property
    def _grid(self) -> dict[str, Any]:
        return {**self.facts, "points": {each.point.name: each.fingerprint for each in self.planned}}

    def begin(self, overwrite: bool) -> AbstractContextManager:
        """Make the folder, keep other studies out of it, and give every point its configuration.

        Args:
            overwrite (`bool`): Whether stages of its points that were made with other settings are deleted.

        Returns:
            `AbstractContextManager`: Lets other studies in at its end.

        Raises:
            FileExistsError: If another process is using it, or what would be deleted is not this package's.
        """
        lock = locked(self.path, "another study")
        write_atomically(self.path / GRID_FILE, json.dumps(self._grid, indent=2, ensure_ascii=False) + "\n")
        for each in self.planned:
            with self.locked_run(each) as run:
                if overwrite:
                    run.delete(run.check(overwrite, [each.point.config.teacher]))
                run.write_config(each.point.config.to_mapping())
        return lock

    @contextmanager
    def locked_run(self, planned: PlannedPoint) -> Iterator[RunFolder]:
        """The run folder of a point, which no other process uses meanwhile.

        Raises:
            FileExistsError: If one does.
        """
        run = RunFolder(self.run_dir(planned), planned.records(), planned.point.config.languages)
        lock = run.lock()
        try:
            yield run
        finally:
            lock.release()

    @cached_property
    def _lines(self) -> dict[str, dict[str, Any]]:
        """Every line of the results that is this study's, by the fingerprint of its point."""
        path = self.path / POINTS_FILE
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = {}
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):  # a damaged line: its point is run again
                result = json.loads(line)
                found[result["fingerprint"]] = result
        there = [each for each in self.planned if each.fingerprint in found]
        return {each.fingerprint: found[each.fingerprint] | self.facts | named_as(each) for each in there}

    def is_finished(self, planned: PlannedPoint) -> bool:
        """Whether there is a line for a point."""
        return planned.fingerprint in self._lines

    def results(self) -> list[dict[str, Any]]:
        """The lines of the finished points, in the order of the study."""
        return [self._lines[each.fingerprint] for each in self.planned if self.is_finished(each)]

    def add_result(self, planned: PlannedPoint) -> dict[str, Any]:
        """Add the line of a point whose run is complete.

        Raises:
            ValueError: If it is not, or is another than was planned.
        """
        run_dir = self.run_dir(planned)
        report = read_complete_run(run_dir)
        if report["fingerprint"] != planned.fingerprint_of_run:
            raise ValueError("the texts, the teacher or the package were changed meanwhile; start the study again")
        result = {**self.facts, **result_of(planned, report, shared_stages(run_dir))}
        self._lines[planned.fingerprint] = result
        self.write_results()
        return result

    def write_results(self) -> None:
        """Write the lines of the finished points, called as the study calls them now; nothing if there are none."""
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in self.results()]
        if lines:
            write_atomically(self.path / POINTS_FILE, "".join(lines))
