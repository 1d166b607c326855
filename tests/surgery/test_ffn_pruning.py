from functools import partial

import pytest
import torch
from conftest import logits_of
from tiny_surgeries import batches
from torch import nn

from hf_lrcompress.calibration.second_moments import collect_moments
from hf_lrcompress.models.architectures import layers_of
from hf_lrcompress.surgery.ffn_pruning import output_importance, prune_ffn, select_neurons
from hf_lrcompress.surgery.moments import Moments
from hf_lrcompress.surgery.neuron_elimination import elimination_costs


def test_the_highest_scores_of_each_layer_are_kept_ascending():
    scores = torch.tensor([[3.0, 1.0, 2.0, 9.0], [0.0, 5.0, 5.0, 5.0]])
    assert select_neurons(scores, 2).tolist() == [[0, 3], [1, 2]]


def test_what_cannot_be_selected_is_refused():
    with pytest.raises(ValueError, match="cannot keep 5 of 4 neurons"):
        select_neurons(torch.zeros(2, 4), 5)
    with pytest.raises(ValueError, match="NaN"):
        select_neurons(torch.tensor([[1.0, float("nan")]]), 1)


@pytest.mark.parametrize("neurons", [[1, 0], [0, 36], [2, 2], []])
def test_wrong_indices_are_refused(model, neurons):
    with pytest.raises(ValueError, match="keep_neurons"):
        prune_ffn(model, torch.tensor([neurons] * len(layers_of(model))))
    with pytest.raises(ValueError, match="keep_neurons"):
        prune_ffn(model, torch.arange(5).expand(7, -1))


def test_the_result_is_the_model_with_the_other_activations_at_zero(model, inputs):
    """The activations are what the second linear module of the network gets."""
    scores = torch.rand(len(layers_of(model)), 36, generator=torch.Generator().manual_seed(5))
    keep = select_neurons(scores, 11)
    small = prune_ffn(model, keep)
    for layer, neurons in zip(layers_of(model), keep, strict=True):
        mask = torch.zeros(36).index_fill(0, neurons, 1.0)
        (second,) = [module for module in layer.modules() if isinstance(module, nn.Linear) and module.in_features == 36]
        second.register_forward_pre_hook(lambda module, args, mask=mask: (args[0] * mask,))
    torch.testing.assert_close(logits_of(small, inputs), logits_of(model, inputs))


def second_of(layer: nn.Module, size: int) -> nn.Linear:
    """The linear module that reads the neurons."""
    (second,) = [module for module in layer.modules() if isinstance(module, nn.Linear) and module.in_features == size]
    return second


def activations_of(model) -> list[torch.Tensor]:
    """For each layer what its second module is given, of shape `(tokens, neurons)`."""
    collected = [[] for _ in layers_of(model)]
    for found, layer in zip(collected, layers_of(model), strict=True):
        second_of(layer, 36).register_forward_pre_hook(lambda module, args, found=found: found.append(args[0]))
    with torch.no_grad():
        for batch in batches():
            before = [len(found) for found in collected]
            model(**batch)
            for found, start in zip(collected, before, strict=True):
                found[start:] = [given[batch["attention_mask"].bool()] for given in found[start:]]
    return [torch.cat(found).double() for found in collected]


def test_the_output_matrix_is_refitted_by_least_squares(model):
    moments = collect_moments(model, batches())
    keep = select_neurons(torch.rand(len(layers_of(model)), 36, generator=torch.Generator().manual_seed(5)), 20)
    small, plain = prune_ffn(model, keep, moments), prune_ffn(model, keep)
    activations = activations_of(model)
    for layer, given in enumerate(activations):
        wanted = given @ second_of(layers_of(model)[layer], 36).weight.double().T
        kept = given[:, keep[layer]]
        bias = second_of(layers_of(model)[layer], 36).bias
        if bias is not None:
            kept = torch.cat([kept, torch.ones(len(kept), 1)], dim=1)
        best = kept @ torch.linalg.lstsq(kept, wanted).solution - wanted
        new = second_of(layers_of(small)[layer], 20)
        constant = 0 if bias is None else new.bias.double() - bias.double()
        found = given[:, keep[layer]] @ new.weight.double().T + constant - wanted
        old = given[:, keep[layer]] @ second_of(layers_of(plain)[layer], 20).weight.double().T - wanted
        assert found.square().mean() < 1.01 * best.square().mean() + 1e-6
        assert found.square().mean() < old.square().mean()


def test_keeping_all_neurons_with_moments_changes_nothing(model, inputs):
    small = prune_ffn(model, torch.arange(36).expand(len(layers_of(model)), -1), collect_moments(model, batches()))
    torch.testing.assert_close(logits_of(small, inputs), logits_of(model, inputs))


def test_neurons_that_others_stand_in_for_are_the_first_to_go():
    """Neuron 3 is the sum of 1 and 2, 5 never fires and 7 is not read."""
    activations = torch.randn(500, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    activations[:, 3] = activations[:, 1] + activations[:, 2]
    activations[:, 5] = 0
    weight = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weight[:, 7] = 0
    rows = torch.cat([activations, torch.ones(500, 1)], dim=1)
    costs = elimination_costs(rows.T @ rows / 500, weight)
    order = costs.argsort(stable=True).tolist()
    assert {5, 7} < set(order[:3]) and set(order[:3]) - {5, 7} < {1, 2, 3}
    assert costs.sort().values[:3].max() < 0.01 * costs.sort().values[3]


def test_the_cost_is_that_of_removing_and_refitting():
    activations = torch.randn(500, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).cumsum(dim=1)
    weight = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rows = torch.cat([activations, torch.ones(500, 1)], dim=1)
    wanted = activations @ weight.T

    def error_without(removed):
        kept = rows[:, [i for i in range(9) if i not in removed]]
        return (kept @ torch.linalg.lstsq(kept, wanted).solution - wanted).square().sum().item() / 500

    costs = elimination_costs(rows.T @ rows / 500, weight)
    removed = []
    for _ in range(5):
        added = {i: error_without([*removed, i]) - error_without(removed) for i in range(8) if i not in removed}
        removed.append(min(added, key=added.get))
        assert costs[removed[-1]].item() == pytest.approx(added[removed[-1]], rel=0.05)


def test_neurons_chosen_by_their_output_change_it_least(model, inputs):
    moments = collect_moments(model, batches())
    scores = output_importance(model, moments)
    assert scores.shape == (len(layers_of(model)), 36) and scores.dtype == torch.float32
    expected = logits_of(model, inputs)
    good = logits_of(prune_ffn(model, select_neurons(scores, 20), moments), inputs)
    bad = logits_of(prune_ffn(model, select_neurons(-scores, 20), moments), inputs)
    assert (good - expected).square().mean() < (bad - expected).square().mean()


def test_the_moments_must_be_the_models(model):
    moments = Moments({})
    with pytest.raises(ValueError, match="there are no moments of"):
        prune_ffn(model, torch.arange(20).expand(len(layers_of(model)), -1), moments)
    with pytest.raises(ValueError, match="there are no moments of"):
        output_importance(model, moments)
    deeper = Moments({"encoder.layer.99.output.dense": torch.eye(33)})
    for use in (partial(prune_ffn, model, torch.arange(20).expand(len(layers_of(model)), -1)), partial(output_importance, model)):
        with pytest.raises(ValueError, match="moments of encoder.layer.99.output.dense, which this model does not have"):
            use(deeper)
