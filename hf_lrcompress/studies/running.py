"""Running the points of a study: each a process of its own, which is the command `compress`; a stage is made by one of them."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hf_lrcompress.messages import one_line
from hf_lrcompress.run.folder import CONFIG_FILE
from hf_lrcompress.studies.folder import StudyFolder
from hf_lrcompress.studies.points import PlannedPoint
from hf_lrcompress.studies.sharing import share_stages
from hf_lrcompress.workers import end_workers, start_worker

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "hf_lrcompress", "compress", "--quiet")
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class _Running:
    planned: PlannedPoint
    process: subprocess.Popen
    slot: int


def run_points(
    planned: Sequence[PlannedPoint], folder: StudyFolder, workers: int, report: Callable[[dict[str, str]], object]
) -> dict[str, str]:
    """Run the points that are not finished, several at once; what a point finds is recorded as soon as it ends.

    A point waits while another makes a stage that it needs too. If a process dies, the others go on.

    Args:
        planned (`Sequence[PlannedPoint]`): The points, in the order in which they begin.
        folder ([`StudyFolder`]): Where they run, and where their results go.
        workers (`int`): Processes at once.
        report (`Callable`): Called whenever a point has ended, with what is returned so far.

    Returns:
        `dict[str, str]`: What points failed of, by their names.
    """
    waiting = [point for point in planned if not folder.is_finished(point)]
    running: list[_Running] = []
    failed: dict[str, str] = {}
    try:
        while waiting or running:
            _begin_all(waiting, running, folder, workers, failed)
            time.sleep(POLL_SECONDS)
            for ended in [each for each in running if each.process.poll() is not None]:
                running.remove(ended)
                _end(ended, folder, failed)
                report(failed)
    finally:
        end_workers([each.process for each in running])
    return failed


def _begin_all(
    waiting: list[PlannedPoint], running: list[_Running], folder: StudyFolder, workers: int, failed: dict[str, str]
) -> None:
    """Start what can be started now."""
    if not waiting or len(running) == workers:
        return
    complete = folder.complete_stages()
    for planned in list(waiting):
        if len(running) < workers and not _is_being_made(planned, running, complete):
            waiting.remove(planned)
            slot = min(set(range(workers)) - {each.slot for each in running})
            with _noted(planned, failed):
                with folder.locked_run(planned):
                    share_stages(folder.run_dir(planned), planned.stages, complete)
                running.append(_Running(planned, _start(planned, folder, slot, workers), slot))
                logger.info("%s: begun", planned.point.name)


def _is_being_made(planned: PlannedPoint, running: Sequence[_Running], complete: Collection[str]) -> bool:
    """Whether a stage that a point needs and nobody has finished is the work of a running one."""
    missing = set(planned.stages.values()) - set(complete)
    return any(missing & set(each.planned.stages.values()) for each in running)


def _start(planned: PlannedPoint, folder: StudyFolder, slot: int, workers: int) -> subprocess.Popen:
    run_dir = folder.run_dir(planned)
    config = planned.point.config
    arguments = ["--lang", config.language.tag, "--config", str(run_dir / CONFIG_FILE), "--output_dir", str(run_dir)]
    with open(folder.log_file(planned), "w", encoding="utf-8") as log:
        return start_worker([*COMMAND, *arguments], slot, workers, stdout=subprocess.DEVNULL, stderr=log)


def _end(ended: _Running, folder: StudyFolder, failed: dict[str, str]) -> None:
    """Record what a point has found, or why there is nothing."""
    planned = ended.planned
    with _noted(planned, failed):
        reason = _why_failed(ended.process.returncode, folder.log_file(planned))
        if reason:
            raise OSError(reason)
        result = folder.add_result(planned)
        logger.info("%s: done in %.0f s", planned.point.name, result["seconds"])


@contextmanager
def _noted(planned: PlannedPoint, failed: dict[str, str]) -> Iterator[None]:
    """Note why a point has failed, and go on."""
    try:
        yield
    except (ValueError, OSError) as error:
        failed[planned.point.name] = one_line(error)
        logger.warning("%s: failed: %s", planned.point.name, failed[planned.point.name])


def _why_failed(code: int, log_file: Path) -> str | None:
    """The reason that a process has given; `None` if it has done its work."""
    if code == 0:
        return None
    lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    last = [line for line in lines if line.strip()][-1:]
    return errors[-1] if errors else ": ".join([ended, *last])
