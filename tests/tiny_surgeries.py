"""A surgery of every kind that gives a tiny model a small one."""

import torch
from conftest import keep_two_layers

from hf_lrcompress.models.architectures import intermediate_size_of, layers_of
from hf_lrcompress.surgery.ffn_pruning import prune_ffn, select_neurons
from hf_lrcompress.surgery.hidden_truncation import truncate_hidden
from hf_lrcompress.surgery.layer_reduction import reduce_layers


def scores(model, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(layers_of(model)), intermediate_size_of(model.config), generator=generator)


SURGERIES = {
    "reduce_layers": lambda model: reduce_layers(model, keep_two_layers(model)),
    "prune_ffn": lambda model: prune_ffn(model, select_neurons(scores(model), 20)),
    "truncate_hidden": lambda model: truncate_hidden(model, 12),
}
