"""A mistake in a notebook is one line that says what to give."""

import numpy as np
import pytest
import torch
from conftest import logits_of, tiny_model

from hf_lrcompress import prune_ffn, reduce_layers, select_layers, select_neurons, truncate_hidden

NEURONS = torch.arange(20).repeat(4, 1)

MISTAKES = {
    "half a hidden size": (lambda model: truncate_hidden(model, 24 / 2), "hidden_size must be a whole number, got 12.0"),
    "half of the layers": (lambda model: select_layers(12, 12 / 2), "number of layers to keep must be a whole number, got 6.0"),
    "half of the neurons": (
        lambda model: select_neurons(torch.rand(4, 36), 36 / 2),
        "intermediate_size must be a whole number, got 18.0",
    ),
    "indices as numbers with a point": (lambda model: prune_ffn(model, NEURONS.float()), "keep_neurons must be indices"),
    "a mask": (lambda model: prune_ffn(model, torch.ones(4, 36) > 0), "keep_neurons must be indices"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        call(tiny_model("bert"))


@pytest.mark.parametrize("number", [np.int64, torch.tensor], ids=["numpy", "torch"])
def test_numbers_of_other_libraries_are_whole_ones_too(number, inputs):
    model = tiny_model("bert")
    neurons = select_neurons(torch.rand(4, 36), number(20))
    cut = truncate_hidden(prune_ffn(model, neurons), number(12))
    assert cut.config.hidden_size == 12 and select_layers(4, number(2)) == [0, 2]
    lists = prune_ffn(model, neurons.tolist())
    torch.testing.assert_close(logits_of(lists, inputs), logits_of(prune_ffn(model, neurons.numpy()), inputs), rtol=0, atol=0)
    assert reduce_layers(model, np.array([0, 2])).config.num_hidden_layers == 2
