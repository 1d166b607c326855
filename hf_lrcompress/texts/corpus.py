"""Text corpora: where they come from, reading them, and cutting them into full blocks of tokens."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, Features, IterableDataset, List, Value
from datasets.exceptions import DatasetGenerationError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.files import file_hash, json_hash
from hf_lrcompress.models.loading import require_fast
from hf_lrcompress.texts.readers import READERS, read_hub

Corpus = Dataset | IterableDataset
"""A corpus that was read, or that is read while it is used."""

_TEXT = Features({"text": Value("string")})
_BATCH_SIZE = 256  # documents tokenised at a time


@dataclass(frozen=True)
class CorpusSource:
    """Where a corpus comes from: local files, or a data set on the Hugging Face Hub.

    Args:
        files (`tuple[str, ...]`, *optional*):
            Local files of one kind: `.txt` with a document a line, `.jsonl` or `.json` with an object a line, `.parquet`.
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
        if bool(self.files) == bool(self.path):
            raise ValueError("a text source needs either files or path (a data set on the Hub), not both")
        kinds = sorted({Path(file).suffix for file in self.files})
        if not isinstance(self.files, tuple):
            raise ValueError(f"files must be a tuple of paths, got {self.files!r}")
        if len(kinds) > 1 or not READERS.keys() >= set(kinds):
            raise ValueError(f"files end in {' and '.join(kinds)}; give files of one kind: {', '.join(READERS)}")
        if self.files and (self.name or self.revision):
            raise ValueError("name and revision belong to a data set on the Hub; remove them or files")
        if self.path and (not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.path) or Path(self.path).exists()):
            raise ValueError(f"path {self.path!r} must be a Hub id such as cis-lmu/GlotCC-V1; local files belong in files")
        if not re.fullmatch(r"[\w.-]+", self.split):
            raise ValueError(f"split {self.split!r} must be a name such as train; for a part of it set max_documents")
        if self.max_documents is not None and self.max_documents < 1:
            raise ValueError(f"max_documents must be 1 or more, got {self.max_documents}")


def load_corpus(source: CorpusSource) -> Dataset | IterableDataset:
    """Read a corpus, without its blank documents.

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
        return _cached(_documents, _TEXT, {"source": source}, key)
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
        kind = Path(source.files[0]).suffix
        identity |= {"kind": kind, "split": None, "column": None if kind == ".txt" else source.column}
    return json_hash(identity)


def tokenize_corpus(
    corpus: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerFast, block_size: int
) -> Dataset | IterableDataset:
    """Pack a corpus into full blocks of tokens: `[cls]`, `block_size - 2` tokens of documents joined by `[sep]`, `[sep]`.

    Nothing is padding and no token is lost but those after the last full block. A `Dataset` is cached; an
    `IterableDataset` is tokenised as it is read.

    Args:
        corpus (`Dataset` or `IterableDataset`): With a column `text`.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Not changed; its truncation and padding do not matter.
        block_size (`int`): Tokens of a block.

    Returns:
        `Dataset` or `IterableDataset`: Rows of `input_ids` (int32) and `attention_mask` (int8), each `block_size` long.

    Raises:
        ValueError: If the tokenizer is slow or has no classification and separator token, if `block_size` is larger than
            its `model_max_length` or smaller than 3, or if the corpus does not fill one block (an `IterableDataset`
            raises this when it is read).
    """
    require_fast(tokenizer)
    ends = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    if None in ends:
        raise ValueError("the tokenizer has no cls_token or no sep_token; set both, blocks begin and end with them")
    if not 3 <= block_size <= tokenizer.model_max_length:
        raise ValueError(f"block_size {block_size} must be from 3 to the tokenizer's {tokenizer.model_max_length}")
    settings = {"tokenizer_json": tokenizer.backend_tokenizer.to_str(), "ends": ends, "block_size": block_size}
    features = Features({"input_ids": List(Value("int32"), block_size), "attention_mask": List(Value("int8"), block_size)})
    if isinstance(corpus, IterableDataset):
        return IterableDataset.from_generator(_streamed_blocks, features=features, gen_kwargs=settings | {"corpus": corpus})
    return _cached(_blocks, features, settings | {"corpus": corpus}, json_hash([settings, corpus._fingerprint]))


def cache_dir() -> Path:
    """The directory for what this package keeps for later runs, beside the texts that `datasets` caches."""
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_lrcompress"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _blocks(
    corpus: Dataset | IterableDataset, tokenizer_json: str, ends: tuple[int, int], block_size: int
) -> Iterator[dict[str, np.ndarray]]:
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    mask = np.ones(block_size, dtype=np.int8)
    rest = None
    found = False
    for batch in corpus.iter(batch_size=_BATCH_SIZE):
        encodings = tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)
        documents = (chain((ends[1],), encoding.ids) for encoding in encodings if len(encoding))
        ids = np.fromiter(chain.from_iterable(documents), dtype=np.int32)
        ids = ids[1:] if rest is None else np.concatenate([rest, ids])  # no separator before the first document
        full = len(ids) // (block_size - 2) * (block_size - 2)
        blocks = np.pad(ids[:full].reshape(-1, block_size - 2), ((0, 0), (1, 1)))
        blocks[:, 0], blocks[:, -1] = ends
        for block in blocks:
            found = True
            yield {"input_ids": block, "attention_mask": mask}
        rest = ids[full:] if len(ids) else rest
    if not found:
        raise ValueError(f"the text does not fill one block of {block_size} tokens; give more text or a smaller block_size")


def _streamed_blocks(**arguments: Any) -> Iterator[dict[str, list[int]]]:
    """As `_blocks`; what a stream yields goes to the collator as it is, which wants Python numbers."""
    for row in _blocks(**arguments):
        yield {name: values.tolist() for name, values in row.items()}


def _documents(source: CorpusSource) -> Iterator[dict[str, str]]:
    texts = (text for text in _texts(source) if text and not text.isspace())
    found = False
    for text in islice(texts, source.max_documents):
        found = True
        yield {"text": text}
    if not found:
        raise ValueError(f"{source.path or ', '.join(source.files)} has no text; give at least one document")


def _texts(source: CorpusSource) -> Iterator[str | None]:
    if source.path is not None:
        return read_hub(source.path, source.name, source.split, source.revision, source.column)
    read = READERS[Path(source.files[0]).suffix]
    return chain.from_iterable(read(file, source.column) for file in source.files)


def _cached(generator: Callable[..., Iterator[dict]], features: Features, arguments: dict[str, Any], key: str) -> Dataset:
    """What `generator` yields, from the cache where it is there."""
    try:
        return Dataset.from_generator(generator, features=features, gen_kwargs=arguments, fingerprint=key[:32])
    except DatasetGenerationError as error:
        raise (error.__cause__ or error) from None
