"""The pieces of the quality benchmark: models and scores, each with a file of its own, made in several processes."""

import json
import multiprocessing
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.jobs import quiet_libraries, run_jobs
from hf_lrcompress.evaluation.scoring import Comparison, load_tasks, score_models
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.files import write_atomically
from hf_lrcompress.machine import hold_little_memory
from hf_lrcompress.pipeline import Pipeline
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.preparation import prepare
from hf_lrcompress.run.yaml_files import find_configuration, override, read_yaml
from hf_lrcompress.texts.languages import Language

TEACHER = "teacher"
TRAINED = "trained"
SURGERY = "surgery alone"
MEASURED = ("parameters", "sentence_similarity", "token_similarity", "mlm_accuracy")


@dataclass(frozen=True)
class Method:
    """A row of the comparison; its keys are explained in quality.yaml."""

    config: str
    shares: dict[str, float]
    set: dict[str, Any] = field(default_factory=dict)
    short: bool = False
    times: float = 1


@dataclass(frozen=True)
class Settings:
    """What all pieces have in common."""

    language: str
    text: str
    held_out: str
    teacher: str
    task_data: dict[str, str]
    task_epochs: dict[str, int]
    work_dir: Path
    epochs: float
    short_epochs: float
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A method by its name, or the teacher, which has none."""

    name: str
    method: Method | None
    settings: Settings

    @property
    def stem(self) -> str:
        """Its name, for files."""
        return re.sub(r"[^\w.]|_", "-", self.name)

    @property
    def tasks(self) -> list[str]:
        """What it is scored on: short rows on nothing."""
        return [] if self.method and self.method.short else list(self.settings.task_data)

    def file(self, piece: str) -> Path:
        """Where the result of a piece is."""
        return self.settings.work_dir / f"{self.stem}.{piece.replace(' ', '-')}.json"

    def result(self, piece: str) -> dict[str, Any]:
        """The result of a piece; empty where there is none.

        Raises:
            ValueError: If it was made when the row, or its configuration, was another.
        """
        path = self.file(piece)
        if not path.exists():
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["row"] != self._definition():
            what = f"another row {self.name!r}, or with another configuration"
            raise ValueError(f"{path} was made by {what}; rename the row, or delete the file and its model")
        return content

    def save(self, piece: str, content: dict[str, Any]) -> None:
        """Write the result of a piece, and where it was made."""
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        content = content | {"row": self._definition(), "device": device}
        write_atomically(self.file(piece), json.dumps(content, indent=2) + "\n")

    def _definition(self) -> dict[str, Any] | None:
        return asdict(self.method) | {"config": read_yaml(find_configuration(self.method.config))} if self.method else None

    def run_dir(self, piece: str) -> Path:
        """The run folder of a model."""
        return self.settings.work_dir / f"{self.stem}.{piece.replace(' ', '-')}"

    def config(self, trains: bool) -> RunConfig:
        """The configuration that makes its model, with its trainings or with the surgeries alone."""
        assert self.method is not None
        given = self.settings
        mapping = read_yaml(find_configuration(self.method.config))
        mapping |= {"teacher": given.teacher, "train": {"files": [given.text]}, "validation": {"files": [given.held_out]}}
        changes = {"training.disable_tqdm": True} | self.method.set
        epochs = self.method.times * (given.short_epochs if self.method.short else given.epochs)
        for stage, share in self.method.shares.items():
            if trains:
                changes[f"{stage}.training.num_train_epochs"] = epochs * share / sum(self.method.shares.values())
            elif stage != "adapt_teacher":
                changes |= {f"{stage}.distil": False, f"{stage}.distil_from": "parent"}
        for key, value in changes.items():
            mapping = override(mapping, key, value)
        if not trains:
            mapping["stages"] = [stage for stage in mapping["stages"] if stage != "adapt_teacher"]
            mapping.pop("adapt_teacher", None)
        return RunConfig.from_mapping(mapping, Language.from_tag(given.language))

    def comparison(self, task: str) -> Comparison:
        """Its model on a task, with files of its own."""
        given = self.settings
        path = str(self.run_dir(TRAINED) / "model") if self.method else given.teacher
        tasks, _ = load_tasks([task], given.task_data, Language.from_tag(given.language))
        training = TaskTraining(learning_rates=given.learning_rates, epochs=given.task_epochs[task])
        folder = given.work_dir / f"{self.stem}.scores"
        folder.mkdir(exist_ok=True)
        return Comparison([ModelUnderTest(self.stem, path)], tasks, training, given.seeds, folder, reference=self.stem)


def make_model(row: Row, piece: str) -> None:
    """Run the pipeline of a row."""
    if row.result(piece):
        return
    run_dir = row.run_dir(piece)
    Pipeline(prepare(row.config(trains=piece == TRAINED)), run_dir).run()
    report = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))
    last = report["stages"][-1]
    content = {key: last[key] for key in MEASURED if key in last}
    row.save(piece, content | {"seconds": sum(stage.get("seconds", 0) for stage in report["stages"])})


def try_rate(row: Row, task: str, position: int) -> None:
    """One of the trainings that the learning rate is chosen by."""
    if not row.result(task):
        (entry,) = row.comparison(task).entries()
        run_jobs([entry.trials()[position]])


def train_seed(row: Row, task: str, position: int) -> None:
    """The training of one seed, at the best learning rate."""
    if not row.result(task):
        (entry,) = row.comparison(task).entries()
        run_jobs([entry.jobs()[position]])


def score(row: Row, task: str) -> None:
    """Put the trainings on a task together."""
    if not row.result(task):
        (scores,) = score_models(row.comparison(task))
        row.save(task, scores)


@dataclass(frozen=True)
class Piece:
    """Something to be made: a function, its arguments, and the pieces that must be there before."""

    title: str
    work: Callable
    arguments: tuple
    needs: frozenset[str] = frozenset()


def pieces_of(row: Row) -> list[Piece]:
    """A row's models, then what it is scored by."""
    pieces = []
    needs: frozenset[str] = frozenset()
    if row.method:
        for kind in (TRAINED, SURGERY):
            pieces.append(Piece(f"{row.name}, {kind}", make_model, (row, kind)))
        needs = frozenset([f"{row.name}, {TRAINED}"])
    for task in row.tasks:
        pieces += _pieces_of_task(row, task, needs)
    return pieces


def _pieces_of_task(row: Row, task: str, needs: frozenset[str]) -> list[Piece]:
    rates = row.settings.learning_rates
    seeds = row.settings.seeds
    trials = [Piece(f"{row.name}, {task} at {rate:g}", try_rate, (row, task, i), needs) for i, rate in enumerate(rates)]
    if len(rates) == 1:
        trials = []
    tried = frozenset(piece.title for piece in trials) or needs
    trainings = [Piece(f"{row.name}, {task}, seed {seed}", train_seed, (row, task, i), tried) for i, seed in enumerate(seeds)]
    trained = frozenset(piece.title for piece in trainings)
    return [*trials, *trainings, Piece(f"{row.name}, {task}", score, (row, task), trained)]


def begin_worker() -> None:
    """Make a process ready for trainings."""
    quiet_libraries()
    hold_little_memory()


def make_pieces(pieces: Sequence[Piece], workers: int) -> None:
    """Make all pieces in several processes, each as soon as what it needs is there.

    Raises:
        OSError: If pieces failed, after all others are made.
    """
    left = list(pieces)
    made: set[str] = set()
    failed: list[str] = []
    running: dict[Future, str] = {}
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=begin_worker) as pool:
        while left or running:
            for piece in [piece for piece in left if piece.needs <= made]:
                left.remove(piece)
                running[pool.submit(piece.work, *piece.arguments)] = piece.title
            if not running:
                break  # what is left needs what failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                title = running.pop(future)
                error = future.exception()
                if error:
                    failed.append(f"{title}: {' '.join(str(error).split())}")
                else:
                    made.add(title)
                print(f"{title}: {error or 'done'}", file=sys.stderr, flush=True)
    if failed:
        raise OSError("; ".join(failed))
