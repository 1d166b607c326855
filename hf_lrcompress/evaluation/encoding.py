"""A task's examples as tokens of a model, made once for all seeds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from hf_lrcompress.evaluation.adapters import check_task_classes
from hf_lrcompress.evaluation.metrics import score
from hf_lrcompress.evaluation.task_data import Example, TaskData
from hf_lrcompress.models.architectures import architecture_of
from hf_lrcompress.models.loading import load_config

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


@dataclass(frozen=True)
class ModelUnderTest:
    """A model to score.

    Args:
        name (`str`): As tables name it.
        path (`str`): Directory or Hub id.
        revision (`str`, *optional*): Git revision on the Hub.
    """

    name: str
    path: str
    revision: str | None = None

    def load_tokenizer(self) -> PreTrainedTokenizerFast:
        """Its fast tokenizer.

        Raises:
            ValueError: If it has none, or the model is of an unsupported type.
            OSError: If there is no such model.
        """
        config = load_config(self.path, self.revision)
        architecture_of(config)
        check_task_classes(config)
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, revision=self.revision)
        except (
            OSError,
            ValueError,
            TypeError,
            AttributeError,
            ImportError,
        ) as error:
            raise ValueError(f"{self.path} has no tokenizer; save one beside the model") from error
        if not tokenizer.is_fast:
            raise ValueError(f"{self.path} has only a slow tokenizer; save it with a tokenizer.json first")
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise ValueError(f"{self.path} has no tokenizer; save one beside the model")
        return tokenizer


@dataclass(frozen=True)
class EncodedTask:
    """A task's data as tokens of one model: made once, used with every seed."""

    data: TaskData
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    splits: dict[str, EncodedSplit] = field(repr=False)

    @classmethod
    def encode(cls, data: TaskData, model: ModelUnderTest, label_all_tokens: bool) -> "EncodedTask":
        """Tokenise all splits, no longer than the task and the model allow."""
        tokenizer = model.load_tokenizer()
        config = AutoConfig.from_pretrained(model.path, revision=model.revision)
        max_length = min(data.task.max_length, config.max_position_embeddings - architecture_of(config).position_offset)
        splits = {
            name: encode(getattr(data, name), tokenizer, data.labels, max_length, label_all_tokens)
            for name in ("train", "validation", "test")
        }
        return cls(data, tokenizer, max_length, splits)

    @property
    def default(self) -> str:
        """The most frequent label of `train`."""
        labels = (label for x in self.data.train for label in (x.labels if self.data.task.tokens else [x.labels]))
        return Counter(labels).most_common(1)[0][0]

    def scores(self, split: str, predicted: Any) -> tuple[dict[str, float], list]:
        """Scores, and the decoded predictions, of label ids in the order of the split's features."""
        encoded = self.splits[split]
        decoded = encoded.decode(predicted, self.data.labels, self.default)
        return score(self.data.task.metric, decoded, [example.labels for example in encoded.examples]), decoded
