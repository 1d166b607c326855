import pytest
import torch
from conftest import logits_of

from hf_lrcompress.surgery.ffn_pruning import prune_ffn, select_neurons


def test_the_highest_scores_of_each_layer_are_kept_ascending():
    scores = torch.tensor([[3.0, 1.0, 2.0, 9.0], [0.0, 5.0, 5.0, 5.0]])
    assert select_neurons(scores, 2).tolist() == [[0, 3], [1, 2]]


def test_what_cannot_be_selected_is_refused():
    with pytest.raises(ValueError, match="cannot keep 5 of 4 neurons"):
        select_neurons(torch.zeros(2, 4), 5)
    with pytest.raises(ValueError, match="NaN"):
        select_neurons(torch.tensor([[1.0, float("nan")]]), 1)


@pytest.mark.parametrize(
    "keep", [torch.zeros(3, 5).long(), torch.tensor([[1, 0]] * 4), torch.tensor([[0, 36]] * 4), torch.tensor([[2, 2]] * 4)]
)
def test_wrong_indices_are_refused(model, keep):
    with pytest.raises(ValueError, match="keep_neurons"):
        prune_ffn(model, keep)


def test_the_result_is_the_model_with_the_other_activations_at_zero(model, inputs):
    keep = select_neurons(torch.rand(4, 36, generator=torch.Generator().manual_seed(5)), 11)
    small = prune_ffn(model, keep)
    for layer, neurons in zip(model.base_model.encoder.layer, keep, strict=True):
        mask = torch.zeros(36).index_fill(0, neurons, 1.0)
        layer.intermediate.register_forward_hook(lambda module, args, output, mask=mask: output * mask)
    torch.testing.assert_close(logits_of(small, inputs), logits_of(model, inputs))
