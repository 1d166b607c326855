import pytest
import torch
from torch import nn

from hf_lrcompress.surgery.folding import augmented, folded, linear_at, predictor, selection, write

KEEP = torch.tensor([0, 2, 3, 5])


def dependent_inputs(rows=200, constant=True):
    """Inputs of 7 dimensions, of which those that are not kept are affine functions of the kept ones."""
    generator = torch.Generator().manual_seed(4)
    kept = torch.randn(rows, 4, dtype=torch.float64, generator=generator) + 1.0
    function = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    removed = kept @ function.T + (2.0 if constant else 0.0)
    inputs = torch.zeros(rows, 7, dtype=torch.float64)
    inputs[:, KEEP] = kept
    inputs[:, [1, 4, 6]] = removed
    return inputs


def moment_of(inputs):
    rows = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], dim=1)
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_folded_layer_computes_the_same_where_removed_inputs_are_functions_of_kept_ones(has_bias):
    inputs = dependent_inputs(constant=has_bias)
    old = nn.Linear(7, 5, bias=has_bias).double()
    new = nn.Linear(4, 5, bias=has_bias).double()
    write(new, folded(augmented(old), predictor(moment_of(inputs), selection(KEEP, 7), constant=has_bias)))
    torch.testing.assert_close(new(inputs[:, KEEP]), old(inputs), rtol=1e-2, atol=1e-2)


def test_the_prediction_is_that_of_least_squares():
    inputs = torch.randn(300, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).cumsum(dim=1) + 1.0
    given = torch.cat([inputs[:, KEEP], torch.ones(300, 1, dtype=torch.float64)], dim=1)
    expected = torch.linalg.lstsq(given, inputs).solution.T
    torch.testing.assert_close(predictor(moment_of(inputs), selection(KEEP, 7)), expected, rtol=1e-2, atol=1e-2)


def test_what_is_kept_predicts_itself_exactly():
    predict = predictor(moment_of(dependent_inputs()), selection(KEEP, 7))
    assert torch.equal(predict[KEEP], torch.eye(4, 5, dtype=torch.float64))


def test_the_mean_is_predicted_exactly():
    inputs = torch.randn(300, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) + torch.arange(7)
    predict = predictor(moment_of(inputs), selection(KEEP, 7))
    mean = inputs.mean(dim=0)
    torch.testing.assert_close(predict[:, :-1] @ mean[KEEP] + predict[:, -1], mean)


def test_dimensions_that_never_change_can_be_kept_or_removed():
    inputs = dependent_inputs()
    inputs[:, 0] = 3.0
    inputs[:, 1] = 0.0
    assert torch.isfinite(predictor(moment_of(inputs), selection(KEEP, 7))).all()
    assert torch.isfinite(predictor(moment_of(torch.zeros(9, 7, dtype=torch.float64)), selection(KEEP, 7))).all()


def test_another_module_is_not_taken_for_a_linear_one():
    with pytest.raises(TypeError, match="0 is a Tanh, not a linear module"):
        linear_at(nn.Sequential(nn.Tanh()), "0")
