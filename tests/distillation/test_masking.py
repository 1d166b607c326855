import pytest
import torch
from surgery.test_token_selection import unigram

from hf_lrcompress.distillation.masking import ReproducibleMasking

ROWS = [{"input_ids": torch.randint(5, 20, (40,), generator=torch.Generator().manual_seed(i)).tolist()} for i in range(200)]


@pytest.fixture(scope="module")
def tokenizer():
    return unigram()


def labels(collator, rows):
    return collator(rows)["labels"]


def test_the_same_batch_is_masked_the_same_whatever_happened_before(tokenizer):
    collator = ReproducibleMasking(tokenizer, 0.15, seed=1)
    first = labels(collator, ROWS[:8])
    torch.rand(5), labels(collator, ROWS[8:16])
    assert torch.equal(labels(collator, ROWS[:8]), first)
    assert torch.equal(labels(ReproducibleMasking(tokenizer, 0.15, seed=1), ROWS[:8]), first)


def test_another_seed_or_another_batch_is_masked_otherwise(tokenizer):
    first = labels(ReproducibleMasking(tokenizer, 0.15, seed=1), ROWS[:8])
    assert not torch.equal(labels(ReproducibleMasking(tokenizer, 0.15, seed=2), ROWS[:8]), first)
    shuffled = labels(ReproducibleMasking(tokenizer, 0.15, seed=1), [*ROWS[4:8], *ROWS[:4]])
    assert not torch.equal(torch.cat([shuffled[4:], shuffled[:4]]), first)


def test_the_global_random_state_is_left_alone(tokenizer):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    labels(ReproducibleMasking(tokenizer, 0.15, seed=1), ROWS[:8])
    assert torch.equal(torch.rand(4), expected)


def test_the_usual_shares_are_masked(tokenizer):
    batch = ReproducibleMasking(tokenizer, 0.15, seed=1)(ROWS)
    chosen = batch["labels"] != -100
    original = torch.tensor([row["input_ids"] for row in ROWS])
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.015)
    assert torch.equal(batch["labels"][chosen], original[chosen])
    assert (batch["input_ids"][chosen] == tokenizer.mask_token_id).float().mean().item() == pytest.approx(0.8, abs=0.05)
    assert torch.equal(batch["input_ids"][~chosen], original[~chosen])
