"""What a run starts from: language, teacher and texts, each read or counted once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.calibration.second_moments import collect_moments
from hf_lrcompress.models.architectures import intermediate_size_of
from hf_lrcompress.models.identity import model_identity
from hf_lrcompress.models.loading import load_config, load_encoder, load_masked_lm
from hf_lrcompress.models.rebuilding import encoder_on_meta, masked_lm_on_meta
from hf_lrcompress.models.sentence_modules import SentenceModules, mean_pooling, read_modules
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.surgery.moments import Moments
from hf_lrcompress.texts.corpus import Corpus, CorpusSource, corpus_fingerprint, load_corpus
from hf_lrcompress.texts.corpus_counts import cached_counts
from hf_lrcompress.texts.languages import Language
from hf_lrcompress.texts.tokenizing import tokenize_corpus, tokenize_documents

CALIBRATION_BATCH_SIZE = 16
SMALL_TEXT = 5_000_000
"""Bytes of training text below which its blocks are counted before a run."""

EXAMPLES = ("blocks", "documents")
OBJECTIVES = ("masked_lm", "representation")


@contextmanager
def on_device(model: PreTrainedModel) -> Iterator[None]:
    """Have a model on the device of the run for a while; surgery is done on the CPU. Apple's GPU has no fp64, which is needed."""
    device = PartialState().device
    model.to("cpu" if device.type == "mps" else device)  # type: ignore[arg-type]  # transformers wraps `to` without its types
    try:
        yield
    finally:
        model.to("cpu")  # type: ignore[arg-type]


@dataclass(frozen=True)
class ModelSource:
    """Where a model is.

    Args:
        path (`str`): Directory or Hub id.
        revision (`str`, *optional*): Git revision on the Hub.
    """

    path: str
    revision: str | None = None


@dataclass(frozen=True)
class RunInputs:
    """What a run starts from, with files in the place of the demo: each is read or counted once.

    Args:
        language ([`Language`]): The target language.
        teacher ([`ModelSource`]): The multilingual teacher.
        train ([`CorpusSource`]): The text to train on.
        validation ([`CorpusSource`]): The text to measure on.
        training (`Mapping`): Training arguments of all stages; a stage's own go first.
        objective (`str`, *optional*, defaults to `"masked_lm"`): What models are for, see [`~configuration.RunConfig`].
        examples (`str`, *optional*, defaults to `"blocks"`): What a training example is, see [`~configuration.RunConfig`].
        block_size (`int`, *optional*, defaults to 512): Most tokens of a training example.
        seed (`int`, *optional*, defaults to 42): Seeds everything that is random.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether the teacher's own code may be run.
        new_head (`bool`, *optional*, defaults to `False`): Whether the teacher is given an untrained masked-LM head.
    """

    language: Language
    teacher: ModelSource
    train: CorpusSource
    validation: CorpusSource
    training: Mapping[str, Any]
    objective: str = "masked_lm"
    examples: str = "blocks"
    block_size: int = 512
    seed: int = 42
    trust_remote_code: bool = False
    new_head: bool = False
    _counts: dict[CorpusSource, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def teacher_config(self) -> PretrainedConfig:
        """The teacher's config."""
        return load_config(self.teacher.path, self.teacher.revision, self.trust_remote_code)

    @cached_property
    def teacher_identity(self) -> str:
        """Which teacher it is, see [`model_identity`]."""
        return model_identity(self.teacher.path, self.teacher.revision)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The teacher's tokenizer."""
        return load_tokenizer(self.teacher.path, self.teacher.revision)

    @cached_property
    def sentence_modules(self) -> SentenceModules | None:
        """What sentence-transformers has beside the teacher, or mean pooling; `None` where the run is for masked LM."""
        if self.objective == "masked_lm":
            return None
        modules = read_modules(self.teacher.path, self.teacher.revision)
        return modules or mean_pooling(self.teacher_config.hidden_size)

    @property
    def sentence_pooling(self) -> str:
        """How users of the teacher make a sentence's vector of its tokens': `"mean"` or `"cls"`."""
        return self.sentence_modules.pooling if self.sentence_modules else "mean"

    @cached_property
    def text_hashes(self) -> dict[str, str]:
        """What the texts consist of, see [`corpus_fingerprint`]: of `train` and of `validation`."""
        return {"train": corpus_fingerprint(self.train), "validation": corpus_fingerprint(self.validation)}

    @cached_property
    def validation_texts(self) -> Sequence[str]:
        """The documents of the validation text."""
        with PartialState().main_process_first():
            return load_corpus(self.validation)["text"]

    def token_counts(self, source: CorpusSource) -> torch.Tensor:
        """How often each of the teacher's tokens occurs in a text: shape `(len(tokenizer),)`."""
        if source not in self._counts:
            self._counts[source] = cached_counts(source, self.tokenizer)
        return self._counts[source]

    def blocks(self, source: CorpusSource, tokenizer: PreTrainedTokenizerFast) -> Corpus:
        """A text as full blocks of tokens."""
        with PartialState().main_process_first():
            return tokenize_corpus(load_corpus(source), tokenizer, self.block_size)

    def training_examples(self, source: CorpusSource, tokenizer: PreTrainedTokenizerFast) -> Corpus:
        """A text as what a model is trained on: blocks, or documents."""
        if self.examples == "blocks":
            return self.blocks(source, tokenizer)
        with PartialState().main_process_first():
            return tokenize_documents(load_corpus(source), tokenizer, self.block_size)

    def calibration_batches(self, tokenizer: PreTrainedTokenizerFast, blocks: int) -> Iterator[dict[str, torch.Tensor]]:
        """Blocks of the training text, chosen by the seed, as a model takes them: the same ones in every process."""
        corpus = self.blocks(self.train, tokenizer)
        rows = islice(corpus if self.train.streaming else corpus.shuffle(seed=self.seed), blocks)
        while batch := list(islice(rows, CALIBRATION_BATCH_SIZE)):
            yield {name: torch.tensor([row[name] for row in batch], dtype=torch.long) for name in batch[0]}

    def check_calibration(self, blocks: int) -> None:
        """Refuse fewer tokens than the widest input has dimensions: their second moments would have no inverse.

        Files up to 5 MB are tokenised for it; in larger ones there is enough.

        Raises:
            ValueError: If there are fewer.
        """
        needed = max(self.teacher_config.hidden_size, intermediate_size_of(self.teacher_config))
        size = sum(Path(file).stat().st_size for file in self.train.files)
        if 0 < size < SMALL_TEXT and not self.train.streaming:
            blocks = min(blocks, len(self.blocks(self.train, self.tokenizer)))
        if blocks * self.block_size < needed:
            raise ValueError(
                f"calibration has {blocks * self.block_size} tokens, but needs as many as dimensions, {needed}; "
                "give more text or more calibration_blocks"
            )

    def moments(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, blocks: int) -> Moments:
        """Second moments of a model on blocks of the training text, measured on the run's device; the result is on the CPU."""
        with on_device(model):
            measured = collect_moments(model, self.calibration_batches(tokenizer, blocks))
        return Moments({path: moment.cpu() for path, moment in measured.sums.items()})

    def load_model(self, source: ModelSource) -> PreTrainedModel:
        """A model of the run in fp32: with its masked-LM head, or where the objective needs none without one."""
        if self.objective != "masked_lm":
            return load_encoder(source.path, source.revision)
        seed = self.seed if self.new_head and source == self.teacher else None
        return load_masked_lm(source.path, source.revision, seed)

    def on_meta(self, config: PretrainedConfig) -> PreTrainedModel:
        """The class that [`RunInputs.load_model`] would load, without memory for its weights."""
        return masked_lm_on_meta(config) if self.objective == "masked_lm" else encoder_on_meta(config)
