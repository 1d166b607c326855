"""Every loss against the naive one: make all logits, then subtract."""

import pytest
import torch
from torch.nn import functional as F

from hf_lrcompress.distillation import cross_entropy, kl_divergence, losses

TOKENS, VOCABULARY, STUDENT, TEACHER = 23, 61, 8, 12


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 5 * VOCABULARY)  # 23 tokens: four full chunks and a part
    monkeypatch.setattr(cross_entropy, "TOKENS_AT_ONCE", 5)
    monkeypatch.setattr(cross_entropy, "SLICE", 8)  # 61 rows: seven full slices and a part


@pytest.fixture
def student():
    generator = torch.Generator().manual_seed(0)
    shapes = [(TOKENS, STUDENT), (VOCABULARY, STUDENT), (VOCABULARY,)]
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]


@pytest.fixture
def teacher():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for shape in [(TOKENS, TEACHER), (VOCABULARY, TEACHER), (VOCABULARY,)]]


@pytest.fixture
def labels():
    return torch.randint(0, VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(2))


def logits(features, weight, bias):
    return features @ weight.T + (0 if bias is None else bias)


def assert_same_loss_and_gradients(actual, expected, tensors):
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.linspace(0.1, 0.9, max(1, actual.numel())).reshape(actual.shape)
    gradients = [torch.autograd.grad(loss, tensors, upstream) for loss in (actual, expected)]
    for mine, naive in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, naive, rtol=1e-4, atol=1e-5)


def test_mse(student, teacher):
    expected = (logits(*student) - logits(*teacher)).square().sum(dim=-1)
    assert_same_loss_and_gradients(losses.linear_mse(*student, *teacher)[0], expected, student)
    gram = losses.gram(teacher[1])
    torch.testing.assert_close(losses.linear_mse(*student, *teacher, gram)[0], expected)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_loss_that_takes_the_weight_from_the_mse_shares_its_gradient(student, teacher, labels, alpha):
    features, _, bias = student
    mse, weight = losses.linear_mse(*student, *teacher)
    mlm = cross_entropy.linear_cross_entropy(features, weight, bias, labels)
    naive_mse = (logits(*student) - logits(*teacher)).square().sum(dim=-1)
    naive_mlm = F.cross_entropy(logits(*student), labels, reduction="sum")
    expected = alpha * naive_mlm + (1 - alpha) * naive_mse.mean()
    assert_same_loss_and_gradients(alpha * mlm + (1 - alpha) * mse.mean(), expected, student)


def test_the_weight_from_the_mse_serves_without_the_mse(student, teacher, labels):
    features, _, bias = student
    _, weight = losses.linear_mse(*student, *teacher)
    expected = F.cross_entropy(logits(*student), labels, reduction="sum")
    assert_same_loss_and_gradients(cross_entropy.linear_cross_entropy(features, weight, bias, labels), expected, student)


@pytest.mark.parametrize("without", ["student", "teacher", "both"])
def test_mse_without_a_bias(student, teacher, without):
    tensors = student[:2] if without != "teacher" else student
    if without in ("student", "both"):
        student = [*student[:2], None]
    if without in ("teacher", "both"):
        teacher = [*teacher[:2], None]
    expected = (logits(*student) - logits(*teacher)).square().sum(dim=-1)
    assert_same_loss_and_gradients(losses.linear_mse(*student, *teacher)[0], expected, tensors)


def test_mse_is_computed_in_fp32_inside_autocast(student, teacher):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = losses.linear_mse(*student, *teacher)[0]
    assert torch.equal(inside, losses.linear_mse(*student, *teacher)[0])


def test_cross_entropy(student, labels):
    expected = F.cross_entropy(logits(*student), labels, reduction="sum")
    assert_same_loss_and_gradients(cross_entropy.linear_cross_entropy(*student, labels), expected, student)


def test_cross_entropy_without_bias_and_without_tokens(student, labels):
    features, weight, _ = student
    expected = F.cross_entropy(features @ weight.T, labels, reduction="sum")
    assert_same_loss_and_gradients(
        cross_entropy.linear_cross_entropy(features, weight, None, labels), expected, [features, weight]
    )
    none = cross_entropy.linear_cross_entropy(features[:0], weight, None, labels[:0])
    assert none == 0
    assert torch.autograd.grad(none, weight)[0].eq(0).all()


@pytest.mark.parametrize("factor", [10, 1000])
def test_cross_entropy_of_large_logits(student, labels, factor):
    features, weight, bias = student
    features = (factor * features).detach().requires_grad_()
    expected = F.cross_entropy(logits(features, weight, bias), labels, reduction="sum")
    assert_same_loss_and_gradients(
        cross_entropy.linear_cross_entropy(features, weight, bias, labels), expected, [features, weight, bias]
    )


def test_cross_entropy_of_sure_tokens_keeps_its_gradient_in_bf16(student):
    """Where the label has probability 0.999, a product in bf16 of p and the weights would be wrong by more than 1 − p."""
    features, weight, bias = student
    sure = (logits(*student) * 4).argmax(dim=1)
    with torch.no_grad():
        bias[sure] += 0.5
        features *= 4
    loss = F.cross_entropy(logits(*student), sure, reduction="none")
    chosen = (loss < 0.01).nonzero()[:, 0]
    assert len(chosen) > 3
    tensors = [features, weight]
    exact = torch.autograd.grad(loss[chosen].sum(), tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = torch.autograd.grad(cross_entropy.linear_cross_entropy(features[chosen], weight, bias, sure[chosen]), tensors)
    for mine, naive in zip(actual, exact, strict=True):
        assert (mine - naive).norm() < 0.05 * naive.norm()


@pytest.mark.parametrize("pieces", [None, (3, 7)], ids=["whole", "in pieces"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_kl(student, teacher, temperature, pieces, monkeypatch):
    if pieces:
        monkeypatch.setattr(kl_divergence, "TOKENS_AT_ONCE", pieces[0])
        monkeypatch.setattr(kl_divergence, "SLICE", {"cpu": pieces[1]})
    log_student = (logits(*student) / temperature).log_softmax(-1)
    target = (logits(*teacher) / temperature).softmax(-1)
    expected = temperature**2 * (target * (target.log() - log_student)).sum(dim=-1)
    assert_same_loss_and_gradients(kl_divergence.linear_kl(*student, *teacher, temperature), expected, student)


def test_kl_of_a_model_with_itself_is_zero_and_no_tokens_have_none(student):
    given = [tensor.detach() for tensor in student]
    assert kl_divergence.linear_kl(*student, *given).abs().max() == 0
    none = kl_divergence.linear_kl(student[0][:0], student[1], None, given[0][:0], given[1], None)
    assert len(none) == 0 and torch.autograd.grad(none.sum(), student[1])[0].eq(0).all()


@pytest.mark.parametrize("factor", [10, 1000])
def test_kl_of_large_logits(student, teacher, factor):
    """Of tokens that the teacher is sure of, and the student as sure of others."""
    student[0] = (factor * student[0]).detach().requires_grad_()
    teacher = [factor * teacher[0], *teacher[1:]]
    expected = F.kl_div(logits(*student).log_softmax(-1), logits(*teacher).log_softmax(-1), reduction="none", log_target=True)
    assert_same_loss_and_gradients(kl_divergence.linear_kl(*student, *teacher), expected.sum(dim=-1), student)


def test_kl_in_bf16_is_as_near_as_that_of_logits_in_bf16(student, teacher):
    tensors = list(student)
    exact = torch.autograd.grad(naive_kl(student, teacher).sum(), tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = torch.autograd.grad(naive_kl(student, teacher).sum(), tensors)
        ours = torch.autograd.grad(kl_divergence.linear_kl(*student, *teacher).sum(), tensors)
    for mine, naive, right in zip(ours, theirs, exact, strict=True):
        assert (mine - right).norm() < 1.2 * (naive - right).norm() + 1e-3 * right.norm()


def naive_kl(student, teacher):
    log_probabilities = [F.linear(*tensors).float().log_softmax(-1) for tensors in (student, teacher)]
    return F.kl_div(*log_probabilities, reduction="none", log_target=True).sum(dim=-1)


def test_predictions(student, labels):
    naive = logits(*student).detach()
    actual, correct = losses.linear_predictions(*student, labels)
    torch.testing.assert_close(actual, F.cross_entropy(naive, labels, reduction="none"))
    assert torch.equal(correct, naive.argmax(dim=-1) == labels)
    assert all(len(part) == 0 for part in losses.linear_predictions(student[0][:0], *student[1:], labels[:0]))
