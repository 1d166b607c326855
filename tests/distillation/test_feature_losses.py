"""Feature losses against loops written from the definitions."""

import math

import pytest
import torch

from hf_lrcompress.distillation.feature_losses import hidden_state_cosine, hidden_state_mse, self_attention_relations


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 8, generator=generator, requires_grad=True), torch.randn(5, 8, generator=generator)]


def test_mse(states):
    expected = torch.stack([sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / 8 for s, t in zip(*states, strict=True)])
    torch.testing.assert_close(hidden_state_mse(*states), expected)


def test_cosine(states):
    expected = torch.stack([1 - (s @ t) / (s.norm() * t.norm()) for s, t in zip(*states, strict=True)])
    torch.testing.assert_close(hidden_state_cosine(*states), expected)


def test_relations_of_tokens_that_are_not_padding():
    generator = torch.Generator().manual_seed(1)
    student = [torch.randn(2, 4, 6, generator=generator, requires_grad=True) for _ in range(3)]
    teacher = [torch.randn(2, 4, 12, generator=generator) for _ in range(3)]
    lengths, heads = (4, 3), 2
    mask = torch.tensor([[True] * n + [False] * (4 - n) for n in lengths])
    expected = {}
    for s, t in zip(student, teacher, strict=True):
        for row, length in enumerate(lengths):
            for head in range(heads):
                s_head, t_head = s[row, :length, head * 3 : head * 3 + 3], t[row, :length, head * 6 : head * 6 + 6]
                for i in range(length):
                    p = torch.stack([t_head[i] @ t_head[j] / math.sqrt(6) for j in range(length)]).softmax(0)
                    q = torch.stack([s_head[i] @ s_head[j] / math.sqrt(3) for j in range(length)]).softmax(0)
                    term = (p * (p / q).log()).sum() / heads / 3
                    expected[row, i] = expected.get((row, i), 0) + term
    actual, expected = self_attention_relations(student, teacher, mask, heads), torch.stack(list(expected.values()))
    torch.testing.assert_close(actual, expected)
    for mine, naive in zip(torch.autograd.grad(actual.sum(), student), torch.autograd.grad(expected.sum(), student), strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, naive, atol=1e-6, rtol=1e-4)
