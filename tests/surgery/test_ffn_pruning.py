import pytest
import torch
from conftest import logits_of
from torch import nn

from hf_lrcompress.models.architectures import layers_of
from hf_lrcompress.surgery.ffn_pruning import prune_ffn, select_neurons


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
