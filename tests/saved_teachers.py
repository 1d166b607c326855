"""Tiny teachers as directories."""

from pathlib import Path

from conftest import tiny_model
from trained_tokenizers import xlm_roberta


def save_teacher(folder: Path) -> None:
    """A masked LM of XLM-R's family with its tokenizer."""
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
