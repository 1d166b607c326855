"""Files: hashes of them, and writing so that a file is there whole or not at all."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-like values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def copy_directory(source: Path, target: Path, ignore: Sequence[str], extra: Mapping[str, bytes]) -> None:
    """Copy `source` and the files `extra` (name → content) to the new directory `target`, which is there whole or not at all."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*ignore))
    for name, content in extra.items():
        (partial / name).write_bytes(content)
    partial.replace(target)
