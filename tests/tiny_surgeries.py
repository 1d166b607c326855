"""A surgery of every kind for tiny models, what it is measured on, and what it must keep."""

import torch
from conftest import keep_two_layers

from hf_lrcompress.calibration.second_moments import collect_moments
from hf_lrcompress.models.architectures import intermediate_size_of, layers_of
from hf_lrcompress.models.rebuilding import tensors_of
from hf_lrcompress.surgery.ffn_pruning import prune_ffn, select_neurons
from hf_lrcompress.surgery.hidden_truncation import truncate_hidden
from hf_lrcompress.surgery.layer_reduction import reduce_layers


def scores(model, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(layers_of(model)), intermediate_size_of(model.config), generator=generator)


def batches(count=6, rows=10, length=12):
    generator = torch.Generator().manual_seed(3)
    made = []
    for _ in range(count):
        ids = torch.randint(5, 101, (rows, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[1::2, 8:] = 0
        made.append({"input_ids": ids, "attention_mask": mask})
    return made


SURGERIES = {
    "reduce_layers": lambda model: reduce_layers(model, keep_two_layers(model)),
    "prune_ffn": lambda model: prune_ffn(model, select_neurons(scores(model), 20)),
    "prune_ffn refit": lambda model: prune_ffn(model, select_neurons(scores(model), 20), collect_moments(model, batches())),
    "truncate_hidden": lambda model: truncate_hidden(model, 12),
    "truncate_hidden svd": lambda model: truncate_hidden(model, 12, "svd"),
    "truncate_hidden calibrated": lambda model: truncate_hidden(model, 12, "calibrated", collect_moments(model, batches())),
}
COPYING = ("reduce_layers", "prune_ffn", "truncate_hidden")
"""Those that copy weights and compute none: keeping everything is exact. One after the other they cut all that can be cut."""


def ties(model) -> set[frozenset[str]]:
    """Names that share a tensor."""
    names = {}
    for name, tensor in tensors_of(model).items():
        names.setdefault(id(tensor), set()).add(name)
    return {frozenset(group) for group in names.values() if len(group) > 1}
