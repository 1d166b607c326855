import pytest
import torch
from conftest import logits_of
from torch import nn
from torch.nn import functional as F

from hf_lrcompress.surgery.hidden_truncation import select_dims, truncate_hidden


def test_sizes_that_do_not_fit_are_refused_with_the_nearest_that_do(model):
    with pytest.raises(ValueError, match="hidden_size 13 is not divisible by the 3 attention heads; use 12 or 15"):
        truncate_hidden(model, 13)
    with pytest.raises(ValueError, match="hidden_size 27 is not in 1 to 24"):
        truncate_hidden(model, 27)
    with pytest.raises(ValueError, match="unknown method 'svd'; choose one of truncate"):
        truncate_hidden(model, 12, "svd")


def test_the_first_dimensions_are_selected(model):
    assert select_dims(model.config, 6).tolist() == list(range(6))


def test_the_result_is_the_model_with_the_other_dimensions_held_at_zero(model, inputs):
    """By hand: zero every row and column of a dropped dimension, and let the norms see the kept ones only."""
    small = truncate_hidden(model, 12)
    heads, old_head, new_head = 3, 8, 4
    hidden = torch.zeros(24).index_fill(0, torch.arange(12), 1.0)
    inner = torch.zeros(heads, old_head).index_fill(1, torch.arange(new_head), 1.0).flatten()
    embeddings = model.base_model.embeddings
    with torch.no_grad():
        for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
            table.weight *= hidden
        for layer in model.base_model.encoder.layer:
            attention = layer.attention.self
            for linear in (attention.query, attention.key, attention.value):
                linear.weight *= inner[:, None]
                linear.bias *= inner
            # The scores are divided by the root of the new head size, not of the old.
            attention.query.weight *= (old_head / new_head) ** 0.5
            attention.query.bias *= (old_head / new_head) ** 0.5
            for linear in (layer.attention.output.dense, layer.output.dense):
                linear.weight *= hidden[:, None]
                linear.bias *= hidden
        head = model.get_submodule("cls.predictions.transform" if hasattr(model, "cls") else "lm_head").dense
        head.weight *= hidden[:, None]
        head.bias *= hidden

    def norm_of_kept(norm: nn.LayerNorm, args, output):
        kept = F.layer_norm(args[0][..., :12], (12,), norm.weight[:12], norm.bias[:12], norm.eps)
        return F.pad(kept, (0, 12))

    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(norm_of_kept)
    torch.testing.assert_close(logits_of(small, inputs), logits_of(model, inputs))
