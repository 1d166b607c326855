"""A tiny model with a real tokenizer, saved under two names, and small tasks beside it."""

import json
from pathlib import Path

from conftest import tiny_model
from made_up_texts import make_texts
from trained_tokenizers import xlm_roberta

SPLITS = {"train": 48, "dev": 10, "test": 13}


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_tasks(folder: Path) -> None:
    """Topics that follow from a word; entities that are the long words."""
    for seed, (split, count) in enumerate(SPLITS.items()):
        texts = make_texts(count, seed + 10)
        write_lines(folder / "tc" / f"{split}.jsonl", [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(texts)])
        rows = [{"tokens": t.split(), "tags": ["B-X" if len(w) > 5 else "O" for w in t.split()]} for t in texts]
        write_lines(folder / "ner" / f"{split}.jsonl", rows)


def save_models_and_tasks(folder: Path) -> Path:
    """The folder, with the models `large` and `small` (which are the same) and the tasks `tc` and `ner`."""
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    for name in ("large", "small"):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    make_tasks(folder)
    return folder
