"""Trimmed tokenizers: the same tokens for text made of kept tokens, under new ids, before and after saving."""

import json
import random

import pytest
import torch
from made_up_texts import TEXTS
from tokenizers import AddedToken, Tokenizer, models, normalizers, processors
from trained_tokenizers import bert, specials_last, xlm_roberta
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast, XLMRobertaTokenizerFast

from hf_lrcompress.vocabulary.ids import special_ids
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer

MAKERS = {
    "bert": bert,
    "bert_lowercase": lambda: bert(lowercase=True),
    "xlm_roberta": xlm_roberta,
    "specials_last": specials_last,
}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request):
    return MAKERS[request.param]()


def tokens_of(tokenizer, texts, **kwargs) -> list[list[str]]:
    return [tokenizer.convert_ids_to_tokens(tokenizer(text, **kwargs)["input_ids"]) for text in texts]


def random_keep(tokenizer, seed: int, share: float) -> list[int]:
    rng, special = random.Random(seed), set(special_ids(tokenizer))
    return [i for i in range(len(tokenizer)) if i in special or rng.random() < share]


def assert_same_where_kept(tokenizer, trimmed, keep_ids, texts) -> int:
    new_id, compared = {old: new for new, old in enumerate(keep_ids)}, 0
    for text in texts:
        old = tokenizer(text)["input_ids"]
        wordpiece_unknown = isinstance(tokenizer, BertTokenizerFast) and tokenizer.unk_token_id in old
        if new_id.keys() >= set(old) and not wordpiece_unknown:
            assert trimmed(text)["input_ids"] == [new_id[i] for i in old], text
            compared += 1
    return compared


@pytest.mark.parametrize("seed", range(4))
def test_text_of_kept_tokens_gives_the_same_tokens(tokenizer, seed):
    keep_ids = random_keep(tokenizer, seed, share=0.95)
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    words = [word for text in TEXTS for word in text.split()] + ["☃", "a☃☃b", "ž ☃", "<mask>", "fooBar", "a zzz"]
    assert len(trimmed) == len(keep_ids)
    assert [trimmed.convert_ids_to_tokens(i) for i in range(len(trimmed))] == tokenizer.convert_ids_to_tokens(keep_ids)
    assert assert_same_where_kept(tokenizer, trimmed, keep_ids, TEXTS + words) > 500


def test_keeping_everything_changes_nothing(tokenizer):
    trimmed = trim_tokenizer(tokenizer, torch.arange(len(tokenizer)))
    assert json.loads(trimmed.backend_tokenizer.to_str()) == json.loads(tokenizer.backend_tokenizer.to_str())
    assert trimmed(TEXTS) == tokenizer(TEXTS)


def test_the_original_is_untouched(tokenizer):
    before, encoded = tokenizer.backend_tokenizer.to_str(), tokenizer(TEXTS)
    arguments = dict(tokenizer.init_kwargs)
    trimmed = trim_tokenizer(tokenizer, random_keep(tokenizer, 9, share=0.3))
    trimmed.add_tokens(["new"])
    trimmed.model_max_length = 5
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer(TEXTS) == encoded
    assert tokenizer.init_kwargs == arguments


def test_everything_but_the_vocabulary_is_kept(tokenizer):
    trimmed = trim_tokenizer(tokenizer, random_keep(tokenizer, 5, share=0.5))
    assert type(trimmed) is type(tokenizer)
    assert trimmed.special_tokens_map == tokenizer.special_tokens_map
    for name in ("model_max_length", "padding_side", "truncation_side", "model_input_names", "name_or_path"):
        assert getattr(trimmed, name) == getattr(tokenizer, name), name
    old = {str(t): (t.lstrip, t.rstrip, t.normalized, t.special) for t in tokenizer.added_tokens_decoder.values()}
    for token in trimmed.added_tokens_decoder.values():
        assert (token.lstrip, token.rstrip, token.normalized, token.special) == old[str(token)]
    old = json.loads(tokenizer.backend_tokenizer.to_str())
    new = json.loads(trimmed.backend_tokenizer.to_str())
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        assert new[part] == old[part]


def test_pairs_offsets_special_tokens_and_decoding(tokenizer):
    keep_ids = random_keep(tokenizer, 6, share=0.98)
    trimmed, checked = trim_tokenizer(tokenizer, keep_ids), 0
    new_id = {old: new for new, old in enumerate(keep_ids)}
    for first, second in zip(TEXTS, TEXTS[1:], strict=False):
        old = tokenizer(first, second, return_offsets_mapping=True, return_special_tokens_mask=True)
        if not new_id.keys() >= set(old["input_ids"]) or tokenizer.unk_token_id in old["input_ids"]:
            continue
        new = trimmed(first, second, return_offsets_mapping=True, return_special_tokens_mask=True)
        assert {**new} == {**old, "input_ids": [new_id[i] for i in old["input_ids"]]}
        assert trimmed.decode(new["input_ids"]) == tokenizer.decode(old["input_ids"])
        checked += 1
    assert checked > 20


def test_saved_files_give_the_same_ids(tokenizer, tmp_path):
    keep_ids = random_keep(tokenizer, 7, share=0.6)
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    trimmed.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names <= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"}
    if "vocab.txt" in names:
        assert (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines() == trimmed.convert_ids_to_tokens(
            range(len(trimmed))
        )
    auto, raw = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert type(auto) is type(tokenizer)
    assert auto.get_vocab() == raw.get_vocab() == trimmed.get_vocab()
    assert auto(TEXTS)["input_ids"] == trimmed(TEXTS)["input_ids"] == [e.ids for e in raw.encode_batch(TEXTS)]
    assert auto(TEXTS[0], TEXTS[1]) == trimmed(TEXTS[0], TEXTS[1])
    assert auto.all_special_ids == trimmed.all_special_ids
    assert auto.special_tokens_map == trimmed.special_tokens_map
    assert auto.model_max_length == tokenizer.model_max_length
    assert auto.padding_side == tokenizer.padding_side
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    for i, token in config.get("added_tokens_decoder", {}).items():
        assert trimmed.convert_ids_to_tokens(int(i)) == token["content"]


def test_saving_over_the_untrimmed_tokenizer_leaves_no_old_vocabulary(tmp_path):
    tokenizer = bert()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)  # knows the old files by name
    trimmed = trim_tokenizer(loaded, random_keep(loaded, 8, share=0.4))
    assert not {"vocab_file", "tokenizer_file"} & trimmed.init_kwargs.keys()
    trimmed.save_pretrained(tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(trimmed)
    vocab = tmp_path / "vocab.txt"
    assert not vocab.exists() or len(vocab.read_text(encoding="utf-8").splitlines()) == len(trimmed)


def test_sentencepiece_file_is_not_copied(tmp_path):
    tokenizer = xlm_roberta()
    tokenizer.save_pretrained(tmp_path / "old")
    (tmp_path / "old" / "sentencepiece.bpe.model").write_bytes(b"the old vocabulary")
    loaded = XLMRobertaTokenizerFast.from_pretrained(tmp_path / "old")
    trim_tokenizer(loaded, random_keep(loaded, 8, share=0.4)).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new" / "sentencepiece.bpe.model").exists()
    assert not (tmp_path / "new" / "added_tokens.json").exists()


def test_xlm_roberta_keeps_its_layout():
    tokenizer = xlm_roberta()
    trimmed = trim_tokenizer(tokenizer, random_keep(tokenizer, 3, share=0.2))
    assert trimmed.convert_ids_to_tokens(range(4)) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert trimmed.mask_token_id == len(trimmed) - 1
    assert trimmed.pad_token_id == 1
    ids = trimmed("a <mask>")["input_ids"]
    assert (ids[0], ids[-2], ids[-1]) == (0, len(trimmed) - 1, 2)


@pytest.mark.parametrize("make", [xlm_roberta, specials_last])
def test_unigram_scores_and_unknown_id(make):
    tokenizer = make()
    keep_ids = random_keep(tokenizer, 4, share=0.5)
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    old = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    new = json.loads(trimmed.backend_tokenizer.to_str())["model"]
    kept = [old["vocab"][i] for i in keep_ids if i < len(old["vocab"])]
    unknown = new["unk_id"]
    assert keep_ids[unknown] == old["unk_id"] == tokenizer.unk_token_id
    assert new["vocab"][unknown][0] == "<unk>"
    assert [p for i, p in enumerate(new["vocab"]) if i != unknown] == [p for i, p in enumerate(kept) if i != unknown]
    assert min(score for _, score in new["vocab"]) == min(score for _, score in old["vocab"])
    assert trimmed("☃", add_special_tokens=False)["input_ids"][-1] == trimmed.unk_token_id


def test_unknown_stays_as_dear_when_the_lowest_score_goes():
    """Without it `abcd` would become `a bc <unk>`: −2 and −20 − 10 beat −40, where −2 and −100 − 10 did not."""
    pieces = [("rare", -100.0), ("a", -1.0), ("<unk>", 0.0), ("bc", -1.0), ("ab", -20.0), ("cd", -20.0)]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram(pieces, 2)), unk_token="<unk>")
    trimmed = trim_tokenizer(tokenizer, range(1, 6))
    scores = json.loads(trimmed.backend_tokenizer.to_str())["model"]["vocab"]
    assert scores == [["a", -1.0], ["<unk>", -100.0], ["bc", -1.0], ["ab", -20.0], ["cd", -20.0]]
    assert tokenizer.tokenize("abcd") == trimmed.tokenize("abcd") == ["ab", "cd"]


def test_added_tokens_outside_the_model():
    tokenizer = specials_last()
    gone, kept = tokenizer.convert_tokens_to_ids(["fooBar", "zzz"])
    trimmed = trim_tokenizer(tokenizer, [i for i in range(len(tokenizer)) if i != gone])
    assert trimmed.convert_tokens_to_ids("zzz") == kept - 1
    assert trimmed.mask_token_id == tokenizer.mask_token_id - 1
    assert "zzz" in trimmed.tokenize("a zzz") and "fooBar" not in trimmed.tokenize("a fooBar")


def test_truncation_and_padding_state_is_kept(tokenizer):
    copy = trim_tokenizer(tokenizer, range(len(tokenizer)))
    copy(TEXTS[0], truncation=True, max_length=6, padding="max_length")
    keep_ids = random_keep(copy, 2, share=0.5)
    trimmed = trim_tokenizer(copy, keep_ids)
    padding, truncation = trimmed.backend_tokenizer.padding, trimmed.backend_tokenizer.truncation
    assert padding == {**copy.backend_tokenizer.padding, "pad_id": keep_ids.index(copy.pad_token_id)}
    assert truncation == copy.backend_tokenizer.truncation
    padded = trimmed(["", TEXTS[0]], padding="max_length", max_length=9)["input_ids"][0]
    assert padded.count(trimmed.pad_token_id) == 7


def test_special_ids_are_all_found(tokenizer):
    expected = set(tokenizer.all_special_ids) | set(tokenizer("a", "b")["input_ids"][:1])
    assert expected <= set(special_ids(tokenizer))
    assert special_ids(tokenizer) == sorted(special_ids(tokenizer))
    assert len(special_ids(tokenizer)) == 5


def test_special_ids_without_names():
    """A special token may be known to the post-processor only, to the model only, or only as an added token."""
    vocab = {token: i for i, token in enumerate(["a", "[X]", "b", "[U]", "c", "[Y]"])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[U]"))
    backend.post_processor = processors.BertProcessing(("[Y]", 5), ("[X]", 1))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert special_ids(tokenizer) == [1, 3, 5]
    tokenizer.add_tokens([AddedToken("foo"), AddedToken("[Z]", special=True)])
    assert special_ids(tokenizer) == [1, 3, 5, 7]


def test_flags_of_special_tokens_are_not_the_class_defaults():
    """XLM-R's class makes a mask token given by name strip the space before it."""
    backend = xlm_roberta().backend_tokenizer
    tokenizer = XLMRobertaTokenizerFast(tokenizer_object=backend, mask_token=AddedToken("<mask>", lstrip=False))
    trimmed = trim_tokenizer(tokenizer, random_keep(tokenizer, 1, share=0.5))
    assert trimmed.tokenize("a <mask>")[-2:] == tokenizer.tokenize("a <mask>")[-2:] == ["▁", "<mask>"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids, n: ids[1:], r"lacks \S+ \(\d+\)"),
        (lambda ids, n: [*ids, ids[-1]], r"holds \d+ twice"),
        (lambda ids, n: [ids[1], ids[0], *ids[2:]], r"must be ascending, but \d+ comes after \d+"),
        (lambda ids, n: [*ids, n], r"the tokenizer has ids 0 to \d+"),
        (lambda ids, n: [-1, *ids], r"holds -1"),
        (lambda ids, n: [], r"lacks"),
    ],
)
def test_wrong_ids_are_named(tokenizer, change, message):
    with pytest.raises(ValueError, match=message) as error:
        trim_tokenizer(tokenizer, change(special_ids(tokenizer), len(tokenizer)))
    assert "\n" not in str(error.value)


def test_other_models_are_refused():
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    with pytest.raises(ValueError, match="cannot trim a WordLevel tokenizer"):
        trim_tokenizer(other, [])


def test_a_class_that_rebuilds_another_tokenizer_is_refused():
    tokenizer = bert()
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    reason = "saved and loaded again, this tokenizer would not lower-case any more"
    if trimmed_lowercases(tokenizer):
        pytest.skip(f"this transformers version keeps the normalizer: not {reason}")
    with pytest.raises(ValueError, match="BertTokenizer.* changes the normalizer"):
        trim_tokenizer(tokenizer, range(len(tokenizer)))


def trimmed_lowercases(tokenizer) -> bool:
    rebuilt = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, do_lower_case=False)
    return rebuilt.backend_tokenizer.normalizer.lowercase


@pytest.mark.slow
def test_real_mbert_vocabulary(real_data, tmp_path):
    tokenizer = BertTokenizerFast(str(real_data / "tokenizers/mbert-cased/vocab.txt"), do_lower_case=False)
    texts = (real_data / "sk/train.txt").read_text(encoding="utf-8").splitlines()[:6000]
    keep = {i for text in tokenizer(texts[:3000])["input_ids"] for i in text}
    keep_ids = sorted(keep | set(special_ids(tokenizer)))
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    assert assert_same_where_kept(tokenizer, trimmed, keep_ids, texts) > 3000
    trimmed.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(texts)["input_ids"] == trimmed(texts)["input_ids"]
    same = trim_tokenizer(tokenizer, range(len(tokenizer)))
    assert same(texts[:200]) == tokenizer(texts[:200])
