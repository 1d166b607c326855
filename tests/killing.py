"""Runs recipes in forked processes, one of which is killed, or fails, at one of its operations on files or on the network.

`python killing.py WALKS.json` reads a list of [`Walk`]s. Each command is run in its own folder without trouble, counting its
operations, then in others with trouble at one operation each, and there again without. It prints a JSON object a case.
Everything is imported once: a fork costs nothing.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.figure
import safetensors.torch
import torch
from transformers import XLMRobertaForMaskedLM, XLMRobertaModel  # noqa: F401 - so that no fork imports them again

from hf_lrcompress import machine

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
KILLED = 137
TROUBLES = ("killed", "half written", "fails")
ENDS_WITHIN = 60
"""Seconds for a process that has lost another."""
TIMES = {
    "seconds",
    "stage_seconds",
    "peak_memory_mb",
    "latency_ms_batch_1",
    "latency_ms_batch_32",
    "tokens_per_second",
    "speedup",
}
NOT_EQUAL = TIMES | {"around", "command", "modified_ns", "sha256", "bytes", "train_loss"}
"""Keys of JSON files whose values differ between two equal runs: what files hold is compared itself, and `train_loss` is there
only of a training that was not interrupted."""


@dataclass(frozen=True)
class Walk:
    """A command, and where it has trouble.

    Args:
        script (`str`): The recipe.
        arguments (`list[str]`): `{folder}` and `{name}` stand for the run's folder and the folder's name.
        folder (`str`): That of the run without trouble; those of the others are made beside it.
        chosen (`int`): How many operations have trouble, spread evenly over the run; 0 for all, each in every way.
        processes (`int`, *optional*, defaults to 1): How many there are, the last of which has the trouble.
    """

    script: str
    arguments: list[str]
    folder: str
    chosen: int
    processes: int = 1


class Trouble:
    """Counts the operations on files in a folder and on sockets, and makes one of them the last, or fail."""

    def __init__(self, folder: Path, kind: str | None = None, at: int = -1) -> None:
        self.folder = str(folder)
        self.kind = kind
        self.at = at
        self.count = 0
        self.before = ""

    def install(self, network: bool) -> None:
        """From now on; there is no way back, so only in a forked process."""
        sys.addaudithook(self._audit)
        for module, name in ((torch, "save"), (safetensors.torch, "save_file")):  # they write from C++ and Rust
            setattr(module, name, self._counted(getattr(module, name)))
        for name in ("send", "sendall") if network else ():
            setattr(socket.socket, name, self._sent(getattr(socket.socket, name)))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and (arguments[2] or 0) & WRITING):
            self._operate(arguments[0])

    def _counted(self, write: Callable) -> Callable:
        def counted(content: Any, path: Any, *rest: Any, **named: Any) -> Any:
            self._operate(path)
            return write(content, path, *rest, **named)

        return counted

    def _sent(self, send: Callable) -> Callable:
        def sent(connection: socket.socket, content: Any, *rest: Any) -> Any:
            self.count += 1
            if self.count == self.at and self.kind == "fails":
                print("STRUCK network", file=sys.stderr)
                connection.shutdown(socket.SHUT_RDWR)  # a client may still look whether there is an answer
                raise ConnectionResetError(104, "Connection reset by peer")
            if self.count == self.at:
                send(connection, bytes(content)[: len(content) // 2 if self.kind == "half written" else 0])
                os._exit(KILLED)
            return send(connection, content, *rest)

        return sent

    def _operate(self, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or not f"{os.fsdecode(path)}/".startswith(f"{self.folder}/"):
            return
        self.count += 1
        if self.count == self.at:
            self._strike(os.fsdecode(path))
        self.before = os.fsdecode(path)

    def _strike(self, path: str) -> None:
        if self.kind == "fails":
            print("STRUCK", path, file=sys.stderr)
            raise OSError(28, "No space left on device", path)
        if self.kind == "half written" and os.path.isfile(self.before):
            os.truncate(self.before, os.path.getsize(self.before) // 2)
        os._exit(KILLED)


def start(walk: Walk, folder: Path, rank: int, port: int, trouble: Trouble) -> int:
    """Run the script in a process of its own, whose number is returned; what it prints goes to a file beside the folder."""
    process = os.fork()
    if process:
        return process
    code = 1
    if walk.processes > 1:
        shared = {"WORLD_SIZE": walk.processes, "LOCAL_WORLD_SIZE": walk.processes, "MASTER_ADDR": "127.0.0.1"}
        settings = shared | {"MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank}
        os.environ.update({name: str(value) for name, value in settings.items()})
    with open(f"{folder}.log", "a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        sys.argv = [walk.script, *(part.format(folder=folder, name=folder.name) for part in walk.arguments)]
        trouble.install(network=walk.processes == 1)
        try:
            runpy.run_path(walk.script, run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:  # the test that asked will see it
            print(f"TRACE {error!r}", file=log)
        if rank == walk.processes - 1:
            Path(f"{folder}.operations").write_text(str(trouble.count), encoding="utf-8")
            Path(f"{folder}.modules").write_text("\n".join(sys.modules), encoding="utf-8")
    os._exit(code)


def run(walk: Walk, folder: Path, kind: str | None = None, at: int = -1) -> list[int]:
    """The exit codes of all processes. Where one has failed the others are told to end, as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    last = walk.processes - 1
    troubles = [Trouble(folder, kind, at if rank == last else -1) for rank in range(walk.processes)]
    waiting = [start(walk, folder, rank, port, trouble) for rank, trouble in enumerate(troubles)]
    numbers = list(waiting)
    codes: dict[int, int] = {}
    deadline = float("inf")
    while waiting:
        for process in waiting:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                codes[process] = os.waitstatus_to_exitcode(status)
        waiting = [process for process in waiting if process not in codes]
        if any(codes.values()) and deadline == float("inf"):
            deadline = time.monotonic() + ENDS_WITHIN
            for process in waiting:
                os.kill(process, signal.SIGTERM)
        if time.monotonic() > deadline:
            for process in waiting:
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[process] for process in numbers]


def cases(operations: int, chosen: int) -> list[tuple[str, int]]:
    """Operations spread evenly over the run, each with a trouble in turn; with `chosen` 0 all of them with all."""
    if not chosen:
        return [(kind, at) for at in range(1, operations + 1) for kind in TROUBLES]
    places = [1 + round(index * (operations - 1) / max(1, chosen - 1)) for index in range(chosen)]
    return [(TROUBLES[index % len(TROUBLES)], at) for index, at in enumerate(places)]


def differences(folder: Path, reference: Path) -> list[str]:
    """Files that only one of two runs has, and those whose contents differ by more than the time that they took."""
    paths = {path.relative_to(root).as_posix() for root in (folder, reference) for path in root.rglob("*") if path.is_file()}
    different = []
    for path in sorted(paths):
        pair = [root / path for root in (folder, reference)]
        if not all(one.is_file() for one in pair) or not (path.endswith((".md", ".png")) or content(pair[0]) == content(pair[1])):
            different.append(path)
    return different


def content(path: Path) -> Any:
    """What a file holds, without what differs between two equal runs."""
    return without_times(json.loads(path.read_text(encoding="utf-8"))) if path.suffix == ".json" else path.read_bytes()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in NOT_EQUAL}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def go(walk: Walk) -> None:
    """A line for the run without trouble, and one a case."""
    folder = Path(walk.folder)
    codes = run(walk, folder)
    operations = int(Path(f"{folder}.operations").read_text(encoding="utf-8"))
    import_all(Path(f"{folder}.modules").read_text(encoding="utf-8").splitlines())
    print(json.dumps(asdict(walk) | {"codes": codes, "operations": operations, "log": read_log(folder)}), flush=True)
    for kind, at in cases(operations, walk.chosen):
        here = folder.with_name(f"{folder.name}-{kind.replace(' ', '-')}-{at}")
        *others, first = run(walk, here, kind, at)
        log = read_log(here)
        struck = first != 0 or "STRUCK" in log  # how often a connection is written to is not the same in every run
        lost = differences(here, folder) if first == 0 else []
        again = run(walk, here)
        case = {
            "walk": folder.name,
            "kind": kind,
            "at": at,
            "struck": struck,
            "first": first,
            "others": others,
            "again": again,
            "lost": lost,
        }
        found = {"different": differences(here, folder), "log": log, "log_again": read_log(here)}
        print(json.dumps(case | found), flush=True)
        shutil.rmtree(here, ignore_errors=True)


def import_all(names: list[str]) -> None:
    """Import what a run has imported, which every fork after it would import again."""
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()


def read_log(folder: Path) -> str:
    """The end of what was printed."""
    return Path(f"{folder}.log").read_text(encoding="utf-8")[-3000:]


def draw_nothing(figure: matplotlib.figure.Figure, path: Any, **settings: Any) -> None:
    """Write what a figure would be written to: drawing it takes longer than to train a tiny model."""
    Path(path).write_bytes(b"figure")


def main(walks: str) -> None:
    plans = [Walk(**walk) for walk in json.loads(Path(walks).read_text(encoding="utf-8"))]
    for script in {walk.script for walk in plans}:
        runpy.run_path(script, run_name="imported")
    machine.find_spec = lambda name: None  # energy is not measured: it takes longer than all else
    matplotlib.figure.Figure.savefig = draw_nothing
    gc.freeze()  # else every fork looks through all that was imported whenever it collects
    for walk in plans:
        go(walk)


if __name__ == "__main__":
    main(*sys.argv[1:])
