"""The certificate of a trimmed vocabulary: what changed for held-out text, what did not, and what other sizes would give."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.vocabulary.comparison import ComparedText, VocabularyComparison
from hf_lrcompress.vocabulary.coverage import MOST_SENTENCES, check_coverage
from hf_lrcompress.vocabulary.curve import CurvePoint, measure_curve
from hf_lrcompress.vocabulary.unreachable_tokens import unreachable_tokens

CERTIFICATE_FILE = "vocabulary_certificate.json"
MOST_COMPARED = 8  # sentences whose logits are compared
LONGEST_COMPARED = 64  # tokens of each
LARGEST_LOGIT_DIFFERENCE = 1e-3  # float32 sums in another order; a wrong row is off by much more


@dataclass(frozen=True, kw_only=True)
class VocabularyCertificate(VocabularyComparison):
    """What trimming did to held-out text, where it kept its promises: `same_kept_sentences` is 1 and `wrong_rows` 0.

    Args:
        reloaded_agrees (`float`): Share of sentences to which `AutoTokenizer`, from the saved files, gives the ids that the file
            `tokenizer.json` alone gives: 1.
        max_logit_difference (`float`, *optional*):
            Largest absolute difference of a kept token's logit, in a few sentences made of kept tokens; none without models, or
            without such sentences.
        curve (`tuple[CurvePoint, ...]`): What other sizes would give.

    Raises:
        RuntimeError: If something that trimming promises is not so.
    """

    reloaded_agrees: float
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
    keep: Sequence[str] = (),
) -> VocabularyCertificate:
    """Compare a trimmed tokenizer, and model, with what they were.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer as it was.
        trimmed ([`~transformers.PreTrainedTokenizerFast`]): What [`trim_tokenizer`] made of it.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)`): The kept tokens.
        texts (`Sequence[str]`): Held-out sentences; the first 10,000 are used.
        models (`tuple[PreTrainedModel, PreTrainedModel]`, *optional*): Before and after trimming; not changed.
        counts (`torch.Tensor` of shape `(len(tokenizer),)`, *optional*): What the tokens were chosen by, to draw a curve.
        keep (`Sequence[str]`, *optional*, defaults to `()`): The tokens that were to be kept in any case.

    Raises:
        ValueError: If the held-out text is not made of what was kept, as when it is in another script.
        RuntimeError: If something that trimming promises is not so.
    """
    check_coverage(tokenizer, trimmed, keep_ids, texts, counts, keep)
    new_id = {old: new for new, old in enumerate(keep_ids.tolist())}
    text = ComparedText(tokenizer, trimmed, new_id, list(texts[:MOST_SENTENCES]))
    comparison = text.compare(models)
    unreachable = comparison.unreachable_tokens
    if unreachable and set(unreachable) - set(unreachable_tokens(tokenizer)):
        raise RuntimeError(f"vocabulary trimming broke its promise: {unreachable[0]!r} is unreachable; please report this")
    kept = [row for row, is_kept in zip(text.new, text.is_kept, strict=True) if is_kept and row]
    return VocabularyCertificate(
        **vars(comparison),
        reloaded_agrees=_reloaded_agrees(trimmed, text.texts),
        max_logit_difference=_largest_difference(models, keep_ids, kept) if models and kept else None,
        curve=() if counts is None else measure_curve(tokenizer, counts, len(keep_ids), text.texts, keep),
    )


def write_certificate(certificate: VocabularyCertificate, directory: Path) -> None:
    """Write the certificate (`vocabulary_certificate.json`) into a directory."""
    content = json.dumps(certificate.to_mapping(), indent=2, ensure_ascii=False) + "\n"
    (directory / CERTIFICATE_FILE).write_text(content, encoding="utf-8")


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
def _largest_difference(models: tuple[PreTrainedModel, PreTrainedModel], keep_ids: torch.Tensor, rows: list[list[int]]) -> float:
    """The largest difference of outputs for a few sentences of kept tokens, which `rows` holds by their new ids.

    Outputs are the logits of the kept tokens; of models without a head the last hidden states.
    """
    before, after = models
    difference = 0.0
    for row in rows[:MOST_COMPARED]:
        ids = torch.tensor([row[:LONGEST_COMPARED]])
        expected = before(keep_ids[ids])[0]
        if before.get_output_embeddings() is not None:
            expected = expected[..., keep_ids]
        difference = max(difference, (after(ids)[0] - expected).abs().max().item())
    return difference
