"""A model's fast tokenizer, read as its files have it."""

import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import import_protobuf
from transformers.utils import cached_file, has_file, is_protobuf_available, is_sentencepiece_available

from hf_lrcompress.messages import is_unreachable, one_line

TOKENIZER_FILE = "tokenizer.json"
"""The fast tokenizer's file."""


def load_tokenizer(name_or_dir: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer, without its chat templates: an encoder has no chats. It pads at the end.

    Some are saved to pad on the left, as decoders need it. Heads read the first token's state, and positions begin with it.

    Args:
        name_or_dir (`str`): Hub id or directory.
        revision (`str`, *optional*): Git revision on the Hub.

    Raises:
        ValueError: If there is no tokenizer, its file is damaged, or there is only a slow one.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name_or_dir, revision=revision, trust_remote_code=False)
    except Exception as error:  # the class of tokenizers' errors is Exception itself, those of its readers are many
        raise ValueError(_why_no_tokenizer(name_or_dir, revision, error)) from error
    require_fast(tokenizer)
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers 5 makes one of nothing
        raise ValueError(_why_no_tokenizer(name_or_dir, revision))
    _restore_character_map(tokenizer, name_or_dir, revision)
    tokenizer.padding_side = "right"
    tokenizer.chat_template = None  # transformers 4 writes several to files of the names they have, wherever those lead
    return tokenizer


def _why_no_tokenizer(name_or_dir: str, revision: str | None, error: Exception | None = None) -> str:
    nowhere = None if Path(name_or_dir).exists() else error
    if nowhere and is_unreachable(nowhere):
        return f"the Hugging Face Hub cannot be reached to load {name_or_dir}, and there is no such directory"
    if nowhere and not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name_or_dir):  # no name of the Hub's
        return f"there is no directory {name_or_dir}"
    if error and has_file(name_or_dir, TOKENIZER_FILE, revision=revision):
        said = f"{type(error).__name__}: {one_line(error)}"
        return f"{name_or_dir}: {TOKENIZER_FILE} or its settings are damaged ({said}); download or save them again"
    readable = is_sentencepiece_available() and is_protobuf_available()
    advice = "" if readable else ". If it has a SentencePiece model only: pip install sentencepiece protobuf"
    return f"{name_or_dir} has no tokenizer; save one beside the model{advice}"


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise a `ValueError` that says what to do if a tokenizer is slow."""
    if not tokenizer.is_fast:
        source = f"{tokenizer.name_or_path}: " if tokenizer.name_or_path else ""
        raise ValueError(f"{source}{type(tokenizer).__name__} is a slow tokenizer; save it with a tokenizer.json first")


def _restore_character_map(tokenizer: PreTrainedTokenizerFast, name_or_dir: str, revision: str | None) -> None:
    """Give a tokenizer the map of characters (NFKC, mostly) that its files have.

    Transformers 5 makes DeBERTa's tokenizer without it: no-break spaces, zero-width joiners and full-width letters, all known to
    SentencePiece and to transformers 4, would be unknown tokens.
    """
    backend = tokenizer.backend_tokenizer
    if type(backend.model).__name__ != "Unigram" or _maps_characters(backend.normalizer):
        return
    names = (TOKENIZER_FILE, tokenizer.vocab_files_names.get("vocab_file", TOKENIZER_FILE))
    file = next((name for name in names if has_file(name_or_dir, name, revision=revision)), None)
    if file is None:
        return
    path = Path(cached_file(name_or_dir, file, revision=revision) or file)
    if file == TOKENIZER_FILE:
        filed = Tokenizer.from_file(str(path)).normalizer
        backend.normalizer = filed if _maps_characters(filed) else backend.normalizer
        return
    model = import_protobuf().ModelProto.FromString(path.read_bytes())
    if model.normalizer_spec.precompiled_charsmap:
        of_file = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
        backend.normalizer = normalizers.Sequence([of_file, *filter(None, [backend.normalizer])])


def _maps_characters(normalizer: Any) -> bool:
    """Whether a normaliser, or one of a sequence, is a map that SentencePiece has made."""
    return normalizer is not None and b"Precompiled" in normalizer.__getstate__()
