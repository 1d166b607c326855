"""Texts: from local files or the Hub, checked, and packed into full blocks of tokens."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from datasets import Dataset, Features, IterableDataset, List, Value, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from transformers import PreTrainedTokenizerFast

DEMO_COMMAND = "accelerate launch recipes/compress.py --lang sk --config recipes/configs/demo.yaml"
DOCUMENTS_PER_BATCH = 1000
BLOCK_FEATURES = Features({"input_ids": List(Value("int32")), "attention_mask": List(Value("int8"))})


@dataclass(frozen=True)
class CorpusSource:
    """Where text comes from: local files or a data set on the Hub.

    Args:
        files (`tuple[str, ...]`, *optional*): `.txt` (a document a line), `.jsonl` or `.parquet` files.
        path, name, split, revision (`str`, *optional*): A data set on the Hub, as `datasets.load_dataset` takes it.
        column (`str`, *optional*, defaults to `"text"`): The column with the text.
        max_documents (`int`, *optional*): Take only the first ones; from the Hub no more than these are downloaded.
        streaming (`bool`, *optional*, defaults to `False`):
            Read while training instead of before it. The number of training steps must then be given (`max_steps`).

    Raises:
        ValueError: If it is neither files nor a data set, or both.
    """

    files: tuple[str, ...] = ()
    path: str | None = None
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    column: str = "text"
    max_documents: int | None = None
    streaming: bool = False

    def __post_init__(self):
        if bool(self.files) == bool(self.path):
            raise ValueError("a text source needs either files or path (a data set on the Hub), not both")
        if self.max_documents is not None and self.max_documents < 1:
            raise ValueError(f"max_documents must be 1 or more, got {self.max_documents}")


def load_corpus(source: CorpusSource) -> Dataset | IterableDataset:
    """Load a corpus: the single column `text`, a document a row, blank ones dropped.

    Raises:
        FileNotFoundError: If a file or data set does not exist.
        ValueError: If a file is empty, not UTF-8, not JSON lines, lacks the column, or has an unknown ending.
        ConnectionError: If the Hub cannot be reached.
    """
    documents = _from_files if source.files else _from_hub
    if source.streaming:
        corpus = IterableDataset.from_generator(documents, gen_kwargs={"source": source})
        _check_not_empty(next(iter(corpus), None), source)
        return corpus
    try:
        corpus = Dataset.from_generator(
            documents,
            features=Features({"text": Value("string")}),
            gen_kwargs={"source": source},
            fingerprint=corpus_fingerprint(source)[:16],
        )
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None
    _check_not_empty(len(corpus) or None, source)
    return corpus


def corpus_fingerprint(source: CorpusSource) -> str:
    """SHA-256 of what a corpus is: contents of local files, wherever they lie, or the name of a data set on the Hub."""
    digest = hashlib.sha256(json.dumps(asdict(source) | {"files": None}, sort_keys=True).encode())
    for file in source.files:
        with _existing(file).open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def tokenize_corpus(
    corpus: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerFast, block_size: int
) -> Dataset | IterableDataset:
    """Pack a corpus into full blocks: `[cls]`, `block_size − 2` tokens of documents joined by `[sep]`, `[sep]`.

    Nothing is padding, and no token is lost but the last incomplete block.

    Args:
        corpus (`Dataset` or `IterableDataset`): With a column `text`.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): A fast tokenizer.
        block_size (`int`): Tokens of a block.

    Returns:
        `Dataset` or `IterableDataset`: Rows of `input_ids` and `attention_mask`, each `block_size` long.

    Raises:
        ValueError: If the corpus does not fill one block, or the block is longer than the tokenizer's `model_max_length`.
    """
    if not 3 <= block_size <= tokenizer.model_max_length:
        raise ValueError(f"block_size {block_size} must be from 3 to the tokenizer's {tokenizer.model_max_length}")
    arguments = {"corpus": corpus, "tokenizer": tokenizer, "block_size": block_size}
    if isinstance(corpus, IterableDataset):
        return IterableDataset.from_generator(_blocks, features=BLOCK_FEATURES, gen_kwargs=arguments)
    parts = [corpus._fingerprint, tokenizer.backend_tokenizer.to_str(), str(block_size)]
    fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    blocks = Dataset.from_generator(_blocks, features=BLOCK_FEATURES, gen_kwargs=arguments, fingerprint=fingerprint)
    if len(blocks) == 0:
        raise ValueError(f"the text does not fill one block of {block_size} tokens; give more text or a smaller block_size")
    return blocks


def _blocks(corpus: Iterable[dict], tokenizer: PreTrainedTokenizerFast, block_size: int) -> Iterator[dict]:
    inside, mask = block_size - 2, np.ones(block_size, dtype=np.int8)
    rest = np.empty(0, dtype=np.int32)
    for batch in corpus.iter(DOCUMENTS_PER_BATCH):
        documents = tokenizer(batch["text"], add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        tokens = [token for document in documents if document for token in (*document, tokenizer.sep_token_id)]
        rest = np.concatenate([rest, np.array(tokens, dtype=np.int32)])
        full = len(rest) // inside
        for block in rest[: full * inside].reshape(full, inside):
            ids = np.concatenate([[tokenizer.cls_token_id], block, [tokenizer.sep_token_id]]).astype(np.int32)
            yield {"input_ids": ids, "attention_mask": mask}
        rest = rest[full * inside :]


def _from_files(source: CorpusSource) -> Iterator[dict[str, str]]:
    taken = 0
    for file in source.files:
        reader = READERS.get(Path(file).suffix)
        if reader is None:
            raise ValueError(f"{file}: unknown ending; give {', '.join(READERS)} files")
        found = False
        for text in reader(_existing(file), source.column):
            if text.strip():
                found = True
                yield {"text": text.strip()}
                taken += 1
                if taken == source.max_documents:
                    return
        if not found:
            raise ValueError(f"{file} is empty; give a file with text")


def _from_hub(source: CorpusSource) -> Iterator[dict[str, str]]:
    name = f"{source.path}{f' ({source.name})' if source.name else ''}"
    lazily = source.streaming or source.max_documents is not None
    try:
        rows = load_dataset(source.path, source.name, split=source.split, revision=source.revision, streaming=lazily)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(f"there is no data set {name} on the Hub, or it needs a login") from error
    except OSError as error:
        raise ConnectionError(f"the Hugging Face Hub cannot be reached to load {name}; a run without it: {DEMO_COMMAND}") from error
    if rows.column_names and source.column not in rows.column_names:
        raise ValueError(f"{name} has no column {source.column!r}; there are: {', '.join(rows.column_names)}")
    rows = rows.select_columns([source.column])
    for row in rows.take(source.max_documents) if source.max_documents else rows:
        if row[source.column] and row[source.column].strip():
            yield {"text": row[source.column].strip()}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8; convert the file to UTF-8") from error


def _read_text(path: Path, column: str) -> Iterator[str]:
    return (line for _, line in _lines(path))


def _read_json_lines(path: Path, column: str) -> Iterator[str]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error.msg}); give one JSON object a line") from error
        if not isinstance(row, dict) or not isinstance(row.get(column), str):
            there = f"; there are: {', '.join(row)}" if isinstance(row, dict) else ""
            raise ValueError(f"{path}, line {number}: no text in column {column!r}{there}")
        yield row[column]


def _read_parquet(path: Path, column: str) -> Iterator[str]:
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a parquet file") from error
    if column not in file.schema_arrow.names:
        raise ValueError(f"{path} has no column {column!r}; there are: {', '.join(file.schema_arrow.names)}")
    for batch in file.iter_batches(columns=[column]):
        yield from (text for text in batch.column(0).to_pylist() if text)


READERS = {".txt": _read_text, ".jsonl": _read_json_lines, ".json": _read_json_lines, ".parquet": _read_parquet}


def _existing(file: str) -> Path:
    if not Path(file).is_file():
        raise FileNotFoundError(f"text file {file} does not exist")
    return Path(file)


def _check_not_empty(first: object, source: CorpusSource) -> None:
    if first is None:
        raise ValueError(f"{source.path or ', '.join(source.files)} has no text; check column and split")
