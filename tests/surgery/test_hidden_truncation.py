import copy

import pytest
import torch
from conftest import ROWS, logits_of, tiny_config, tiny_model
from torch import nn

from hf_lrcompress.models.architectures import architecture_of, layers_of
from hf_lrcompress.models.rebuilding import with_hidden_size
from hf_lrcompress.surgery.hidden_truncation import select_dims, truncate_hidden

ROTATED = {"modernbert", "eurobert"}


@pytest.mark.parametrize("family", [family for family in ROWS if family not in ROTATED])
def test_sizes_that_do_not_fit_are_refused_with_the_nearest_that_do(family):
    model = tiny_model(family)
    with pytest.raises(ValueError, match="hidden_size 13 is not divisible by the 3 attention heads; use 12 or 15"):
        truncate_hidden(model, 13)
    with pytest.raises(ValueError, match="hidden_size 27 is not in 1 to 24"):
        truncate_hidden(model, 27)
    with pytest.raises(ValueError, match="unknown method 'first'; choose one of truncate, calibrated, svd"):
        truncate_hidden(model, 12, "first")


@pytest.mark.parametrize("family", sorted(ROTATED & set(ROWS)))
def test_rotated_heads_have_an_even_size(family):
    with pytest.raises(ValueError, match="hidden_size 15 is not divisible by 2 × the 3 attention heads; use 12 or 18"):
        truncate_hidden(tiny_model(family), 15)


def test_a_size_at_which_the_class_drops_a_projection_is_refused():
    with pytest.raises(ValueError, match="12 is also the size of the embeddings, .*; use 9 or 15"):
        truncate_hidden(tiny_model("electra", embedding_size=12), 12)


def test_heads_that_are_not_a_share_of_the_hidden_size_are_refused():
    with pytest.raises(ValueError, match="this model's have 6"):
        with_hidden_size(tiny_config("deberta-v2 convolution", attention_head_size=6), 12)


def test_the_first_dimensions_are_selected(model):
    assert select_dims(model.config, 6).tolist() == list(range(6))


HIDDEN = torch.zeros(24).index_fill(0, torch.arange(12), 1.0)


def inner_mask(model, heads: int) -> torch.Tensor:
    """Of each head of 8 dimensions the first 4; where pairs i and i + 4 turn together, pairs 0 and 2, which turn at the speeds
    base^(-0 / 4) and base^(-2 / 4) of a head of 4."""
    kept = [0, 2, 4, 6] if model.config.model_type in ROTATED else [0, 1, 2, 3]
    return torch.zeros(heads, 8).index_fill(1, torch.tensor(kept), 1.0).flatten()


def norm_of_kept(norm: nn.Module, args, output):
    """A norm, layer or root mean square, over the kept dimensions only."""
    narrow = type(norm)(12, eps=getattr(norm, "eps", None) or norm.variance_epsilon)
    for name, parameter in norm.named_parameters():
        setattr(narrow, name, nn.Parameter(parameter[:12]))
    if getattr(norm, "bias", None) is None:
        narrow.bias = None
    return nn.functional.pad(narrow(args[0][..., :12]), (0, 12))


def zero_dropped(model) -> None:
    row = architecture_of(model.config)
    projections = [layer.get_submodule(name) for layer in layers_of(model) for name in row.attention_inputs if has(layer, name)]
    outputs = [layer.get_submodule(row.attention_output) for layer in layers_of(model)]
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            for dim, length in enumerate(parameter.shape):
                inner = (module in projections and dim == 0) or (module in outputs and dim == 1)
                if inner or length == 24:
                    mask = inner_mask(model, length // 8) if inner else HIDDEN
                    parameter *= mask.view([-1 if d == dim else 1 for d in range(parameter.ndim)])
                    if inner and dim == 0:
                        scale_queries(parameter, name_of(model, module))


def has(layer: nn.Module, name: str) -> bool:
    return name in dict(layer.named_modules())


def name_of(model: nn.Module, module: nn.Module) -> str:
    return next(name for name, one in model.named_modules() if one is module).rpartition(".")[2]


def scale_queries(parameter: torch.Tensor, name: str) -> None:
    """The scores are divided by the root of the new head size, not of the old."""
    rows = len(parameter) // 3 if name == "Wqkv" else len(parameter) if "q" in name else 0
    parameter[:rows] *= 2**0.5


def test_the_result_is_the_model_with_the_other_dimensions_held_at_zero(model, inputs):
    small = truncate_hidden(model, 12)
    with torch.no_grad():
        zero_dropped(model)
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if "Norm" in type(module).__name__ and weight.shape == (24,):
            module.register_forward_hook(norm_of_kept)
    torch.testing.assert_close(logits_of(small, inputs), logits_of(model, inputs))


def test_svd_cuts_the_best_approximation_of_each_matrix(model, inputs):
    small = truncate_hidden(model, 12, "svd")
    approximated = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in approximated.parameters():
            if parameter.ndim == 2 and 24 in parameter.shape:
                left, values, right = torch.linalg.svd(parameter, full_matrices=False)
                parameter.copy_((left[:, :12] * values[:12]) @ right[:12])
    torch.testing.assert_close(
        logits_of(small, inputs), logits_of(truncate_hidden(approximated, 12), inputs), rtol=1e-3, atol=1e-3
    )
