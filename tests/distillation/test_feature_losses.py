"""Feature losses against loops written from the definitions."""

import math

import pytest
import torch

from hf_lrcompress.distillation.feature_losses import (
    hidden_state_cosine,
    hidden_state_mse,
    pooled,
    self_attention_relations,
    similarity_disagreement,
)
from hf_lrcompress.distillation.similarity import correlation


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


def test_disagreement_is_one_minus_the_correlation_of_a_sentences_similarities():
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(5, 6, generator=generator)
    teacher = torch.randn(5, 12, generator=generator)
    centred = [vectors - vectors.mean(dim=0) for vectors in (student, teacher)]
    for i, actual in enumerate(similarity_disagreement(student, teacher)):
        others = [j for j in range(5) if j != i]
        rows = [torch.stack([x[i] @ x[j] / (x[i].norm() * x[j].norm()) for j in others]) for x in centred]
        assert actual.item() == pytest.approx(1 - correlation(*rows), abs=1e-6)


def test_disagreement_is_none_for_what_is_turned_and_scaled_alike(states):
    turned = 3 * states[1] @ torch.linalg.qr(torch.randn(8, 8))[0] + 1
    torch.testing.assert_close(similarity_disagreement(turned, states[1]), torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("count", [1, 2])
def test_of_two_sentences_there_is_nothing_to_correlate(states, count):
    losses = similarity_disagreement(states[0][:count], states[1][:count])
    losses.sum().backward()
    assert losses.tolist() == [0] * count
    assert not states[0].grad.any()


def test_the_first_token_is_the_first_that_is_no_padding():
    states = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, True, False], [False, True, True]])
    assert pooled(states, mask, "cls").tolist() == [[0, 1], [8, 9]]


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
