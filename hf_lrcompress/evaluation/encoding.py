"""A task's examples as tokens of a model, made once for all seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from hf_lrcompress.evaluation.task_data import Example

IGNORED = -100
"""The label of a token that has none, as torch's cross-entropy has it."""


@dataclass(frozen=True)
class EncodedSplit:
    """Examples as tokens, the longest first: batches of one length need no padding, and the first batch needs most memory.

    Args:
        examples (`tuple[Example, ...]`): In the order of `features`.
        features (`tuple[dict, ...]`): `input_ids`, `attention_mask` and `labels` of every example.
        first_tokens (`tuple[list[int | None], ...]`): For tagging, where every word's first token is; `None` if it was cut off.
    """

    examples: tuple[Example, ...]
    features: tuple[dict, ...]
    first_tokens: tuple[list[int | None], ...]

    def decode(self, predicted: Sequence, labels: list[str], default: str) -> list[str | list[str]]:
        """The label of every text, or of every word: that of its first token.

        Args:
            predicted (`Sequence`): Label ids, one an example or one a token.
            labels (`list[str]`): Their names.
            default (`str`): The tag of words beyond the maximum length.
        """
        if not self.first_tokens:
            return [labels[index] for index in predicted]
        return [
            [default if token is None else labels[row[token]] for token in tokens]
            for row, tokens in zip(predicted, self.first_tokens, strict=True)
        ]


def encode(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, labels: list[str], max_length: int, label_all_tokens: bool
) -> EncodedSplit:
    """Tokenise a split.

    Args:
        examples (`Sequence[Example]`): Of one task.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The model's.
        labels (`list[str]`): Names of the label ids.
        max_length (`int`): What is longer is cut off.
        label_all_tokens (`bool`): Whether every token of a word learns its tag, or only the first.
    """
    ids = {label: index for index, label in enumerate(labels)}
    rows = [_encode_one(example, tokenizer, ids, max_length, label_all_tokens) for example in examples]
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index][0]["input_ids"]))
    tagged = not isinstance(examples[0].inputs, str)
    return EncodedSplit(
        tuple(examples[index] for index in order),
        tuple(rows[index][0] for index in order),
        tuple(rows[index][1] for index in order) if tagged else (),
    )


def _encode_one(example: Example, tokenizer, ids: dict[str, int], max_length: int, label_all_tokens: bool) -> tuple[dict, list]:
    tagged = not isinstance(example.inputs, str)
    inputs = list(example.inputs) if tagged else example.inputs
    encoded = tokenizer(inputs, is_split_into_words=tagged, truncation=True, max_length=max_length)
    feature = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}
    if not tagged:
        return feature | {"labels": ids[example.labels]}, []
    first: list[int | None] = [None] * len(inputs)
    tags = []
    for position, word in enumerate(encoded.word_ids()):
        is_first = word is not None and first[word] is None
        if is_first:
            first[word] = position
        learns = is_first or (label_all_tokens and word is not None)
        tags.append(ids[example.labels[word]] if learns else IGNORED)
    return feature | {"labels": tags}, first
