"""Dropout with fewer random bits is dropout."""

import pytest
import torch
from torch.nn import functional as F

from hf_lrcompress.evaluation.cheap_training import dropout_by_words, fast_dropout, make_cheap


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_values_are_dropped_apart_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    ones = torch.ones(999, 1001, dtype=dtype, requires_grad=True)  # not a multiple of the four draws in a word
    outputs = dropout_by_words(ones, p)
    kept = outputs != 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.003)
    assert outputs[kept].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-2)
    together = torch.stack([(kept[:, step:] & kept[:, :-step]).float().mean() for step in (1, 2, 3, 4, 64)])
    torch.testing.assert_close(together, torch.full((5,), (1 - p) ** 2), rtol=0, atol=0.005)
    outputs.sum().backward()
    assert torch.equal(ones.grad, outputs.detach())


def test_a_seed_gives_its_mask_and_evaluation_none():
    inputs = torch.randn(7, 11)
    masks = [(torch.manual_seed(seed), dropout_by_words(inputs, 0.3))[1] for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert dropout_by_words(inputs, 0.3, training=False) is inputs
    assert dropout_by_words(inputs, 0.0) is inputs


@pytest.mark.skipif(torch.accelerator.is_available(), reason="on an accelerator torch's own dropout is fast")
def test_modules_and_functions_drop_by_words_in_a_step_only():
    plain, inputs = F.dropout, torch.ones(7, 11)
    with pytest.raises(ZeroDivisionError), fast_dropout():
        found = [(torch.manual_seed(0), drop(inputs))[1] for drop in (torch.nn.Dropout(0.3), lambda x: F.dropout(x, 0.3, True))]
        torch.manual_seed(0)
        expected = dropout_by_words(inputs, 0.3)
        assert all(torch.equal(each, expected) for each in found)
        raise ZeroDivisionError
    assert F.dropout is plain


def test_only_frozen_layers_are_cast(monkeypatch):
    monkeypatch.setattr("hf_lrcompress.evaluation.cheap_training.computes_in_bf16", lambda: True)
    frozen, trained = torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.Linear(2, 2)
    make_cheap(torch.nn.Sequential(frozen, trained, torch.nn.LayerNorm(2).requires_grad_(False)))
    assert frozen.weight.dtype == torch.bfloat16 and trained.weight.dtype == torch.float32
