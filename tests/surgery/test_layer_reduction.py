import pytest
import torch
from conftest import logits_of
from torch import nn

from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("stride", [0, 2, 4, 6, 8, 10]),
        ("last", [6, 7, 8, 9, 10, 11]),
        ("first", [0, 1, 2, 3, 4, 5]),
        ("first_last", [0, 1, 2, 9, 10, 11]),
    ],
)
def test_twelve_to_six(strategy, expected):
    assert select_layers(12, 6, strategy) == expected


@pytest.mark.parametrize("strategy", ["stride", "last", "first", "first_last"])
@pytest.mark.parametrize("count", range(1, 13))
def test_any_number_gives_that_many_ascending_layers(strategy, count):
    for target in range(1, count + 1):
        layers = select_layers(count, target, strategy)
        assert len(layers) == target and layers == sorted(set(layers)) and 0 <= layers[0] <= layers[-1] < count


def test_too_many_layers_and_unknown_strategies_are_refused():
    with pytest.raises(ValueError, match="cannot keep 13 of 12 layers"):
        select_layers(12, 13)
    with pytest.raises(ValueError, match="unknown strategy 'middle'; choose one of stride"):
        select_layers(12, 6, "middle")


@pytest.mark.parametrize("keep_layers", [[], [2, 1], [1, 1], [0, 4], [-1, 2]])
def test_wrong_indices_are_refused(model, keep_layers):
    with pytest.raises(ValueError, match="ascending layer indices from 0 to 3"):
        reduce_layers(model, keep_layers)


def test_the_result_is_the_model_with_the_other_layers_removed(model, inputs):
    small = reduce_layers(model, [1, 3])
    layers = model.base_model.encoder.layer
    model.base_model.encoder.layer = nn.ModuleList([layers[1], layers[3]])
    torch.testing.assert_close(logits_of(small, inputs), logits_of(model, inputs), rtol=0, atol=0)
    assert small.config.num_hidden_layers == 2
