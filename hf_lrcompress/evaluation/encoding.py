"""A task's examples as tokens of a model, made once for all seeds."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from hf_lrcompress.evaluation.adapters import check_task_classes
from hf_lrcompress.evaluation.examples import Example, TaskData, check_cut_off
from hf_lrcompress.evaluation.metrics import score
from hf_lrcompress.messages import named
from hf_lrcompress.models.architectures import architecture_of, most_tokens
from hf_lrcompress.models.loading import load_config
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.vocabulary.ids import check_rows

logger = logging.getLogger(__name__)

IGNORED = -100
"""The label of a token that has none, as torch's cross-entropy has it."""


class _Row(NamedTuple):
    """An example, what a model is given of it, and for tagging where every word's first token is."""

    example: Example
    feature: dict[str, Any]
    first_tokens: list[int | None]


@dataclass(frozen=True)
class EncodedSplit:
    """Examples as tokens, the longest first: batches of one length need no padding, and the first batch needs most memory.

    Args:
        examples (`tuple[Example, ...]`): In the order of `features`.
        features (`tuple[dict, ...]`): `input_ids`, `attention_mask` and `labels` of every example.
        first_tokens (`tuple[list[int | None], ...]`): For tagging, where every word's first token is; `None` if it was cut off.
    """

    examples: tuple[Example, ...]
    features: tuple[dict[str, Any], ...]
    first_tokens: tuple[list[int | None], ...]

    @property
    def words(self) -> int:
        """How many words there are, for tagging."""
        return sum(map(len, self.first_tokens))

    @property
    def words_cut_off(self) -> int:
        """How many words have no token, so that they are not predicted.

        They lie beyond the maximum length, or the tokenizer makes nothing of them, as of a lone soft hyphen.
        """
        return sum(tokens.count(None) for tokens in self.first_tokens)

    def decode(self, predicted: Sequence, labels: list[str], default: str) -> list[str | list[str]]:
        """The label of every text, or of every word: that of its first token.

        Args:
            predicted (`Sequence`): Label ids, one an example or one a token.
            labels (`list[str]`): Their names.
            default (`str`): The tag of words beyond the maximum length.

        Returns:
            `list[str | list[str]]`: Names, in the order of `examples`.
        """
        if not self.first_tokens:
            return [labels[index] for index in predicted]
        decoded: list[str | list[str]] = []
        for ids, tokens in zip(predicted, self.first_tokens, strict=True):
            decoded.append([default if token is None else labels[ids[token]] for token in tokens])
        return decoded


def encode(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, labels: list[str], max_length: int, label_all_tokens: bool
) -> EncodedSplit:
    """Tokenise a split.

    Args:
        examples (`Sequence[Example]`): Examples of one task.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The model's.
        labels (`list[str]`): Names of the label ids.
        max_length (`int`): Number of tokens at which a text is cut off.
        label_all_tokens (`bool`): Whether every token of a word learns its tag, or only the first.

    Returns:
        [`EncodedSplit`]: The examples, the longest first.
    """
    encoder = _Encoder(tokenizer, {label: index for index, label in enumerate(labels)}, max_length, label_all_tokens)
    rows = [encoder.text(example) if isinstance(example.inputs, str) else encoder.words(example) for example in examples]
    rows.sort(key=lambda row: -len(row.feature["input_ids"]))
    tagged = not isinstance(examples[0].inputs, str)
    features = tuple(row.feature for row in rows)
    first_tokens = tuple(row.first_tokens for row in rows)
    return EncodedSplit(tuple(row.example for row in rows), features, first_tokens if tagged else ())


@dataclass(frozen=True)
class _Encoder:
    tokenizer: PreTrainedTokenizerFast
    ids: Mapping[str, int]
    max_length: int
    label_all_tokens: bool

    def text(self, example: Example) -> _Row:
        """A text with its label."""
        encoded = self.tokenizer(example.inputs, truncation=True, max_length=self.max_length)
        (label,) = example.tags
        feature = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": self.ids[label]}
        return _Row(example, feature, [])

    def words(self, example: Example) -> _Row:
        """Words with their tags: a word's first token has its tag, the others too or none.

        They are read as running text, with a space between them. As a list, byte-level BPE would lose where words begin.
        """
        encoded = self.tokenizer(" ".join(example.inputs), truncation=True, max_length=self.max_length)
        words = _words_of_characters(example.inputs)
        first: list[int | None] = [None] * len(example.inputs)
        labels = []
        for position, (start, end) in enumerate(encoded.encodings[0].offsets):
            label = IGNORED
            for word in dict.fromkeys(words[start:end]):
                begins = first[word] is None
                if begins:
                    first[word] = position
                if label == IGNORED and (begins or self.label_all_tokens):
                    label = self.ids[example.tags[word]]
            labels.append(label)
        feature = {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}
        return _Row(example, feature, first)


def _words_of_characters(words: Sequence[str]) -> list[int]:
    """Of every character of the words with a space between them the word's index; a space belongs to the word behind it."""
    indices = [index for index, word in enumerate(words) for _ in range(len(word) + 1)]
    return indices[1:]


@dataclass(frozen=True)
class ModelUnderTest:
    """A model to score.

    Args:
        name (`str`): What tables call it.
        path (`str`): Directory or Hub id.
        revision (`str`, *optional*): Git revision on the Hub.
    """

    name: str
    path: str
    revision: str | None = None

    def load_tokenizer(self) -> PreTrainedTokenizerFast:
        """Load its fast tokenizer.

        Raises:
            ValueError: If it has none or more tokens than the model has embeddings, or the model is of an unsupported type.
            OSError: If there is no such model.
        """
        config = load_config(self.path, self.revision)
        architecture_of(config)
        check_task_classes(config)
        tokenizer = load_tokenizer(self.path, self.revision)
        check_rows(tokenizer, config.vocab_size)
        return tokenizer


@dataclass(frozen=True)
class EncodedTask:
    """A task's data as tokens of one model: made once, used with every seed.

    Args:
        data ([`TaskData`]): The data.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The model's.
        max_length (`int`): Number of tokens at which texts are cut off.
        splits (`dict[str, EncodedSplit]`): `train`, `validation` and `test`.
    """

    data: TaskData
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    splits: dict[str, EncodedSplit] = field(repr=False)

    @classmethod
    def encode(cls, data: TaskData, model: ModelUnderTest, label_all_tokens: bool) -> "EncodedTask":
        """Tokenise all splits, no longer than the task and the model allow.

        Args:
            data ([`TaskData`]): The data.
            model ([`ModelUnderTest`]): The model whose tokens are made.
            label_all_tokens (`bool`): Whether every token of a word learns its tag, or only the first.

        Raises:
            ValueError: If most words of a split are cut off.
        """
        tokenizer = model.load_tokenizer()
        config = load_config(model.path, model.revision)
        max_length = min(data.task.max_length, most_tokens(config))
        examples = {"train": data.train, "validation": data.validation, "test": data.test}
        splits = {name: encode(x, tokenizer, data.labels, max_length, label_all_tokens) for name, x in examples.items()}
        with named(model.name):
            for name, split in splits.items():
                check_cut_off(data.task, name, split.words_cut_off, split.words, max_length)
        return cls(data, tokenizer, max_length, splits)

    def say_what_is_cut_off(self, model_name: str) -> None:
        """Warn of words that are not predicted."""
        said = "%s, %s: %d of %d words in the %s split have no token among the first %d and count as %r"
        default = self.data.most_frequent_label
        for name, split in self.splits.items():
            cut_off = split.words_cut_off
            if cut_off:
                logger.warning(said, model_name, self.data.task.name, cut_off, split.words, name, self.max_length, default)

    def scores(self, split: str, predicted: Any) -> tuple[dict[str, float], list[str | list[str]]]:
        """Score predictions.

        Args:
            split (`str`): `"validation"` or `"test"`.
            predicted (`Sequence`): Label ids in the order of the split's features, one an example or one a token.

        Returns:
            `tuple[dict[str, float], list]`: The scores, and the decoded predictions.
        """
        encoded = self.splits[split]
        decoded = encoded.decode(predicted, self.data.labels, self.data.most_frequent_label)
        gold = [example.labels for example in encoded.examples]
        return score(self.data.task.metric, decoded, gold), decoded
