"""The trainings of an evaluation, one model, task and seed each; several processes share them."""

import json
import logging
import os
import pickle  # nosec B403  # between a process and its own child only
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.utils import logging as transformers_logging

from hf_lrcompress.evaluation.encoding import EncodedTask, ModelUnderTest
from hf_lrcompress.evaluation.examples import TaskData
from hf_lrcompress.evaluation.judging import is_partly_learned, missed_text
from hf_lrcompress.evaluation.progress import Progress
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.evaluation.training import train_and_score
from hf_lrcompress.files import read_object, write_atomically
from hf_lrcompress.messages import one_line
from hf_lrcompress.models.loading import load_config
from hf_lrcompress.workers import end_with_parent, end_workers, start_worker

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds after which a process that waits for others does what is to be done now and then."""

LAUNCHER = re.compile(
    "RANK|WORLD_SIZE|MASTER_(ADDR|PORT)|(LOCAL|GROUP|ROLE)_(RANK|WORLD_SIZE|NAME)|(TORCHELASTIC|ACCELERATE|FSDP|OMPI|PMI|MV2)_.*"
)
"""Environment variables by which launchers tell a process that it is one of several."""


@dataclass(frozen=True)
class ScoringJob:
    """One training and its score.

    Args:
        model ([`ModelUnderTest`]): The model that is trained.
        data ([`TaskData`]): The data that it is trained on.
        training ([`TaskTraining`]): Settings, with one learning rate at most.
        seed (`int`): Seeds head, adapters, dropout and order.
        path (`Path`): The file of the result; the predictions are beside it, as `.jsonl`.
        fingerprint (`str`): Hash of everything that the result depends on, besides the seed.
    """

    model: ModelUnderTest
    data: TaskData
    training: TaskTraining
    seed: int
    path: Path
    fingerprint: str

    def is_done(self) -> bool:
        """Whether its result is there.

        Raises:
            FileExistsError: If its file holds the result of another job.
        """
        if not self.path.exists():
            return False
        if self.result().get("fingerprint") != self.fingerprint:
            made = f"{self.path} was made with other data, settings or another model"
            raise FileExistsError(f"{made}; choose another output directory")
        return True

    def result(self) -> dict[str, Any]:
        """What the finished job has found."""
        return read_object(self.path, "delete it, it is made again")

    def run(self, encoded: EncodedTask, progress: Progress) -> None:
        """Train, score and write the files.

        Args:
            encoded ([`EncodedTask`]): The data as the model's tokens.
            progress ([`Progress`]): Says how far the training is.
        """
        progress.begin(self.name, self.data.task.metric, self.cost)
        result = train_and_score(self.model, encoded, self.training, self.seed, callbacks=[progress])
        result["words_cut_off"] = encoded.splits["test"].words_cut_off
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in result.pop("predictions")]
        write_atomically(self.path.with_suffix(".jsonl"), "".join(lines))
        write_atomically(self.path, json.dumps(result | {"fingerprint": self.fingerprint}, indent=2) + "\n")
        found = f"{100 * result['scores'][self.data.task.metric]:.1f}"
        never = f", never predicting {missed_text(result)}," if is_partly_learned(result) else ""
        logger.info("%s: %s%s in %.0f s", self.name, found, never, result["seconds"])

    @property
    def name(self) -> str:
        """What it is, for people."""
        (rate,) = self.training.rates_of(self.data.task)
        return f"{self.model.name}, {self.data.task.name}, seed {self.seed}, learning rate {rate:g}"

    @property
    def cost(self) -> int:
        """How long the job takes, roughly: texts to train on."""
        return len(self.data.train) * self.training.epochs_of(self.data.task)


def run_jobs(
    jobs: Sequence[ScoringJob], to_come: int = 0, workers: int = 1, now_and_then: Callable[[], None] = lambda: None
) -> None:
    """Do what is not done yet. Where several processes were launched, all must call this, and each does its shares.

    A share runs in a new process that knows nothing of the others: the jobs are independent, and a `Trainer` that found itself
    in a process group would spread its one small job over all of it. One GPU may be given several, since a step of a small model
    is bound by what Python launches.

    Args:
        jobs (`Sequence[ScoringJob]`): The jobs, in every process the same.
        to_come (`int`, *optional*, defaults to 0): Cost of the jobs of a later call, which the time left is to include.
        workers (`int`, *optional*, defaults to 1): Shares at once of each process that was launched.
        now_and_then (`Callable`, *optional*): Called after every job or, where there are several shares, every minute.

    Raises:
        FileExistsError: If the file of a job holds the result of another.
        OSError: If a share failed; it has said why.
    """
    state = PartialState()
    waiting = [job for job in jobs if not job.is_done()]
    shares = state.num_processes * workers
    if shares == 1:
        _run(waiting, to_come, now_and_then)
        return
    state.wait_for_everyone()  # until now no file is written, so all have made the same list
    (level,) = broadcast_object_list([logger.getEffectiveLevel()])  # the main process's: the others are quieter
    longest_first = sorted(waiting, key=lambda job: -job.cost)
    own = [longest_first[number::shares] for number in range(state.process_index, shares, state.num_processes)]
    torch.cuda.empty_cache()  # what the stages before have left
    _run_side_by_side([(share, to_come // shares) for share in own if share], level, now_and_then)
    state.wait_for_everyone()


def _run_side_by_side(shares: Sequence[tuple[Sequence[ScoringJob], int]], level: int, now_and_then: Callable[[], None]) -> None:
    """A new process for each share; all are waited for, whether one fails or not."""
    state = PartialState()
    command = [sys.executable, "-c", f"from {__name__} import run_share; run_share({level})"]
    alone = {name: value for name, value in os.environ.items() if not LAUNCHER.fullmatch(name)}
    own_gpu = state.device.index if state.num_processes > 1 else None
    started: list[subprocess.Popen] = []
    try:
        for slot, share in enumerate(shares):
            with tempfile.TemporaryFile() as work:
                pickle.dump(share, work)
                work.seek(0)
                started.append(start_worker(command, slot, len(shares), own_gpu, env=alone, stdin=work))
        codes = [_exit_code(process, now_and_then) for process in started]
    finally:
        end_workers(started)
    failed = [code for code in codes if code]
    if failed:
        raise OSError(f"a process of the evaluation has ended with exit code {failed[0]}; it has said why")


def _exit_code(process: subprocess.Popen, now_and_then: Callable[[], None]) -> int:
    while True:
        try:
            return process.wait(EVERY)
        except subprocess.TimeoutExpired:
            now_and_then()


def run_share(level: int = logging.INFO) -> None:
    """Do the jobs that come, pickled, from standard input, while the parent process is there; log from this level on."""
    end_with_parent()
    logging.basicConfig(level=level, format="%(message)s")
    quiet_libraries()
    jobs, to_come = pickle.load(sys.stdin.buffer)  # nosec B301  # from run_jobs
    try:
        for job in jobs:  # the process that sent them has loaded these models: their code is trusted
            load_config(job.model.path, job.model.revision, trust_remote_code=True)
        _run(jobs, to_come)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {one_line(error)}")


def quiet_libraries() -> None:
    """Leave out what `transformers` says of every model, the bar that transformers 5 draws, and every request's address.

    The addresses that files are uploaded to are signed: who reads them in a log could write there.
    """
    transformers_logging.set_verbosity_error()
    for client in ("httpx", "httpx2"):  # of the Hub's library, older and newer
        logging.getLogger(client).setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()


def _run(jobs: Sequence[ScoringJob], to_come: int, after_job: Callable[[], None] = lambda: None) -> None:
    """One after the other; a task's tokens are made once for a model's jobs in a row."""
    progress = Progress(len(jobs), sum(job.cost for job in jobs) + to_come)
    before: ScoringJob | None = None
    for job in jobs:
        if before is None or (job.model, job.data) != (before.model, before.data):
            encoded = EncodedTask.encode(job.data, job.model, job.training.label_all_tokens)
            encoded.say_what_is_cut_off(job.model.name)
        job.run(encoded, progress)
        after_job()
        before = job
