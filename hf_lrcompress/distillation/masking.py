"""Masking tokens for masked-LM training."""

import zlib
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_lrcompress.distillation.config import DistillationConfig


class ReproducibleMasking(DataCollatorForLanguageModeling):
    """Mask tokens (80 % by the mask token, 10 % by a random one, 10 % left) as a function of seed, epoch and example alone.

    However examples are batched they are masked alike, and a run that is resumed masks as the uninterrupted one would have: the
    usual collator draws from the global random state, which a checkpoint stores after the data loader has read ahead.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): With a mask token; sequences are padded at the end.
        mlm_probability (`float`): Share of tokens to mask.
        seed (`int`): Seeds the choice.

    Attributes:
        epoch (`int`): Set it as training goes on, or every epoch masks the same tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, mlm_probability: float, seed: int) -> None:
        super().__init__(tokenizer, mlm_probability=mlm_probability)
        self.mask_seed = seed
        self.epoch = 0

    def torch_call(self, examples: list[Any]) -> dict[str, torch.Tensor]:
        """A padded batch of masked examples, each a mapping with `input_ids`."""
        masked = [self._masked(example) for example in examples]
        padding = {"input_ids": self.tokenizer.pad_token_id, "labels": -100}
        return {
            key: pad_sequence([row[key][0] for row in masked], batch_first=True, padding_value=padding.get(key, 0))
            for key in masked[0]
        }

    def _masked(self, example: dict[str, Any]) -> dict[str, torch.Tensor]:
        ids = torch.as_tensor(example["input_ids"], dtype=torch.int64)
        state = zlib.crc32(ids.numpy().tobytes(), self.mask_seed + self.epoch * 1_000_003)
        self.generator = torch.Generator().manual_seed(state)
        return super().torch_call([example])


class MaskAnew(TrainerCallback):
    """Masks other tokens in every epoch.

    Args:
        collator ([`ReproducibleMasking`]): The collator of the training.
    """

    def __init__(self, collator: ReproducibleMasking) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tell the collator which epoch begins."""
        self.collator.epoch = int((state.epoch or 0) + 1e-6)


def default_collator(args: DistillationConfig, tokenizer: PreTrainedTokenizerBase | None) -> Any:
    """Pads, and masks where a loss needs masked tokens.

    Args:
        args ([`DistillationConfig`]): The losses, the share of tokens to mask and the seed.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The tokenizer of the text.

    Raises:
        ValueError: If there is no tokenizer.
    """
    if tokenizer is None:
        raise ValueError("give a data_collator that masks tokens, or the tokenizer as processing_class")
    if args.needs_masked_tokens:
        return ReproducibleMasking(tokenizer, args.mlm_probability, args.seed)
    return DataCollatorWithPadding(tokenizer)
