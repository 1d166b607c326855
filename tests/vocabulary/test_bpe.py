"""BPE: byte-level (Llama-3, ModernBERT) and with fallback to bytes (Gemma), trimmed without changing what is kept."""

import json
import random

import pytest
import torch
from made_up_texts import TEXTS, TRAIN
from tokenizers import Tokenizer, models
from trained_tokenizers import clip, gemma, gemma_with_runs_of_spaces, llama3, modernbert, subword_prefix
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_lrcompress import count_tokens, select_tokens
from hf_lrcompress.vocabulary.bpe import BYTE_TOKENS, merge_table
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer

MAKERS = {each.__name__: each for each in (modernbert, llama3, gemma, gemma_with_runs_of_spaces, clip, subword_prefix)}


@pytest.fixture(scope="module", params=MAKERS)
def tokenizer(request):
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def counts(tokenizer):
    return count_tokens(tokenizer, TRAIN)


def table_of(tokenizer):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return merge_table(state), state["model"]


def test_parents_are_what_the_library_has_before_its_last_merge(tokenizer):
    """Reference: the library's own BPE on the token, once with the merges that make the token left out."""
    table, model = table_of(tokenizer)
    tokens = random.Random(0).sample(sorted(token for token in model["vocab"] if "<" not in token), 120)
    for token in tokens:
        merges = [tuple(pair) for pair in model["merges"] if table.merged(*pair) != token]
        settings = {key: model[key] for key in ("continuing_subword_prefix", "end_of_word_suffix")}
        before = models.BPE(model["vocab"], merges, unk_token="<unk>", **{k: v for k, v in settings.items() if v is not None})
        prefix, suffix = table._prefix, table._suffix
        if (prefix and token.startswith(prefix)) or (suffix and not token.endswith(suffix)):
            continue  # cannot be given to the library as a word
        parts = [part.value for part in before.tokenize(token.removesuffix(suffix))]
        assert table.parents(token) == tuple(part for part in parts if part != token), token


@pytest.mark.parametrize("size", [700, 900, 1100])
def test_text_of_kept_tokens_gives_the_same_tokens(tokenizer, counts, size):
    smallest = smallest_of(tokenizer, counts)
    keep_ids = select_tokens(tokenizer, counts, max(size, smallest))
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    new_id, compared = {old: new for new, old in enumerate(keep_ids.tolist())}, 0
    for text in [*TEXTS, *TRAIN, *" ".join(TEXTS).split(), "a <mask>", "fooBar", "☃"]:
        old = tokenizer(text)["input_ids"]
        if new_id.keys() >= set(old):
            assert trimmed(text)["input_ids"] == [new_id[i] for i in old], text
            compared += 1
    assert compared > 300


def smallest_of(tokenizer, counts) -> int:
    return int(str(pytest.raises(ValueError, select_tokens, tokenizer, counts, 1).value).split()[-1])


def test_every_kept_token_can_be_made(tokenizer, counts):
    """But those that the untrimmed tokenizer cannot make from their text either."""
    keep_ids = select_tokens(tokenizer, counts, max(800, smallest_of(tokenizer, counts)))
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    table, model = table_of(trimmed)
    for token in set(model["vocab"]) - BYTE_TOKENS - tokenizer.get_added_vocab().keys():
        if not table._prefix and token.endswith(table._suffix):
            parts, before = (
                each.backend_tokenizer.model.tokenize(token.removesuffix(table._suffix)) for each in (trimmed, tokenizer)
            )
            assert [part.value for part in parts] == [part.value for part in before]


def test_shrinking_gives_up_the_rarest_leaf(tokenizer, counts):
    """Reference: from the definition, looking for the leaves anew each time."""
    table, model = table_of(tokenizer)
    tokens, vocab = table.close(t for t, i in model["vocab"].items() if counts[i]), model["vocab"]
    required = {t for t in tokens if not table.parents(t)}
    occurring, left = {t: counts[vocab[t]].item() for t in tokens}, set(tokens)
    for _ in range(60):
        leaves = left - required - {parent for t in left for parent in table.parents(t)}
        gone = min(leaves, key=lambda t: (occurring[t], -vocab[t]))
        left.remove(gone)
        for parent in table.parents(gone):
            occurring[parent] += occurring[gone]
    assert table.shrink(tokens, {t: counts[vocab[t]].item() for t in tokens}, required, len(tokens) - 60) == left


def test_counts_of_given_up_tokens_fall_to_their_parents():
    vocab = {token: i for i, token in enumerate(["a", "b", "c", "d", "ab", "cd", "abc"])}
    backend = Tokenizer(models.BPE(vocab, [("a", "b"), ("c", "d"), ("ab", "c")]))
    table, _ = table_of(PreTrainedTokenizerFast(tokenizer_object=backend))
    required, counts = {"a", "b", "c", "d"}, {"abc": 5, "ab": 0, "cd": 4}
    assert table.shrink(set(vocab), counts, required, 6) == set(vocab) - {"cd"}
    assert table.shrink(set(vocab), counts | {"cd": 6}, required, 6) == set(vocab) - {"abc"}
    assert table.shrink(set(vocab), counts | {"cd": 6}, required, 5) == required | {"cd"}
    assert table.shrink(set(vocab), counts | {"cd": 6, "ab": 2}, required, 5) == required | {"ab"}  # 5 + 2 > 6


def test_byte_level_text_is_never_unknown_and_comes_back(tokenizer, counts):
    trimmed = trim_tokenizer(tokenizer, select_tokens(tokenizer, counts, smallest_of(tokenizer, counts)))
    for text in [*TEXTS[:50], "čierny 中文 ☃ \u00a0 x"] if tokenizer.backend_tokenizer.decoder else []:
        ids = trimmed(text, add_special_tokens=False)["input_ids"]
        assert trimmed.unk_token_id not in ids
        assert trimmed.decode(ids) == tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_saved_files_give_the_same_ids(tokenizer, counts, tmp_path):
    trimmed = trim_tokenizer(tokenizer, select_tokens(tokenizer, counts, max(800, smallest_of(tokenizer, counts))))
    trimmed.save_pretrained(tmp_path)
    auto, raw = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert not (tmp_path / "merges.txt").exists() and not (tmp_path / "vocab.json").exists()
    assert auto.get_vocab() == raw.get_vocab() == trimmed.get_vocab()
    assert auto(TEXTS)["input_ids"] == trimmed(TEXTS)["input_ids"] == [e.ids for e in raw.encode_batch(TEXTS)]


def test_merges_written_as_strings_are_the_same(tokenizer, counts):
    """Files of older tokenizers have "a b" instead of ["a", "b"]."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["merges"] = [" ".join(pair) for pair in state["model"]["merges"]]
    old = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), unk_token="<unk>")
    size = max(800, smallest_of(tokenizer, counts))
    assert torch.equal(select_tokens(old, counts, size), select_tokens(tokenizer, counts, size))


def test_min_count_and_keep_bring_what_their_tokens_are_made_of(tokenizer, counts):
    table, model = table_of(tokenizer)
    rare = next(t for t, i in model["vocab"].items() if 0 < counts[i] < 3 and len(table.close([t])) > 4)
    kept = set(tokenizer.convert_ids_to_tokens(select_tokens(tokenizer, counts, min_count=3, keep=[rare]).tolist()))
    assert kept >= table.close([rare])
    assert kept >= {t for t, i in model["vocab"].items() if counts[i] >= 3}


def test_a_token_without_what_it_is_made_of_is_refused(tokenizer, counts):
    table, model = table_of(tokenizer)
    token, part = next((t, p) for t in model["vocab"] for p in table.parents(t) if len(p) > 3)
    keep_ids = [i for i in range(len(tokenizer)) if i != model["vocab"][part]]
    with pytest.raises(ValueError, match="that it is made of; use select_tokens"):
        trim_tokenizer(tokenizer, keep_ids)


def test_added_tokens_that_merges_make_bring_what_they_are_made_of():
    tokenizer = gemma_with_runs_of_spaces()
    text = "a      a"
    run, pair = tokenizer.convert_tokens_to_ids(["▁▁▁▁", "▁▁"])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert {run, pair} < set(ids)
    table, _ = table_of(tokenizer)
    assert table.parents("▁▁▁▁") == ("▁▁", "▁▁") and table.parents("<s>") == ()
    keep_ids = select_tokens(tokenizer, torch.bincount(torch.tensor(ids * 9), minlength=len(tokenizer)), min_count=9)
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    assert trimmed.tokenize(text) == tokenizer.tokenize(text)
    without = [i for i in keep_ids.tolist() if i != pair]
    with pytest.raises(ValueError, match="keep_ids holds '▁▁▁▁', but not '▁▁' that it is made of"):
        trim_tokenizer(tokenizer, without)


def test_random_merges_are_refused():
    backend = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], dropout=0.1))
    with pytest.raises(ValueError, match=r"set tokenizer.backend_tokenizer.model.dropout = None"):
        trim_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend), [0, 1])
