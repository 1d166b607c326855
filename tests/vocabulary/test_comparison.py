"""`hf-lrcompress compare`: right about a vocabulary that is sound, and about ones that are not."""

import json
import re

import pytest
import torch
from conftest import tiny_model
from made_up_texts import TEXTS, TRAIN
from tokenizers import Tokenizer
from trained_tokenizers import bert, modernbert
from transformers import PreTrainedTokenizerFast

from hf_lrcompress import count_tokens, select_tokens, trim_vocab
from hf_lrcompress.__main__ import main

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, what trimming makes of it, and what it must not make; the text; a model of another family."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = modernbert()
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos")}
    model = tiny_model("roberta", vocab_size=len(tokenizer), max_position_embeddings=80, pad_token_id=0, **special)
    trimmed = trim_vocab(model, tokenizer, select_tokens(tokenizer, count_tokens(tokenizer, TRAIN), 900))
    wrong_row = trim_vocab(model, tokenizer, trimmed.keep_ids).model
    wrong_row.get_input_embeddings().weight.data[[7, 9]] += 1
    kept = {"base": (model, tokenizer), "trimmed": (trimmed.model, trimmed.tokenizer), "row": (wrong_row, trimmed.tokenizer)}
    kept["wide"] = (tiny_model("roberta", vocab_size=900, hidden_size=36, pad_token_id=0, **special), trimmed.tokenizer)
    kept["other"] = (tiny_model("bert", vocab_size=len(bert())), bert())
    for name, parts in kept.items():
        for part in parts:
            part.save_pretrained(folder / name)
    for name, change in {"merges": without_a_merge, "foreign": with_a_token}.items():
        state = json.loads(trimmed.tokenizer.backend_tokenizer.to_str())
        changed = Tokenizer.from_str(json.dumps(change(state)))
        PreTrainedTokenizerFast(tokenizer_object=changed, unk_token="<unk>").save_pretrained(folder / name)
    (folder / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    return folder


def without_a_merge(state):
    """What a tool leaves that keeps tokens without all that they are made of."""
    del state["model"]["merges"][5]
    return state


def with_a_token(state):
    vocab = state["model"]["vocab"]
    vocab["☃☃"] = max([*vocab.values(), *(token["id"] for token in state["added_tokens"])]) + 1
    return state


def compare(folder, capsys, base, trimmed, text="text.txt"):
    code = main(["compare", str(folder / base), str(folder / trimmed), "--text", str(folder / text), "--quiet"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("trimmed", "code", "said"),
    [
        ("base", 0, "of 1,502 kept tokens 0 have another row"),
        ("trimmed", 0, "of 900 kept tokens 0 have another row"),
        ("row", 0, "of 900 kept tokens 2 have another row"),
        ("wide", 0, "Embeddings: not compared"),
        ("merges", 1, "  before: "),
        ("merges", 1, " tokens no text is made, such as "),
        ("foreign", 0, "1 tokens were not there before"),
    ],
)
def test_what_is_sound_and_what_is_not(folder, capsys, trimmed, code, said):
    found, out, errors = compare(folder, capsys, "base", trimmed)
    assert (found, errors) == (code, "") and said in out


def test_the_figures_are_those_of_the_definition(folder, capsys):
    """Reference: sentence by sentence, from the tokens as text."""
    base, broken = (PreTrainedTokenizerFast.from_pretrained(folder / name) for name in ("base", "merges"))
    vocab = broken.get_vocab().keys()
    rows = [(base.tokenize(text), broken.tokenize(text)) for text in TEXTS]
    kept = [(old, new) for old, new in rows if vocab >= set(old)]
    changed = [text for text, (old, new) in zip(TEXTS, rows, strict=True) if vocab >= set(old) and old != new]
    _, out, _ = compare(folder, capsys, "base", "merges")
    assert f"{len(kept):,} are made of kept tokens; of these {len(changed):,} are tokenised otherwise." in out
    assert f"{100 * sum(old == new for old, new in rows) / len(rows):.1f} % are tokenised exactly as before" in out
    tokens = torch.tensor([token in vocab for old, _ in rows for token in old]).double()
    assert f"{100 * tokens.mean():.1f} % of the text's tokens are kept." in out
    assert re.findall("^- (.*)$", out, re.MULTILINE) == [" ".join(text.split()) for text in changed[:5]]


@pytest.mark.parametrize(
    ("base", "trimmed", "text", "message"),
    [
        ("nothing", "trimmed", "text.txt", "nothing"),
        ("base", "nothing", "text.txt", "nothing"),
        ("base", "other", "text.txt", "are of the tokenizer that it should be trimmed from"),
        ("base", "trimmed", "none.txt", "none.txt does not exist"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, base, trimmed, text, message):
    code, out, errors = compare(folder, capsys, base, trimmed, text)
    assert (code, out) == (2, "") and errors.startswith("error: ") and message in errors and errors.count("\n") == 1
