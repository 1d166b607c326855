"""Masking tokens for masked-LM training."""

import zlib
from typing import Any

import numpy as np
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

MASKED = 0.8
"""Share of the chosen tokens that become the mask token (BERT, Devlin et al. 2019)."""
REPLACED = 0.1
"""Share of them that become a random token; the rest stays as it is."""


NO_INPUTS = ("label", "labels", "label_ids", "special_tokens_mask", "length")
"""Columns of a data set that are not for the model: what is predicted is made here."""


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
        self._special_ids = torch.tensor(tokenizer.all_special_ids)

    def torch_call(self, examples: list[Any]) -> dict[str, torch.Tensor]:
        """A padded batch of masked examples, each a mapping with `input_ids`."""
        padding = {"input_ids": self.tokenizer.pad_token_id}
        batch = {
            key: pad_sequence([torch.as_tensor(row[key], dtype=torch.int64) for row in examples], True, padding.get(key, 0))
            for key in examples[0]
            if key not in NO_INPUTS
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in examples])
        places = torch.arange(batch["input_ids"].shape[1])
        batch.setdefault("attention_mask", (places < lengths[:, None]).long())
        batch["input_ids"], batch["labels"] = self._masked(batch["input_ids"], lengths)
        return batch

    def _masked(self, ids: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Masked tokens, and labels, -100 where nothing is asked: each of shape `(batch, sequence)`."""
        seed = self.mask_seed + self.epoch * 1_000_003
        keys = [zlib.crc32(row[:length].numpy().tobytes(), seed) for row, length in zip(ids, lengths, strict=True)]
        whether, how, which = torch.from_numpy(uniform_draws(np.array(keys, dtype=np.uint64), ids.shape[1], draws=3))
        special = torch.isin(ids, self._special_ids)
        is_text = (torch.arange(ids.shape[1]) < lengths[:, None]) & ~special
        chosen = (whether < self.mlm_probability) & is_text
        other = (which * len(self.tokenizer)).long()
        masked = torch.where(chosen & (how < MASKED), self.tokenizer.mask_token_id, ids)
        masked = torch.where(chosen & (how >= MASKED) & (how < MASKED + REPLACED), other, masked)
        return masked, torch.where(chosen, ids, -100)


def uniform_draws(keys: np.ndarray, length: int, draws: int) -> np.ndarray:
    """Numbers from [0, 1) that depend on a row's key, the place in it and the draw alone: SplitMix64 (Steele et al. 2014).

    Args:
        keys (`np.ndarray` of `uint64` of shape `(rows,)`): A seed a row.
        length (`int`): Places of a row.
        draws (`int`): Numbers a place.

    Returns:
        `np.ndarray` of `float64` of shape `(draws, rows, length)`.
    """
    steps = np.arange(1, draws * length + 1, dtype=np.uint64).reshape(length, draws).T[:, None, :]
    state = (keys[None, :, None] << np.uint64(32)) + steps * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


class MaskAnew(TrainerCallback):
    """Masks other tokens in every epoch.

    Args:
        collator ([`ReproducibleMasking`]): The collator of the training.
        args ([`~transformers.TrainingArguments`]): Of the training.

    Raises:
        ValueError: If the loader's workers outlive an epoch: each has a collator of its own.
    """

    def __init__(self, collator: ReproducibleMasking, args: TrainingArguments) -> None:
        if args.dataloader_persistent_workers:
            raise ValueError("dataloader_persistent_workers would mask every epoch alike; leave it out")
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
