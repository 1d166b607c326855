"""The certificate of a trimmed vocabulary: what changed for held-out text, what did not, and what other sizes would give."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.vocabulary.coverage import MOST_SENTENCES, check_coverage, coverage, unknown_rate
from hf_lrcompress.vocabulary.curve import CurvePoint, ids_of, measure_curve, per_word
from hf_lrcompress.vocabulary.ids import unknown_id
from hf_lrcompress.vocabulary.unreachable_tokens import unreachable_tokens

CERTIFICATE_FILE = "vocabulary_certificate.json"
MOST_COMPARED = 8  # sentences whose logits are compared
LONGEST_COMPARED = 64  # tokens of each
LARGEST_LOGIT_DIFFERENCE = 1e-3  # float32 sums in another order; a wrong row is off by much more


@dataclass(frozen=True)
class VocabularyCertificate:
    """What trimming did to held-out text. Shares are from 0 to 1; `untrimmed_*` is the same before trimming.

    Args:
        vocab_size, untrimmed_vocab_size (`int`): Number of tokens.
        sentences (`int`): Number of held-out sentences.
        same_sentences (`float`): Share of them that is tokenised exactly as before.
        kept_sentences (`float`): Share of them that was made of kept tokens only.
        same_kept_sentences (`float`): Share of those that is tokenised exactly as before: 1.
        coverage (`float`): Share of the held-out text's untrimmed tokens that are kept.
        tokens_per_word, untrimmed_tokens_per_word (`float`): Tokens a word; words are what white space separates.
        unknown_rate, untrimmed_unknown_rate (`float`): Share of the held-out text's tokens that are the unknown token.
        round_trip, untrimmed_round_trip (`float`): Share of sentences that decoding gives back, white space aside.
        unreachable_tokens (`tuple[str, ...]`): Kept tokens that no text is made into (only what `keep` demanded).
        reloaded_agrees (`float`): Share of sentences to which `AutoTokenizer`, from the saved files, gives the ids that the file
            `tokenizer.json` alone gives: 1.
        wrong_rows (`int`, *optional*): Embedding rows that are not those of their token: 0.
        max_logit_difference (`float`, *optional*):
            Largest absolute difference of a kept token's logit, in a few sentences made of kept tokens.
        curve (`tuple[CurvePoint, ...]`): What other sizes would give.

    Raises:
        RuntimeError: If something that trimming promises is not so.
    """

    vocab_size: int
    untrimmed_vocab_size: int
    sentences: int
    same_sentences: float
    kept_sentences: float
    same_kept_sentences: float
    coverage: float
    tokens_per_word: float
    untrimmed_tokens_per_word: float
    unknown_rate: float
    untrimmed_unknown_rate: float
    round_trip: float
    untrimmed_round_trip: float
    unreachable_tokens: tuple[str, ...]
    reloaded_agrees: float
    wrong_rows: int | None = None
    max_logit_difference: float | None = None
    curve: tuple[CurvePoint, ...] = ()

    def __post_init__(self) -> None:
        broken = {
            "a sentence made of kept tokens is tokenised differently": self.same_kept_sentences < 1,
            "the saved tokenizer, loaded by AutoTokenizer, differs from its tokenizer.json": self.reloaded_agrees < 1,
            "an embedding row is not that of its token": bool(self.wrong_rows),
            "a logit of a kept token has changed": (self.max_logit_difference or 0) > LARGEST_LOGIT_DIFFERENCE,
        }
        for problem, is_so in broken.items():
            if is_so:
                raise RuntimeError(f"vocabulary trimming broke its promise: {problem}; please report this")

    def to_mapping(self) -> dict[str, Any]:
        """The certificate as JSON has it."""
        return json.loads(json.dumps(asdict(self)))


def certify_vocabulary(
    tokenizer: PreTrainedTokenizerFast,
    trimmed: PreTrainedTokenizerFast,
    keep_ids: torch.Tensor,
    texts: Sequence[str],
    models: tuple[PreTrainedModel, PreTrainedModel] | None = None,
    counts: torch.Tensor | None = None,
) -> VocabularyCertificate:
    """Compare a trimmed tokenizer, and model, with what they were.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer as it was.
        trimmed ([`~transformers.PreTrainedTokenizerFast`]): What [`trim_tokenizer`] made of it.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)`): The kept tokens.
        texts (`Sequence[str]`): Held-out sentences; the first 10,000 are used.
        models (`tuple[PreTrainedModel, PreTrainedModel]`, *optional*): The masked LM before and after trimming; not changed.
        counts (`torch.Tensor` of shape `(len(tokenizer),)`, *optional*): What the tokens were chosen by, to draw a curve.

    Raises:
        ValueError: If the held-out text is not made of what was kept, as when it is in another script.
        RuntimeError: If something that trimming promises is not so.
    """
    check_coverage(tokenizer, trimmed, keep_ids, texts, counts)
    texts = list(texts[:MOST_SENTENCES])
    old = ids_of(tokenizer, texts)
    new = ids_of(trimmed, texts)
    expected = _renumbered(tokenizer, old, keep_ids)
    same = [ours == theirs for ours, theirs in zip(new, expected, strict=True)]
    kept = [row for row in expected if row is not None]
    unreachable = unreachable_tokens(trimmed)
    if unreachable and set(unreachable) - set(unreachable_tokens(tokenizer)):
        raise RuntimeError(f"vocabulary trimming broke its promise: {unreachable[0]!r} is unreachable; please report this")
    wrong_rows, difference = _compare_models(models, keep_ids, kept) if models else (None, None)
    return VocabularyCertificate(
        vocab_size=len(trimmed),
        untrimmed_vocab_size=len(tokenizer),
        sentences=len(texts),
        same_sentences=sum(same) / len(texts),
        kept_sentences=len(kept) / len(texts),
        same_kept_sentences=sum(same) / len(kept) if kept else 1.0,
        coverage=coverage(old, keep_ids),
        tokens_per_word=per_word(new, texts),
        untrimmed_tokens_per_word=per_word(old, texts),
        unknown_rate=unknown_rate(trimmed, new),
        untrimmed_unknown_rate=unknown_rate(tokenizer, old),
        round_trip=_round_trip(trimmed, new, texts),
        untrimmed_round_trip=_round_trip(tokenizer, old, texts),
        unreachable_tokens=tuple(unreachable),
        reloaded_agrees=_reloaded_agrees(trimmed, texts),
        wrong_rows=wrong_rows,
        max_logit_difference=difference,
        curve=() if counts is None else measure_curve(tokenizer, counts, len(keep_ids), texts),
    )


def write_certificate(certificate: VocabularyCertificate, directory: Path) -> None:
    """Write the certificate (`vocabulary_certificate.json`) into a directory."""
    content = json.dumps(certificate.to_mapping(), indent=2, ensure_ascii=False) + "\n"
    (directory / CERTIFICATE_FILE).write_text(content, encoding="utf-8")


def _renumbered(tokenizer: PreTrainedTokenizerFast, rows: list[list[int]], keep_ids: torch.Tensor) -> list[list[int] | None]:
    """The new ids of each sentence that is made of kept tokens; `None` for the others.

    A word that is unknown to WordPiece may become known, so the unknown token does not count as kept.
    """
    new_id = {old: new for new, old in enumerate(keep_ids.tolist())}
    if type(tokenizer.backend_tokenizer.model).__name__ == "WordPiece":
        new_id.pop(unknown_id(tokenizer), None)
    renumbered: list[list[int] | None] = []
    for row in rows:
        is_kept = new_id.keys() >= set(row)
        renumbered.append([new_id[i] for i in row] if is_kept else None)
    return renumbered


def _round_trip(tokenizer: PreTrainedTokenizerFast, rows: list[list[int]], texts: Sequence[str]) -> float:
    decoded = tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
    same = ["".join(back.split()) == "".join(text.split()) for back, text in zip(decoded, texts, strict=True)]
    return sum(same) / len(texts)


def _reloaded_agrees(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        save_tokenizer(tokenizer, directory)
        auto = AutoTokenizer.from_pretrained(directory)  # nosec B615  # what was just saved
        raw = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    raw.no_truncation()
    raw.no_padding()
    by_file = [encoding.ids for encoding in raw.encode_batch_fast(list(texts))]
    by_class = auto(list(texts), truncation=False, padding=False)["input_ids"]
    return sum(a == b for a, b in zip(by_file, by_class, strict=True)) / len(texts)


@torch.no_grad()
def _compare_models(
    models: tuple[PreTrainedModel, PreTrainedModel], keep_ids: torch.Tensor, rows: list[list[int]]
) -> tuple[int, float]:
    """The number of embedding rows that differ, and the largest difference of outputs for a few sentences of kept tokens.

    Outputs are the logits of the kept tokens; of models without a head the last hidden states.
    """
    before, after = models
    old = cast(nn.Embedding, before.get_input_embeddings()).weight
    new = cast(nn.Embedding, after.get_input_embeddings()).weight
    wrong_rows = (old[keep_ids] != new).any(dim=1).sum().item()
    difference = 0.0
    for row in rows[:MOST_COMPARED]:
        ids = torch.tensor([row[:LONGEST_COMPARED]])
        expected = before(keep_ids[ids])[0]
        if before.get_output_embeddings() is not None:
            expected = expected[..., keep_ids]
        difference = max(difference, (after(ids)[0] - expected).abs().max().item())
    return int(wrong_rows), difference
