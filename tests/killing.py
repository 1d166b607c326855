"""Runs a recipe in forked processes, each of which is killed, or finds the disk full, at one of its file operations.

`python killing.py SCRIPT REFERENCE CHOSEN ARGUMENTS…` runs the script in the folder `REFERENCE`, counting what it does to files
there, then in another folder with trouble at one of `CHOSEN` operations (0 for all), and there again without. It prints a JSON
object a case.
Everything is imported once: a fork costs nothing.
"""

import contextlib
import gc
import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401 - so that no fork imports it again
import safetensors.torch
import torch
from transformers import XLMRobertaForMaskedLM, XLMRobertaModel  # noqa: F401

from hf_lrcompress import machine

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
KILLED = 137
TROUBLES = ("killed", "half written", "disk full")


class Trouble:
    """Counts the operations on files in a folder, and makes one of them the last, or fail."""

    def __init__(self, folder: Path, kind: str | None = None, at: int = -1) -> None:
        self.folder = str(folder)
        self.kind = kind
        self.at = at
        self.count = 0
        self.before = ""

    def install(self) -> None:
        """From now on; there is no way back, so only in a forked process."""
        sys.addaudithook(self._audit)
        for module, name in ((torch, "save"), (safetensors.torch, "save_file")):  # they write from C++ and Rust
            setattr(module, name, self._counted(getattr(module, name)))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and (arguments[2] or 0) & WRITING):
            self._operate(arguments[0])

    def _counted(self, write: Callable) -> Callable:
        def counted(content: Any, path: Any, *rest: Any, **named: Any) -> Any:
            self._operate(path)
            return write(content, path, *rest, **named)

        return counted

    def _operate(self, path: Any) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self.folder):
            return
        self.count += 1
        if self.count == self.at:
            self._strike(os.fspath(path))
        self.before = os.fspath(path)

    def _strike(self, path: str) -> None:
        if self.kind == "disk full":
            print("STRUCK", path, file=sys.stderr)
            raise OSError(28, "No space left on device", path)
        if self.kind == "half written" and os.path.isfile(self.before):
            os.truncate(self.before, os.path.getsize(self.before) // 2)
        os._exit(KILLED)


def run(script: str, arguments: list[str], folder: Path, trouble: Trouble) -> int:
    """Run the script in a process of its own; its exit code, and what it prints goes to files beside the folder."""
    process = os.fork()
    if process:
        _, status = os.waitpid(process, 0)
        return os.waitstatus_to_exitcode(status)
    code = 1
    with open(f"{folder}.log", "a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        sys.argv = [script, *arguments, "--output_dir", str(folder)]
        trouble.install()
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except BaseException as error:  # the test that asked will see it
            print(f"TRACE {error!r}", file=log)
        Path(f"{folder}.operations").write_text(str(trouble.count), encoding="utf-8")
    os._exit(code)


def cases(operations: int, chosen: int) -> list[tuple[str, int]]:
    """Operations spread evenly over the run, each with a trouble in turn; with `chosen` 0 all of them with all."""
    if not chosen:
        return [(kind, at) for at in range(1, operations + 1) for kind in TROUBLES]
    places = [1 + round(index * (operations - 1) / (chosen - 1)) for index in range(chosen)]
    return [(TROUBLES[index % len(TROUBLES)], at) for index, at in enumerate(places)]


def differences(folder: Path, reference: Path) -> list[str]:
    """Files that only one of two runs has, and those that should be equal and are not: times and seconds differ in the others."""
    paths = {path.relative_to(root).as_posix() for root in (folder, reference) for path in root.rglob("*") if path.is_file()}
    different = []
    for path in sorted(paths):
        pair = [root / path for root in (folder, reference)]
        there = all(one.is_file() for one in pair)
        dated = path.endswith((".md", ".png", "report.json", "stage.json"))
        if not there or not (dated or pair[0].read_bytes() == pair[1].read_bytes()):
            different.append(path)
    return different


def main(script: str, reference: str, chosen: str, *arguments: str) -> None:
    """A line for the run without trouble, and one a case."""
    folder = Path(reference)
    runpy.run_path(script, run_name="imported")
    machine.find_spec = lambda name: None  # energy is not measured: it takes longer than all else
    gc.freeze()  # else every fork looks through all that was imported whenever it collects
    code = run(script, list(arguments), folder, Trouble(folder))
    operations = int(Path(f"{folder}.operations").read_text(encoding="utf-8"))
    print(json.dumps({"code": code, "operations": operations, "log": read_log(folder)}), flush=True)
    for kind, at in cases(operations, int(chosen)):
        here = folder.with_name(f"{kind.replace(' ', '-')}-{at}")
        first = run(script, list(arguments), here, Trouble(here, kind, at))
        log = read_log(here)
        lost = differences(here, folder) if first == 0 else []
        again = run(script, list(arguments), here, Trouble(here))
        case = {"kind": kind, "at": at, "first": first, "again": again, "lost": lost, "different": differences(here, folder)}
        print(json.dumps(case | {"log": log, "log_again": read_log(here)}), flush=True)
        shutil.rmtree(here)


def read_log(folder: Path) -> str:
    """The end of what was printed."""
    return Path(f"{folder}.log").read_text(encoding="utf-8")[-3000:]


if __name__ == "__main__":
    main(*sys.argv[1:])
