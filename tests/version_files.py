"""Models of every family after all surgeries, with their tokenizers, written and read; as a program, by another transformers.

python version_files.py write|read DIRECTORY
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from conftest import COUNTS_FROM_PADDING, MODEL_TYPES, SHARED_LAYERS, SPECIAL_NAMES, tiny_model
from made_up_texts import TEXTS
from safetensors.torch import save_file
from tiny_surgeries import COPYING, SURGERIES
from trained_tokenizers import bert, modernbert, xlm_roberta
from transformers import AutoModelForMaskedLM, AutoTokenizer

from hf_lrcompress import count_tokens, select_tokens, trim_vocab
from hf_lrcompress.models.saving import save_tokenizer

FAMILIES = [name for name in MODEL_TYPES if name != "eurobert"]  # which transformers 4 does not have
VOCAB_SIZE = 500


def write(directory: Path) -> None:
    """A folder a family: its model, its tokenizer, and what both compute."""
    tokenizers = {make: make() for make in (bert, xlm_roberta, modernbert)}  # WordPiece, Unigram, BPE
    for family in FAMILIES:
        make = modernbert if "modernbert" in family else xlm_roberta if family in COUNTS_FROM_PADDING else bert
        model, tokenizer = _compressed(family, tokenizers[make])
        model.save_pretrained(directory / family), save_tokenizer(tokenizer, directory / family)
        _save_outputs(model, tokenizer, directory / family, "written")


def read(directory: Path) -> None:
    """Beside each model what it and its tokenizer compute once loaded, and the keys that were not the model's."""
    for family in FAMILIES:
        model, info = AutoModelForMaskedLM.from_pretrained(directory / family, output_loading_info=True)
        _save_outputs(model, AutoTokenizer.from_pretrained(directory / family), directory / family, "read")
        strange = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
        loaded = {"transformers": transformers.__version__, "class": type(model).__name__, "strange": strange}
        (directory / family / "loaded.json").write_text(json.dumps(loaded))


def _compressed(family: str, tokenizer):
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_NAMES}
    model = tiny_model(family, vocab_size=len(tokenizer), max_position_embeddings=130, **special)
    for name in COPYING:
        if name != "reduce_layers" or family not in SHARED_LAYERS:
            model = SURGERIES[name](model)
    trimmed = trim_vocab(model, tokenizer, select_tokens(tokenizer, count_tokens(tokenizer, TEXTS), VOCAB_SIZE))
    return trimmed.model, trimmed.tokenizer


def _save_outputs(model, tokenizer, directory: Path, name: str) -> None:
    inputs = tokenizer(TEXTS[:8], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**inputs).logits[inputs["attention_mask"].bool()]
    save_file({"input_ids": inputs["input_ids"], "logits": logits}, directory / f"{name}.safetensors")


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
