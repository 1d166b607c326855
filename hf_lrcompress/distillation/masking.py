"""Masking tokens for masked-LM training."""

import zlib

import torch
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase


class ReproducibleMasking(DataCollatorForLanguageModeling):
    """Mask tokens (80 % by the mask token, 10 % by a random one, 10 % left) as a function of seed and batch alone.

    A run that is resumed masks as the uninterrupted one would have: the usual collator draws from the global random state, which
    a checkpoint stores after the data loader has read ahead. Every evaluation masks the same tokens.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): With a mask token.
        mlm_probability (`float`): Share of tokens to mask.
        seed (`int`): Of the choice.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, mlm_probability: float, seed: int):
        super().__init__(tokenizer, mlm_probability=mlm_probability)
        self.mask_seed = seed

    def torch_call(self, examples):
        state = self.mask_seed
        for example in examples:
            state = zlib.crc32(torch.as_tensor(example["input_ids"], dtype=torch.int64).numpy().tobytes(), state)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state)
            return super().torch_call(examples)
