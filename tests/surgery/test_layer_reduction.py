import itertools

import pytest
import torch
from conftest import MODEL_TYPES, SHARED_LAYERS, keep_two_layers, logits_of, tiny_model

from hf_lrcompress.models.architectures import layers_of
from hf_lrcompress.surgery.layer_reduction import (
    fitting_layers,
    reduce_layers,
    select_layers,
    select_layers_measured,
    with_random_layers,
)


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


def test_the_layer_whose_removal_costs_least_goes_first():
    worth = [5, 1, 4, 1, 3, 2]
    asked = []

    def error(keep_layers):
        asked.append(tuple(keep_layers))
        return -sum(worth[layer] for layer in keep_layers) + 10 * (keep_layers == [0, 1, 2, 4, 5])

    assert select_layers_measured(6, 4, error) == [0, 2, 4, 5]
    assert len(asked) == 6 + 5
    assert select_layers_measured(6, 6, error) == [0, 1, 2, 3, 4, 5]
    assert select_layers_measured(3, 1, lambda keep_layers: 0.0) == [0]
    with pytest.raises(ValueError, match="cannot keep 7 of 6 layers"):
        select_layers_measured(6, 7, error)


def test_layers_can_be_chosen_by_what_their_absence_changes(inputs):
    """A layer that adds nothing to the stream is the first to go."""
    model = tiny_model("xlm-roberta-xl")
    nothing = layers_of(model)[2]
    with torch.no_grad():
        for linear in (nothing.attention.output.dense, nothing.output.dense):
            linear.weight.zero_()
            linear.bias.zero_()
    expected = logits_of(model, inputs)

    def error(keep_layers):
        return (logits_of(reduce_layers(model, keep_layers), inputs) - expected).square().mean().item()

    assert select_layers_measured(4, 3, error) == [0, 1, 3]


def test_too_many_layers_and_unknown_strategies_are_refused():
    with pytest.raises(ValueError, match="cannot keep 13 of 12 layers"):
        select_layers(12, 13)
    with pytest.raises(ValueError, match="unknown strategy 'middle'; choose one of stride"):
        select_layers(12, 6, "middle")


@pytest.mark.parametrize("keep_layers", [[], [2, 1], [1, 1], [0, 4], [-1, 2]])
def test_wrong_indices_are_refused(model, keep_layers):
    with pytest.raises(ValueError, match="ascending layer indices from 0 to 3"):
        reduce_layers(model, keep_layers)


def pass_through(module, args, kwargs, output):
    hidden = args[0] if args else kwargs["hidden_states"]
    return hidden if torch.is_tensor(output) else (hidden, *output[1:])


@pytest.mark.parametrize("family", [family for family in MODEL_TYPES if family not in SHARED_LAYERS])
def test_the_result_is_the_model_with_the_other_layers_passing_their_input_on(family, inputs):
    model = tiny_model(family)
    small = reduce_layers(model, keep_two_layers(model))
    for i, layer in enumerate(layers_of(model)):
        if i not in keep_two_layers(model):
            layer.register_forward_hook(pass_through, with_kwargs=True)
    torch.testing.assert_close(logits_of(small, inputs), logits_of(model, inputs), rtol=0, atol=0)
    assert small.config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("family", "refused", "nearest"),
    [
        ("modernbert", [1, 3], [0, 3]),  # the first layer has no norm
        ("modernbert", [0, 2], [0, 1]),  # global and local attention take turns
        ("modernbert", [0, 1, 3], [0, 1, 2]),
        ("deberta-v2 convolution", [1, 3], [0, 3]),  # the convolution comes after the first layer
    ],
)
def test_layers_that_would_become_others_are_refused_with_the_nearest_that_fit(family, refused, nearest):
    model = tiny_model(family)
    with pytest.raises(ValueError, match=r"another kind of layer .* use keep_layers \[" + ", ".join(map(str, nearest))):
        reduce_layers(model, refused)
    assert fitting_layers(model, refused) == nearest == fitting_layers(model, nearest)
    reduce_layers(model, nearest)


@pytest.mark.once
def test_the_nearest_layers_are_the_best_of_all(inputs):
    model = tiny_model("modernbert", num_hidden_layers=9)
    kinds = [(i == 0, i % 2) for i in range(9)]
    for wanted in itertools.combinations(range(9), 4):
        choices = [c for c in itertools.combinations(range(9), 4) if [kinds[i] for i in c] == kinds[:4]]
        distance = min(sum(abs(a - b) for a, b in zip(choice, wanted, strict=True)) for choice in choices)
        found = fitting_layers(model, wanted)
        assert tuple(found) in choices and sum(abs(a - b) for a, b in zip(found, wanted, strict=True)) == distance


@pytest.mark.parametrize("family", SHARED_LAYERS)
def test_layers_that_share_their_weights_cannot_be_reduced(family):
    with pytest.raises(ValueError, match="share one set of weights"):
        reduce_layers(tiny_model(family), [0, 1])


def test_random_layers_are_those_of_an_untrained_model_and_the_rest_stays(model, inputs):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = with_random_layers(model, seed=1)
    of_layers = {id(parameter) for parameter in layers_of(model).parameters()}
    layers = {name for name, parameter in model.named_parameters() if id(parameter) in of_layers}
    for name, tensor in made.state_dict().items():
        assert torch.equal(model.state_dict()[name], before[name])
        if name not in layers:
            assert torch.equal(tensor, before[name]), name
    changed = {name for name in layers if not torch.equal(made.state_dict()[name], before[name])}
    assert len(changed) == len(layers) and logits_of(made, inputs).isfinite().all()
    again = with_random_layers(model, seed=1)
    other = with_random_layers(model, seed=2)
    torch.testing.assert_close(logits_of(again, inputs), logits_of(made, inputs))
    assert not torch.allclose(logits_of(other, inputs), logits_of(made, inputs))
