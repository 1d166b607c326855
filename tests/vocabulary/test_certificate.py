"""The certificate: right figures, and an error where a promise is broken."""

import dataclasses
import json

import pytest
from conftest import tiny_model
from made_up_texts import TEXTS, TRAIN
from tokenizers import Tokenizer, models
from trained_tokenizers import bert, modernbert, xlm_roberta
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from hf_lrcompress import count_tokens, select_tokens, trim_vocab
from hf_lrcompress.figures.of_runs import plot_vocabulary
from hf_lrcompress.vocabulary.certificate import certify_vocabulary, write_certificate
from hf_lrcompress.vocabulary.coverage import check_coverage
from hf_lrcompress.vocabulary.curve import measure_curve
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer
from hf_lrcompress.vocabulary.unreachable_tokens import unreachable_tokens

MAKERS = {"bert": (bert, "bert"), "xlm-roberta": (xlm_roberta, "xlm-roberta"), "bpe": (modernbert, "roberta")}


@pytest.fixture(scope="module", params=MAKERS)
def case(request):
    make, model_type = MAKERS[request.param]
    tokenizer = make()
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    if model_type == "roberta":
        special["pad_token_id"] = 0
    model = tiny_model(model_type, vocab_size=len(tokenizer), max_position_embeddings=80, **special)
    counts = count_tokens(tokenizer, TRAIN)
    keep_ids = select_tokens(tokenizer, counts, 650)
    return tokenizer, model, counts, trim_vocab(model, tokenizer, keep_ids)


def test_figures_are_those_of_the_definition(case, tmp_path):
    tokenizer, model, counts, trimmed = case
    certificate = certify_vocabulary(tokenizer, trimmed.tokenizer, trimmed.keep_ids, TEXTS, (model, trimmed.model), counts)
    old, new = ([each.tokenize(text) for text in TEXTS] for each in (tokenizer, trimmed.tokenizer))
    words = sum(len(text.split()) for text in TEXTS)
    unknown = [sum(row.count(tokenizer.unk_token) for row in rows) / sum(map(len, rows)) for rows in (old, new)]
    assert certificate.same_sentences <= sum(a == b for a, b in zip(old, new, strict=True)) / len(TEXTS) < 1
    assert 0 < certificate.kept_sentences == certificate.same_sentences and certificate.same_kept_sentences == 1
    assert certificate.tokens_per_word == sum(map(len, new)) / words
    assert certificate.untrimmed_tokens_per_word == sum(map(len, old)) / words
    assert (certificate.untrimmed_unknown_rate, certificate.unknown_rate) == tuple(unknown)
    assert certificate.unreachable_tokens == () and certificate.wrong_rows == 0 and certificate.max_logit_difference < 1e-5
    sizes = [point.vocab_size for point in certificate.curve]
    assert sizes == sorted(set(sizes)) and 650 in sizes and sizes[-1] > 650, "one sees whether more would help"
    coverages = [point.coverage for point in certificate.curve]
    assert coverages == sorted(coverages)
    write_certificate(certificate, tmp_path)
    assert json.loads((tmp_path / "vocabulary_certificate.json").read_text(encoding="utf-8")) == certificate.to_mapping()
    plot_vocabulary(certificate, tmp_path / "vocabulary_curve.png")
    assert (tmp_path / "vocabulary_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("empty", ["\u200b", "\0\0", "\ufeff"], ids=ascii)
def test_a_line_without_a_token_is_a_sentence_like_others(case, empty):
    """Crawled text has lines of zero-width spaces alone, which are no white space to Python."""
    tokenizer, model, _, trimmed = case
    found, plain = (
        certify_vocabulary(tokenizer, trimmed.tokenizer, trimmed.keep_ids, texts, (model, trimmed.model))
        for texts in ([empty, *TEXTS], TEXTS)
    )
    assert found.sentences == plain.sentences + 1 and found.max_logit_difference < 1e-5


def test_where_no_sentence_is_made_of_kept_tokens_no_logits_were_compared(case):
    tokenizer, model, _, trimmed = case
    kept = set(trimmed.keep_ids.tolist())
    others = [text for text in TEXTS if not kept.issuperset(tokenizer(text, add_special_tokens=False)["input_ids"])]
    certificate = certify_vocabulary(tokenizer, trimmed.tokenizer, trimmed.keep_ids, others, (model, trimmed.model))
    assert others and certificate.kept_sentences == 0 and certificate.max_logit_difference is None


def test_the_curve_goes_past_all_that_the_corpus_has(case):
    tokenizer, _, counts, _ = case
    whole = select_tokens(tokenizer, counts, min_count=1)
    for vocab_size, further in ((len(whole) - 1, len(whole)), (len(whole), len(tokenizer))):
        last = measure_curve(tokenizer, counts, vocab_size, TEXTS)[-1]
        assert (last.vocab_size, last.coverage) == (further, 1.0)
    assert last.tokens_per_word == sum(len(tokenizer.tokenize(text)) for text in TEXTS) / sum(len(text.split()) for text in TEXTS)


def test_a_wrong_row_is_found(case):
    tokenizer, model, _, trimmed = case
    wrong = trim_vocab(model, tokenizer, trimmed.keep_ids).model
    wrong.get_input_embeddings().weight.data[7] += 1
    with pytest.raises(RuntimeError, match="an embedding row is not that of its token"):
        certify_vocabulary(tokenizer, trimmed.tokenizer, trimmed.keep_ids, TEXTS, (model, wrong))


def test_a_wrong_logit_is_found(case):
    tokenizer, model, _, trimmed = case
    wrong = trim_vocab(model, tokenizer, trimmed.keep_ids).model
    wrong.get_output_embeddings().bias.data[9] += 1
    with pytest.raises(RuntimeError, match="a logit of a kept token has changed"):
        certify_vocabulary(tokenizer, trimmed.tokenizer, trimmed.keep_ids, TEXTS, (model, wrong))


def test_another_tokenisation_is_found():
    """The merges of another order, as a tool that does not keep it would write them."""
    tokenizer = modernbert()
    keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, TRAIN), 700)
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    state = json.loads(trimmed.backend_tokenizer.to_str())
    state["model"]["merges"].reverse()
    wrong = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), unk_token="<unk>")
    with pytest.raises(RuntimeError, match="please report this"):
        certify_vocabulary(tokenizer, wrong, keep_ids, TEXTS)


def test_text_of_another_script_is_refused():
    tokenizer, slovak = bert(), [text for text in TRAIN if text[:2].lower() < "ž~"]
    keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, [t for t in slovak if t.split()[0].isascii()]), min_count=1)
    trimmed, greek = trim_tokenizer(tokenizer, keep_ids), ["αβγ δεζ", "ηθικ λμα"]
    with pytest.raises(ValueError, match=r"held-out text's tokens would be .* same language and script\?") as error:
        check_coverage(tokenizer, trimmed, keep_ids, greek)
    assert "\n" not in str(error.value)


def test_a_broken_certificate_cannot_be_made(case):
    tokenizer, model, _, trimmed = case
    certificate = certify_vocabulary(tokenizer, trimmed.tokenizer, trimmed.keep_ids, TEXTS)
    for change in ({"same_kept_sentences": 0.99}, {"reloaded_agrees": 0.5}, {"wrong_rows": 1}):
        with pytest.raises(RuntimeError, match="broke its promise"):
            dataclasses.replace(certificate, **change)


def test_unreachable_tokens_are_found():
    wordpiece = models.WordPiece(
        {"[UNK]": 0, "a": 1, "##a": 2, "ab": 3, "##b": 4, "##ab": 5, "##ba": 6, "c": 7}, unk_token="[UNK]"
    )
    assert unreachable_tokens(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(wordpiece), unk_token="[UNK]")) == []
    unigram = models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("ab", -9.0), ("ba", -1.5)], 0)
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(unigram), unk_token="<unk>")
    assert unreachable_tokens(fast) == ["ab"]
    bpe = models.BPE({"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5}, [("a", "b"), ("b", "c"), ("a", "bc")])
    assert unreachable_tokens(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(bpe))) == ["abc"]


@pytest.mark.slow
def test_real_mbert_vocabulary_on_slovak(real_data):
    tokenizer = BertTokenizerFast(str(real_data / "tokenizers/mbert-cased/vocab.txt"), do_lower_case=False)
    train, held_out = (
        (real_data / f"sk/{part}.txt").read_text(encoding="utf-8").splitlines() for part in ("train", "validation")
    )
    keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, train), 16_000)
    certificate = certify_vocabulary(tokenizer, trim_tokenizer(tokenizer, keep_ids), keep_ids, held_out)
    assert certificate.same_kept_sentences == 1 and certificate.unreachable_tokens == ()
    assert certificate.unknown_rate <= certificate.untrimmed_unknown_rate
