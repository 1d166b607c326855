"""How many tokens are kept where the text decides it: a share of its tokens to cover, and a multiple to fill."""

import pytest
import torch
from made_up_texts import TRAIN
from tiny_tokenizers import TEXTS, unigram, wordpiece
from trained_tokenizers import bert, clip, gemma, llama3, xlm_roberta

from hf_lrcompress import count_tokens, select_tokens
from hf_lrcompress.vocabulary.candidates import Candidates, covered_share
from hf_lrcompress.vocabulary.curve import measure_curve
from hf_lrcompress.vocabulary.selection import TokenSelector, weighted_counts
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer


@pytest.fixture(scope="module", params=[bert, xlm_roberta, llama3, gemma, clip], ids=lambda make: make.__name__)
def case(request):
    """A tokenizer and how often its tokens occur, an added one among them."""
    tokenizer = request.param()
    return tokenizer, count_tokens(tokenizer, [*TRAIN, "fooBar a"])


def covered(counts, keep_ids) -> float:
    return counts[keep_ids].sum().item() / counts.sum().item()


def test_a_share_that_is_met_exactly_is_enough():
    """In single precision nine of ten are less than 0.9."""
    counts = torch.tensor([0, 0, 1, 0, 9])
    assert covered_share(counts, [4]) == 0.9 and covered_share(counts, []) == 0
    assert Candidates(counts, range(5), required=set(), spare=[]).covering(0.9) == {4}


def size_that_works(tokenizer, counts, size) -> torch.Tensor | None:
    try:
        return select_tokens(tokenizer, counts, size)
    except ValueError as error:
        assert "too small" in str(error) or "has only" in str(error)
        return None


@pytest.mark.parametrize("make", [wordpiece, unigram])
def test_coverage_is_the_first_size_that_covers(make):
    """Reference: every size, one after the other."""
    tokenizer = make()
    counts = count_tokens(tokenizer, TEXTS)
    tried = [size_that_works(tokenizer, counts, size) for size in range(len(tokenizer))]
    for share in (0.01, 0.3, 0.6, 0.8, 0.9, 0.97, 1):
        first = next(ids for ids in tried if ids is not None and covered(counts, ids) >= share)
        assert torch.equal(select_tokens(tokenizer, counts, coverage=share), first)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_smaller_sizes_cover_less(case, share):
    tokenizer, counts = case
    keep_ids = select_tokens(tokenizer, counts, coverage=share)
    assert covered(counts, keep_ids) >= share
    assert torch.equal(keep_ids, select_tokens(tokenizer, counts, len(keep_ids)))
    for fewer in range(1, 4):
        smaller = size_that_works(tokenizer, counts, len(keep_ids) - fewer)
        assert smaller is None or covered(counts, smaller) < share


def test_a_choice_does_not_depend_on_those_before(case):
    tokenizer, counts = case
    selector = TokenSelector(tokenizer, counts)
    for rule in ({"coverage": 1.0}, {"vocab_size": 650}, {"min_count": 3, "pad_to_multiple_of": 64}, {"coverage": 0.5}):
        assert torch.equal(selector.select(**rule), select_tokens(tokenizer, counts, **rule))


def test_coverage_is_that_of_the_curve():
    tokenizer = bert()
    counts = count_tokens(tokenizer, TRAIN)
    size = len(select_tokens(tokenizer, counts, coverage=0.97))
    points = {point.vocab_size: point.coverage for point in measure_curve(tokenizer, counts, size, TRAIN[:9])}
    assert points[size] >= 0.97 > max(share for tokens, share in points.items() if tokens < size)


def test_what_is_kept_in_any_case_is_so_on_the_curve():
    """At the chosen size the curve is of the vocabulary that was chosen."""
    tokenizer = bert()
    counts = count_tokens(tokenizer, TRAIN)
    keep = [token for token, i in tokenizer.get_vocab().items() if counts[i] == 0][:100]
    chosen = select_tokens(tokenizer, counts, 400, keep)
    points = {point.vocab_size: point.coverage for point in measure_curve(tokenizer, counts, 400, TRAIN[:9], keep)}
    without = {point.vocab_size: point.coverage for point in measure_curve(tokenizer, counts, 400, TRAIN[:9])}
    assert points[400] == pytest.approx(covered(counts, chosen)) and points[400] < without[400]


def test_the_most_tokens_that_are_named_can_be_had(case):
    """A smaller vocabulary has less room for characters that do not occur, so that the text fills less of it."""
    tokenizer, _ = case
    counts = count_tokens(tokenizer, TRAIN[:3])
    with pytest.raises(ValueError, match="give more text or a vocab_size of at most") as error:
        select_tokens(tokenizer, counts, len(tokenizer))
    most = int(str(error.value).split()[-1])
    assert len(select_tokens(tokenizer, counts, most)) == most
    with pytest.raises(ValueError, match=f"at most {most}$"):
        select_tokens(tokenizer, counts, most + 1)


def test_all_of_a_weighted_text_can_be_covered():
    """Thirds do not add up exactly: that must not ask for more than all there is."""
    tokenizer = xlm_roberta()
    counts = {str(part): count_tokens(tokenizer, TRAIN[part::3]) for part in range(3)}
    combined = weighted_counts(counts, {"0": 1 / 3, "1": 0.1, "2": 0.7})
    kept = set(select_tokens(tokenizer, combined, coverage=1).tolist())
    assert kept >= set(combined.nonzero().flatten().tolist()) and len(kept) < len(tokenizer)


@pytest.mark.parametrize("rule", [{"vocab_size": 650}, {"min_count": 3}, {"coverage": 0.9}], ids=str)
def test_a_multiple_is_filled_with_the_next_most_frequent_tokens(case, rule):
    tokenizer, counts = case
    unpadded = select_tokens(tokenizer, counts, **rule)
    keep_ids = select_tokens(tokenizer, counts, **rule, pad_to_multiple_of=64)
    assert len(keep_ids) % 64 == 0 and len(keep_ids) - len(unpadded) < 64
    kept = set(keep_ids.tolist())
    assert kept >= set(unpadded.tolist())
    assert len(trim_tokenizer(tokenizer, keep_ids)) == len(keep_ids), "no row is without a token"
    if type(tokenizer.backend_tokenizer.model).__name__ != "BPE":
        added = kept - set(unpadded.tolist())
        left = set(range(len(tokenizer))) - kept
        assert min(counts[i] for i in added) >= max(counts[i] for i in left)


def test_a_multiple_beyond_the_text_is_filled_with_tokens_that_do_not_occur(case):
    tokenizer, counts = case
    few = count_tokens(tokenizer, TRAIN[:3])
    all_of_them = select_tokens(tokenizer, few, min_count=1)
    multiple = len(all_of_them) + 150
    keep_ids = select_tokens(tokenizer, few, min_count=1, pad_to_multiple_of=multiple)
    assert len(keep_ids) == multiple and set(keep_ids.tolist()) >= set(all_of_them.tolist())
    trim_tokenizer(tokenizer, keep_ids)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "give exactly one of vocab_size, min_count and coverage"),
        ({"coverage": 0.5, "min_count": 2}, "give exactly one of vocab_size, min_count and coverage"),
        ({"coverage": 0}, "coverage must be more than 0 and at most 1, got 0; give a share such as 0.999"),
        ({"coverage": 99.9}, "coverage must be more than 0 and at most 1, got 99.9"),
        ({"coverage": float("nan")}, "coverage must be more than 0 and at most 1, got nan"),
        ({"min_count": 1, "pad_to_multiple_of": 0}, "pad_to_multiple_of must be 1 or more, got 0; give a number such as 64"),
        ({"min_count": 1, "pad_to_multiple_of": 999}, "makes 999 tokens of .*, but the tokenizer has only .*; choose fewer"),
    ],
)
def test_wrong_sizes_are_refused(rule, message):
    tokenizer = wordpiece()
    with pytest.raises(ValueError, match=message) as error:
        select_tokens(tokenizer, count_tokens(tokenizer, TEXTS), **rule)
    assert "\n" not in str(error.value)


def test_counts_are_left_as_they_were(case):
    """Those of several texts are in fp64, as the ranks are."""
    tokenizer, counts = case
    weighted = weighted_counts({"a": counts, "b": counts}, {"a": 1.0, "b": 0.5})
    before = weighted.clone()
    keep_ids = select_tokens(tokenizer, weighted, int((weighted > 0).sum()) - 5)
    assert torch.equal(weighted, before) and weighted.dtype == torch.float64
    assert 0 < covered(weighted, keep_ids) <= 1
