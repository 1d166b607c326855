"""Tokenizers as people have them: SentencePiece alone, ids with gaps, two unknown tokens or none, special tokens of their own."""

import json
import random
import re
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model
from made_up_texts import TEXTS, TRAIN
from tiny_tokenizers import wordpiece
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from trained_tokenizers import SENTENCEPIECE_FOLDERS, bert, modernbert, sentencepiece_folder, template, unigram, xlm_roberta
from transformers import AutoTokenizer, CamembertTokenizerFast, PreTrainedTokenizerFast

from hf_lrcompress import count_tokens, select_tokens, trim_vocab
from hf_lrcompress.models import tokenizers
from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.stages.trim_vocab import TrimVocab
from hf_lrcompress.texts.corpus_counts import load_counts, save_counts
from hf_lrcompress.vocabulary.certificate import certify_vocabulary
from hf_lrcompress.vocabulary.coverage import check_coverage, unknown_rate
from hf_lrcompress.vocabulary.ids import id_count, unknown_id
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer


def fast(model, **names) -> PreTrainedTokenizerFast:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize("model_type", SENTENCEPIECE_FOLDERS)
def test_a_folder_with_a_sentencepiece_model_only_is_trimmed(model_type, tmp_path):
    tokenizer = load_tokenizer(sentencepiece_folder(model_type, tmp_path))
    written = tokenizer.backend_tokenizer.to_str()
    assert Tokenizer.from_str(written).to_str() != written  # some scores differ in their last digit
    counts = count_tokens(tokenizer, TRAIN)
    keep_ids = select_tokens(tokenizer, counts, 300)
    certificate = certify_vocabulary(tokenizer, trim_tokenizer(tokenizer, keep_ids), keep_ids, TEXTS)
    assert certificate.same_kept_sentences == certificate.reloaded_agrees == 1 > certificate.same_sentences > 0


def test_without_the_package_sentencepiece_the_line_names_it(tmp_path, monkeypatch):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"of which nothing is read")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    monkeypatch.setattr(tokenizers, "is_sentencepiece_available", lambda: False)
    with pytest.raises(ValueError, match="SentencePiece model only: pip install sentencepiece protobuf") as error:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value)


def camembert() -> CamembertTokenizerFast:
    """The padding token is second, what is before it is no special token, and special tokens are added."""
    state = unigram(["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>"])
    pieces = state["model"]["vocab"]
    pieces[4:4] = [["<unk>NOTUSED", -100.0], ["<s>", 0.0], ["</s>", 0.0]]
    pieces.append(["<mask>", 0.0])
    state["added_tokens"] = []
    return CamembertTokenizerFast(
        tokenizer_object=template(state, "<s>", "</s>"), additional_special_tokens=["<own>"], model_max_length=70
    )


def test_selection_keeps_what_a_model_that_counts_positions_from_the_padding_token_needs():
    tokenizer = camembert()
    assert 0 not in tokenizer.all_special_ids and tokenizer.pad_token_id == 1
    model = tiny_model("camembert", vocab_size=len(tokenizer), max_position_embeddings=80, pad_token_id=1)
    model.config.bos_token_id, model.config.eos_token_id = 5, 6
    keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, TRAIN), 400)
    trimmed = trim_vocab(model, tokenizer, keep_ids)
    assert trimmed.model.config.pad_token_id == trimmed.tokenizer.pad_token_id == 1
    models_compared = (model.eval(), trimmed.model.eval())
    assert certify_vocabulary(tokenizer, trimmed.tokenizer, keep_ids, TEXTS, models_compared).kept_sentences > 0


def test_the_stage_keeps_the_tokens_that_the_config_names():
    """CamemBERT's class gives its config other ids than its tokenizer has: 2 is </s>NOTUSED, which is not special."""
    tokenizer = camembert()
    config = tiny_model("camembert", vocab_size=len(tokenizer), pad_token_id=1, bos_token_id=0, eos_token_id=2).config
    counts = count_tokens(tokenizer, TRAIN)
    inputs = SimpleNamespace(tokenizer=tokenizer, teacher_config=config, train=None, token_counts=lambda source: counts)
    assert {0, 1, 2} <= set(TrimVocab(vocab_size=400).select(inputs).tolist())
    assert 2 not in select_tokens(tokenizer, counts, 400)


def repeated_line(tmp_path) -> PreTrainedTokenizerFast:
    """`a` is there twice: the first of its rows has no token."""
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "a", "##a", "##b", "ab"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    return load_tokenizer(str(tmp_path))


def token_far_behind(_) -> PreTrainedTokenizerFast:
    state = json.loads(wordpiece().backend_tokenizer.to_str())
    state["model"]["vocab"]["<far>"] = len(state["model"]["vocab"]) + 40
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), unk_token="[UNK]", pad_token="<far>")


@pytest.mark.parametrize("make", [repeated_line, token_far_behind])
def test_a_row_without_a_token_goes(make, tmp_path):
    tokenizer = make(tmp_path)
    texts = ["ab a b abb", "ba ☃", "aab"]
    counts = count_tokens(tokenizer, texts)
    assert id_count(tokenizer) == len(counts) > len(tokenizer)
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert counts.tolist() == torch.bincount(torch.tensor(sum(rows, [])), minlength=len(counts)).tolist()
    ids = sorted(tokenizer.get_vocab().values())
    assert set(select_tokens(tokenizer, counts, min_count=1).tolist()) <= set(ids)
    assert select_tokens(tokenizer, counts, min_count=1, pad_to_multiple_of=len(ids)).tolist() == ids
    save_counts(tmp_path / "counts", counts, tokenizer)
    assert torch.equal(load_counts([tmp_path / "counts"], tokenizer), counts)
    model = tiny_model("bert", vocab_size=len(counts), pad_token_id=tokenizer.pad_token_id)
    trimmed = trim_vocab(model, tokenizer, torch.tensor(ids))
    assert trimmed.model.config.vocab_size == len(trimmed.tokenizer) == id_count(trimmed.tokenizer) == len(tokenizer)
    pair = (model.eval(), trimmed.model.eval())
    certificate = certify_vocabulary(tokenizer, trimmed.tokenizer, trimmed.keep_ids, texts, pair)
    assert certificate.wrong_rows == 0 and certificate.kept_sentences > 0.5
    hole = next(i for i in range(len(counts)) if i not in ids)
    with pytest.raises(ValueError, match=f"holds {hole}, which is no token's; the tokenizer has ids 0 to {ids[-1]}"):
        trim_tokenizer(tokenizer, sorted([*ids, hole]))
    with pytest.raises(ValueError, match=f"model has {len(tokenizer)} rows, but its tokenizer {len(counts)}"):
        trim_vocab(tiny_model("bert", vocab_size=len(tokenizer)), tokenizer, torch.tensor(ids))


def test_two_tokens_of_one_id_are_refused(tmp_path):
    """transformers gives an added token the id of the last one where a line of vocab.txt is there twice."""
    tokenizer = repeated_line(tmp_path)
    tokenizer.add_tokens(["zz"])
    assert tokenizer.get_vocab()["zz"] == tokenizer.get_vocab()["ab"]
    with pytest.raises(ValueError, match="do two tokens share an id") as error:
        trim_tokenizer(tokenizer, sorted(set(tokenizer.get_vocab().values())))
    assert "\n" not in str(error.value)


def test_the_unknown_token_is_the_models_not_the_tokenizers():
    """Without `abc` in its way, `abcd` is `ab ##cd`."""
    vocab = {"[UNK]": 0, "abc": 1, "ab": 2, "##cd": 3, "a": 4}
    tokenizer = fast(models.WordPiece(vocab, unk_token="[UNK]"), unk_token="<unk>")
    assert tokenizer.unk_token_id == 5 and unknown_id(tokenizer) == 0
    keep_ids = torch.tensor([0, 2, 3, 4, 5])
    certificate = certify_vocabulary(tokenizer, trim_tokenizer(tokenizer, keep_ids), keep_ids, ["abcd ab", "ab"])
    assert (certificate.untrimmed_unknown_rate, certificate.unknown_rate) == (1 / 3, 0)
    assert certificate.same_sentences == certificate.kept_sentences == 0.5


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (models.Unigram([("<unk>", 0.0), ("a", -1.0)]), {"unk_token": "<unk>"}),
        (models.Unigram([('"unk_id":1', 0.0), ("a", -1.0)]), {}),
        (models.WordPiece({"a": 0, "##a": 1}, unk_token="[UNK]"), {"unk_token": "[UNK]"}),
        (models.BPE({"a": 0}, [], unk_token="<unk>"), {"unk_token": "<unk>"}),
    ],
)
def test_a_model_that_fails_at_unknown_characters_is_one_line(model, names):
    tokenizer = fast(model, **names)
    calls = [
        lambda: count_tokens(tokenizer, ["a b"]),
        lambda: select_tokens(tokenizer, torch.ones(len(tokenizer)), 2),
        lambda: trim_tokenizer(tokenizer, [0, 1]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="no unknown token in its vocabulary, so it fails at characters") as error:
            call()
        assert "\n" not in str(error.value)


def test_a_model_that_leaves_unknown_characters_out_needs_no_unknown_token():
    tokenizer = fast(models.BPE({"a": 0, "b": 1}, []))
    assert unknown_id(tokenizer) is None and count_tokens(tokenizer, ["a c"]).tolist() == [1, 0]
    assert unknown_rate(tokenizer, [[0, 1]]) == 0


@pytest.mark.parametrize("make", [bert, xlm_roberta, modernbert])
def test_special_tokens_added_at_run_time_stay_special(make, tmp_path):
    tokenizer = make()
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<x>", lstrip=True, special=True), "<y>"]})
    gone = max(set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder))
    trimmed = trim_tokenizer(tokenizer, [i for i in range(len(tokenizer)) if i != gone])
    save_tokenizer(trimmed, tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert not isinstance(saved.get("extra_special_tokens"), list)  # transformers 4 fails at it
    text = "a <x> b<y>"
    for each in (trimmed, AutoTokenizer.from_pretrained(tmp_path)):
        assert each.all_special_tokens == tokenizer.all_special_tokens
        assert each.tokenize(text) == tokenizer.tokenize(text)
        masks = [t.get_special_tokens_mask(t(text)["input_ids"], already_has_special_tokens=True) for t in (tokenizer, each)]
        assert masks[0] == masks[1] and sum(masks[0]) == 4
        assert each.decode(each(text)["input_ids"], skip_special_tokens=True).split() == ["a", "b"]


def korean(sentences: int, seed: int) -> list[str]:
    """Words of two syllables, some of which are rare."""
    rng = random.Random(seed)
    syllables = [chr(0xAC00 + i) for i in range(120)]
    weights = [1 / (1 + i) for i in range(120)]
    return [" ".join("".join(rng.choices(syllables, weights, k=2)) for _ in range(8)) for _ in range(sentences)]


def test_too_small_a_vocabulary_is_told_from_a_wrong_language():
    characters = [chr(0xAC00 + i) for i in range(120)] + list("abcdef")
    tokens = ["[PAD]", "[UNK]", *characters, *(f"##{c}" for c in characters)]
    pairs = sorted({word for text in korean(60, 0) for word in text.split()})
    vocab = {token: i for i, token in enumerate([*tokens, *pairs])}
    tokenizer = fast(models.WordPiece(vocab, unk_token="[UNK]"), unk_token="[UNK]", pad_token="[PAD]")
    counts = count_tokens(tokenizer, korean(60, 0))
    smallest = int(re.search(r"need (\d+)", str(pytest.raises(ValueError, select_tokens, tokenizer, counts, 3).value))[1])

    def check(size, texts):
        keep_ids = select_tokens(tokenizer, counts, size)
        check_coverage(tokenizer, trim_tokenizer(tokenizer, keep_ids), keep_ids, texts, counts)

    with pytest.raises(ValueError, match="give more text to count, or a larger vocab_size: with this text") as error:
        check(smallest, korean(200, 1))
    size = int(re.search(r"with this text (\d+) is enough", str(error.value))[1])
    check(size, korean(200, 1))
    assert size > smallest and "language" not in str(error.value)
    with pytest.raises(ValueError, match=r"before trimming; is the text .* in the same language and script\?") as error:
        check(smallest, ["abc fed", "de"])
    assert "\n" not in str(error.value)
