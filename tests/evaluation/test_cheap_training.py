"""Dropout with fewer random bits is dropout."""

import pytest
import torch

from hf_lrcompress.evaluation.cheap_training import FastDropout, make_cheap


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_values_are_dropped_apart_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    ones = torch.ones(999, 1001, dtype=dtype, requires_grad=True)  # not a multiple of the four draws in a word
    outputs = FastDropout(p)(ones)
    kept = outputs != 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.003)
    assert outputs[kept].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-2)
    together = torch.stack([(kept[:, step:] & kept[:, :-step]).float().mean() for step in (1, 2, 3, 4, 64)])
    torch.testing.assert_close(together, torch.full((5,), (1 - p) ** 2), rtol=0, atol=0.005)
    outputs.sum().backward()
    assert torch.equal(ones.grad, outputs.detach())


def test_a_seed_gives_its_mask_and_evaluation_none():
    dropout, inputs = FastDropout(0.3), torch.randn(7, 11)
    masks = [(torch.manual_seed(seed), dropout(inputs))[1] for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert dropout.eval()(inputs) is inputs
    assert FastDropout(0.0)(inputs) is inputs


def test_only_frozen_layers_are_cast(monkeypatch):
    monkeypatch.setattr("hf_lrcompress.evaluation.cheap_training.computes_in_bf16", lambda: True)
    frozen, trained = torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.Linear(2, 2)
    make_cheap(torch.nn.Sequential(frozen, trained, torch.nn.LayerNorm(2).requires_grad_(False)))
    assert frozen.weight.dtype == torch.bfloat16 and trained.weight.dtype == torch.float32
