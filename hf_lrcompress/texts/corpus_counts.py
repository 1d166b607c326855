"""Token counts of whole corpora: by several processes, and as files that can be added up and used for other sizes."""

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.files import fingerprint, text_hash, written_whole
from hf_lrcompress.texts.corpus import CorpusSource, cache_dir, corpus_fingerprint, load_corpus
from hf_lrcompress.vocabulary.counting import count_tokens
from hf_lrcompress.vocabulary.ids import id_count

logger = logging.getLogger(__name__)

COUNTS_FILE = "token_counts-{}.safetensors"


def count_corpus(source: CorpusSource, tokenizer: PreTrainedTokenizerFast, num_proc: int = 1) -> torch.Tensor:
    """Count the tokens of a corpus, in every process of `accelerate launch` a part of it.

    Args:
        source ([`CorpusSource`]): The corpus.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Any fast tokenizer; not changed.
        num_proc (`int`, *optional*, defaults to 1): Processes to start for each of those.

    Returns:
        `torch.Tensor` of shape `(len(tokenizer),)`: The same in every process, whatever their number.
    """
    state = PartialState()
    count = partial(_count_shard, source, tokenizer, state.num_processes * num_proc)
    shards = range(state.process_index * num_proc, (state.process_index + 1) * num_proc)
    if num_proc == 1:
        counts = count(shards[0])
    else:
        with ProcessPoolExecutor(num_proc, mp_context=get_context("spawn")) as pool:
            counts = torch.stack(list(pool.map(count, shards))).sum(dim=0)
    return reduce(counts.to(state.device), reduction="sum").cpu()


def cached_counts(source: CorpusSource, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """[`count_corpus`], with the counts kept in [`~texts.corpus.cache_dir`]: no text is counted twice by one tokenizer."""
    name = COUNTS_FILE.format(fingerprint(corpus_fingerprint(source), tokenizer_fingerprint(tokenizer)))
    path = cache_dir() / name
    state = PartialState()
    counts = torch.zeros(id_count(tokenizer), dtype=torch.long)
    if state.is_main_process and path.is_file():
        counts = load_counts([path], tokenizer)
    counts = broadcast(counts.to(state.device)).cpu()  # the others may be on machines with caches of their own
    if not counts.any():
        logger.info("counting the tokens of %s", source.path or ", ".join(Path(file).name for file in source.files))
        counts = count_corpus(source, tokenizer)
        if state.is_main_process:
            with FileLock(cache_dir() / ".lock"):
                save_counts(path, counts, tokenizer)
    return counts


def save_counts(path: str | Path, counts: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write counts into a safetensors file that knows the tokenizer they are of; it is there whole or not at all.

    Args:
        path (`str` or `Path`): The file.
        counts (`torch.Tensor` of shape `(len(tokenizer),)`): How often each token occurs.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer that the text was counted with.
    """
    with written_whole(Path(path)) as partial_path:
        save_file({"counts": counts.contiguous()}, partial_path, metadata={"tokenizer": tokenizer_fingerprint(tokenizer)})


def load_counts(paths: Sequence[str | Path], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Read counts and add them up.

    Args:
        paths (`Sequence[str | Path]`): Files by [`save_counts`].
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer that the texts were counted with.

    Returns:
        `torch.Tensor` of shape `(len(tokenizer),)`: How often each token occurs in all of them; in fp64 where one is so.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file holds no counts, or those of another tokenizer.
    """
    total = torch.zeros(id_count(tokenizer), dtype=torch.long)
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"file of token counts {path} does not exist")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                counts = file.get_tensor("counts")
        except SafetensorError as error:
            raise ValueError(f"{path} holds no token counts ({error}); make it with save_counts") from None
        if metadata.get("tokenizer") != tokenizer_fingerprint(tokenizer):
            raise ValueError(f"{path} was counted with another tokenizer; count the corpus again with this one")
        total = total + counts  # weighted ones are no whole numbers
    return total


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of what a tokenizer does, whatever length it was last used to cut or pad texts to."""
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return text_hash(backend.to_str())


def _count_shard(source: CorpusSource, tokenizer: PreTrainedTokenizerFast, shards: int, index: int) -> torch.Tensor:
    corpus = load_corpus(source)
    if source.streaming:
        return count_tokens(tokenizer, (row["text"] for row in islice(corpus, index, None, shards)))
    return count_tokens(tokenizer, (row["text"] for row in corpus.shard(shards, index, contiguous=True)))
