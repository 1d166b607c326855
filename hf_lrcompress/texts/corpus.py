"""Text corpora: where they come from, and reading them."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, Features, IterableDataset, Value
from datasets.exceptions import DatasetGenerationError

from hf_lrcompress.files import file_hash, json_hash
from hf_lrcompress.messages import shown
from hf_lrcompress.texts.readers import READERS, read_hub
from hf_lrcompress.texts.rows import kind_of

Corpus = Dataset | IterableDataset
"""A corpus that was read, or that is read while it is used."""

_TEXT = Features({"text": Value("string")})

LONGEST_DOCUMENT = 100_000
"""Characters of a document above which it is several: a tokenizer needs a hundred times the memory of a text."""


@dataclass(frozen=True)
class CorpusSource:
    """Where a corpus comes from: local files, or a data set on the Hugging Face Hub.

    Args:
        files (`tuple[str, ...]`, *optional*):
            Local files of one kind: `.txt` with a document a line, `.jsonl` or `.json` with an object a line, `.csv` or `.tsv`
            with the columns' names in the first line, each of them also packed (`.txt.gz`), or `.parquet`.
        path, name (`str`, *optional*): A data set on the Hub and its configuration, instead of `files`.
        split (`str`, *optional*, defaults to `"train"`): The data set's split.
        revision (`str`, *optional*): The data set's branch, tag or commit. Without one a cached copy is not updated.
        column (`str`, *optional*, defaults to `"text"`): Where the text is, in anything but `.txt`.
        max_documents (`int`, *optional*): Take only the first ones; from the Hub no more than these are downloaded.
        streaming (`bool`, *optional*, defaults to `False`):
            Read while training instead of before it. The number of training steps must then be given (`max_steps`).

    Raises:
        ValueError: If the fields contradict each other or name what cannot be read.
    """

    files: tuple[str, ...] = ()
    path: str | None = None
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    column: str = "text"
    max_documents: int | None = None
    streaming: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.files, tuple) or not all(isinstance(file, str) for file in self.files):
            raise ValueError(f"files must be a list of paths, got {shown(self.files)}")
        if bool(self.files) == bool(self.path):
            both = "not both" if self.files else "and there is none"
            raise ValueError(f"a text source needs either files or path (a data set on the Hub), {both}")
        for file in self.files:
            if kind_of(file) not in READERS:
                raise ValueError(f"{file} is no kind of text that can be read; give files that end in {', '.join(READERS)}")
        kinds = sorted({kind_of(file) for file in self.files})
        if len(kinds) > 1:
            raise ValueError(f"files end in {' and '.join(kinds)}; give files of one kind")
        if self.files and (self.name or self.revision or self.split != "train"):
            raise ValueError("name, split and revision belong to a data set on the Hub; remove them or files")
        if self.path and (not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.path) or Path(self.path).exists()):
            raise ValueError(f"path {self.path!r} must be a Hub id such as cis-lmu/GlotCC-V1; local files belong in files")
        if not re.fullmatch(r"[\w.-]+", self.split):
            raise ValueError(f"split {self.split!r} must be a name such as train; for a part of it set max_documents")
        if self.max_documents is not None and self.max_documents < 1:
            raise ValueError(f"max_documents must be 1 or more, got {self.max_documents}")


def load_corpus(source: CorpusSource) -> Dataset | IterableDataset:
    """Read a corpus, without its blank documents; one of more than 100,000 characters is several.

    What is read is cached under [`corpus_fingerprint`], so a changed file is read anew whatever its name or date.

    Args:
        source ([`CorpusSource`]): Where the corpus comes from.

    Returns:
        `Dataset` or, with `source.streaming`, `IterableDataset`: One column, `text`; at least one document.

    Raises:
        FileNotFoundError: If a file or data set does not exist.
        ValueError: If there is no document, a file is not what its name says or not UTF-8, or the column is missing.
        ConnectionError: If the Hub cannot be reached.
    """
    key = corpus_fingerprint(source)
    if not source.streaming:
        return cached(_documents, _TEXT, {"source": source}, key)
    corpus = IterableDataset.from_generator(_documents, features=_TEXT, gen_kwargs={"source": source})
    next(iter(corpus))
    return corpus


def corpus_fingerprint(source: CorpusSource) -> str:
    """SHA-256 of what a corpus consists of: the contents of its files wherever they lie, or the names it has on the Hub.

    Args:
        source ([`CorpusSource`]): Where the corpus comes from.

    Raises:
        FileNotFoundError: If a file does not exist.
    """
    identity = asdict(source) | {"files": [file_hash(file) for file in source.files], "streaming": None}
    if source.files:
        kind = kind_of(source.files[0])
        identity |= {"kind": kind, "split": None, "column": None if kind.startswith(".txt") else source.column}
    return json_hash(identity)


def cache_dir() -> Path:
    """The directory for what this package keeps for later runs, beside the texts that `datasets` caches."""
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_lrcompress"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _documents(source: CorpusSource) -> Iterator[dict[str, str]]:
    texts = (text for text in _texts(source) if text and not text.isspace())
    found = False
    for text in islice(texts, source.max_documents):
        found = True
        yield from ({"text": part} for part in _parts(text) if not part.isspace())
    if not found:
        raise ValueError(f"{source.path or ', '.join(source.files)} has no text; give at least one document")


def _parts(text: str) -> Iterator[str]:
    """A document, in parts if it is long: they end before a space, where there is one."""
    start = 0
    while len(text) - start > LONGEST_DOCUMENT:
        most = start + LONGEST_DOCUMENT
        space = text.rfind(" ", start + 1, most)
        end = space if space > start else most
        yield text[start:end]
        start = end
    yield text[start:]


def _texts(source: CorpusSource) -> Iterator[str | None]:
    if source.path:
        return read_hub(source.path, source.name, source.split, source.revision, source.column)
    read = READERS[kind_of(source.files[0])]
    return chain.from_iterable(read(file, source.column) for file in source.files)


def cached(generator: Callable[..., Iterator[dict]], features: Features, arguments: dict[str, Any], key: str) -> Dataset:
    """What `generator` yields, from the cache where it is there."""
    try:
        return Dataset.from_generator(generator, features=features, gen_kwargs=arguments, fingerprint=key[:32])
    except DatasetGenerationError as error:
        raise (error.__cause__ or error) from None
