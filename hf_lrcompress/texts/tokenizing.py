"""Texts as a model is trained on them: full blocks of tokens that documents are packed into, or documents one by one."""

import logging
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from datasets import Dataset, Features, IterableDataset, List, Value
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.files import json_hash
from hf_lrcompress.models.tokenizers import require_fast
from hf_lrcompress.texts.corpus import cached

logger = logging.getLogger(__name__)

MOST_UNREAD = 0.2
"""Share of a text that may be cut off without a word."""
_BATCH_SIZE = 256  # documents tokenised at a time


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
    settings = _tokenizing(tokenizer, block_size)
    features = Features({"input_ids": List(Value("int32"), block_size), "attention_mask": List(Value("int8"), block_size)})
    if isinstance(corpus, IterableDataset):
        return IterableDataset.from_generator(_streamed_blocks, features=features, gen_kwargs=settings | {"corpus": corpus})
    return cached(_blocks, features, settings | {"corpus": corpus}, json_hash([settings, corpus._fingerprint]))


def tokenize_documents(
    corpus: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerFast, block_size: int
) -> Dataset | IterableDataset:
    """Make every document an example of its own: `[cls]`, at most `block_size - 2` tokens, `[sep]`; the rest is cut off.

    Args:
        corpus (`Dataset` or `IterableDataset`): With a column `text`.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Not changed; its truncation and padding do not matter.
        block_size (`int`): Most tokens of an example.

    Returns:
        `Dataset` or `IterableDataset`: Rows of `input_ids` (int32), `attention_mask` (int8) and `length`.

    Raises:
        ValueError: As [`tokenize_corpus`]; if no document has a token.
    """
    settings = _tokenizing(tokenizer, block_size)
    features = Features({"input_ids": List(Value("int32")), "attention_mask": List(Value("int8")), "length": Value("int32")})
    if isinstance(corpus, IterableDataset):
        return IterableDataset.from_generator(_cut_documents, features=features, gen_kwargs=settings | {"corpus": corpus})
    key = json_hash([settings, corpus._fingerprint, "documents"])
    return cached(_cut_documents, features, settings | {"corpus": corpus}, key)


def _tokenizing(tokenizer: PreTrainedTokenizerFast, block_size: int) -> dict[str, Any]:
    """What a corpus is tokenised by, once it is known to be possible."""
    require_fast(tokenizer)
    ends = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    if None in ends:
        raise ValueError("the tokenizer has no cls_token or no sep_token; set both, blocks begin and end with them")
    if not 3 <= block_size <= tokenizer.model_max_length:
        raise ValueError(f"block_size {block_size} must be from 3 to the tokenizer's {tokenizer.model_max_length}")
    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    return {"tokenizer_json": plain.to_str(), "ends": ends, "block_size": block_size}


def _cut_documents(
    corpus: Dataset | IterableDataset, tokenizer_json: str, ends: tuple[int, int], block_size: int
) -> Iterator[dict[str, Any]]:
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokens = 0
    unread = 0
    for batch in corpus.iter(batch_size=_BATCH_SIZE):
        for encoding in tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False):
            tokens += len(encoding)
            unread += max(0, len(encoding) - (block_size - 2))
            if len(encoding):
                ids = [ends[0], *encoding.ids[: block_size - 2], ends[1]]
                yield {"input_ids": ids, "attention_mask": [1] * len(ids), "length": len(ids)}
    if not tokens:
        raise ValueError("no document of the text has a token; is it in the tokenizer's script?")
    if unread > MOST_UNREAD * tokens:
        beyond = f"{100 * unread / tokens:.0f} % of the text's tokens are beyond the first {block_size - 2} of their document"
        logger.warning("%s, and not read; give a sentence or a paragraph a line", beyond)


def _blocks(
    corpus: Dataset | IterableDataset, tokenizer_json: str, ends: tuple[int, int], block_size: int
) -> Iterator[dict[str, np.ndarray]]:
    tokenizer = Tokenizer.from_str(tokenizer_json)
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
