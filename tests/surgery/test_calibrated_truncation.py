"""What calibrated truncation promises on every family, beyond what every surgery does."""

import pytest
import torch
from conftest import logits_of, randomise, tiny_model
from tiny_surgeries import batches
from torch import nn
from transformers import AutoModel

from hf_lrcompress.calibration.second_moments import collect_moments
from hf_lrcompress.models.architectures import architecture_of
from hf_lrcompress.models.rebuilding import masked_lm_on_meta
from hf_lrcompress.surgery.calibrated_truncation import fold_readers, readers_of, scale_norms, stream_covariance
from hf_lrcompress.surgery.dimension_selection import explained_share
from hf_lrcompress.surgery.hidden_truncation import select_dims, truncate_hidden, truncation_record
from hf_lrcompress.surgery.layer_reduction import reduce_layers
from hf_lrcompress.surgery.moments import Moments

BATCH = {name: torch.cat([batch[name] for batch in batches()]) for name in batches()[0]}
KEEP = torch.arange(0, 24, 2)


@pytest.fixture
def moments(model):
    return collect_moments(model, batches())


def states_of(model):
    """The encoder's output at the tokens that are not padding, with a 1 behind."""
    with torch.no_grad():
        states = model.base_model(**BATCH)[0][BATCH["attention_mask"].bool()].double()
    return torch.cat([states, torch.ones(len(states), 1)], dim=1)


def unexplained(small, model):
    """The mean square of the full states that no affine map of the small ones explains."""
    given, wanted = states_of(small), states_of(model)
    return (given @ torch.linalg.lstsq(given, wanted).solution - wanted).square().mean()


def test_calibrated_is_nearer_to_the_full_model_than_truncated(model, moments):
    calibrated, truncated = truncate_hidden(model, 12, "calibrated", moments), truncate_hidden(model, 12)
    assert unexplained(calibrated, model) < unexplained(truncated, model)
    expected = logits_of(model, BATCH)
    error = (logits_of(calibrated, BATCH) - expected).square().mean()
    assert error < (logits_of(truncated, BATCH) - expected).square().mean()


def test_the_parameters_are_as_many_and_the_config_the_same(model, moments):
    small = truncate_hidden(model, 12, "calibrated", moments)
    assert small.config.to_dict() == truncate_hidden(model, 12).config.to_dict()
    assert small.num_parameters() == masked_lm_on_meta(small.config).num_parameters()


def test_so_it_is_for_an_encoder_without_head(model, tmp_path):
    model.save_pretrained(tmp_path)
    encoder = randomise(AutoModel.from_pretrained(tmp_path)).eval()
    small = truncate_hidden(encoder, 12, "calibrated", collect_moments(encoder, batches()))
    assert unexplained(small, encoder) < unexplained(truncate_hidden(encoder, 12), encoder)


def dependent_rows(seed=0):
    """Inputs whose removed dimensions are affine functions of the kept ones."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(400, 24, generator=generator)
    function = torch.randn(12, 12, generator=generator) / 4
    rows[:, KEEP + 1] = rows[:, KEEP] @ function.T
    return rows


def test_linear_maps_compute_the_same_where_removed_dimensions_are_functions_of_kept_ones(model):
    rows = dependent_rows().double()
    augmented = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    small = truncate_hidden(model, 12)
    readers = readers_of(model, small)
    fold_readers(model, small, KEEP, Moments(dict.fromkeys(readers, augmented.T @ augmented)))
    assert readers
    for old, new in readers.values():
        if isinstance(new, nn.Linear) and new.weight is not small.get_input_embeddings().weight:
            wanted = old(rows.float())
            wanted = wanted if new.out_features == old.out_features else wanted[:, KEEP]
            torch.testing.assert_close(new(rows[:, KEEP].float()), wanted, rtol=0.01, atol=0.01)


def test_a_convolution_over_the_text_is_folded_too():
    model = tiny_model("deberta-v2 convolution")
    rows = dependent_rows()
    augmented = torch.cat([rows, torch.ones(len(rows), 1)], dim=1).double()
    small = truncate_hidden(model, 12)
    (path,) = [path for path, (old, _) in readers_of(model, small).items() if isinstance(old, nn.Conv1d)]
    fold_readers(model, small, KEEP, Moments({path: augmented.T @ augmented}))
    wanted = model.get_submodule(path)(rows.T[None])[0, KEEP, 1:-1]
    torch.testing.assert_close(small.get_submodule(path)(rows.T[None, KEEP])[0, :, 1:-1], wanted, rtol=0.01, atol=0.02)


def test_the_bias_of_a_tied_output_layer_takes_in_the_mean_of_what_is_removed():
    model = tiny_model("bert")
    small = truncate_hidden(model, 12)
    mean = torch.randn(24, generator=torch.Generator().manual_seed(2)).double()
    rows = torch.cat([mean, torch.ones(1)])[None]
    path = "cls.predictions.decoder"
    before = small.get_submodule(path).bias.clone()
    fold_readers(model, small, torch.arange(12), Moments({path: rows.T @ rows}))
    removed = model.get_submodule(path).weight[:, 12:] @ mean[12:].float()
    torch.testing.assert_close(small.get_submodule(path).bias, before + removed)
    assert small.get_submodule(path).weight is small.get_input_embeddings().weight


def test_a_norm_gives_the_kept_dimensions_their_size_back(model, moments):
    """On average over the text, the mean square before gain and bias is what it was."""
    small = truncate_hidden(model, 12)
    gains = {name: weight.clone() for name, weight in small.named_parameters() if weight.ndim == 1}
    scale_norms(model, small, torch.arange(12), moments)
    for path, norm in small.named_modules():
        if "Norm" in type(norm).__name__ and len(norm.weight) == 12:
            second = moments.mean(path, 24)[:-1, :-1]
            over = (second[:12, :12], second)
            spread = [part.diagonal().mean() - (part.mean() if isinstance(norm, nn.LayerNorm) else 0) for part in over]
            expected = gains[f"{path}.weight"] * (spread[0] / spread[1]).sqrt()
            torch.testing.assert_close(norm.weight, expected.float())


def test_dimensions_are_those_that_explain_the_most(model, moments):
    keep_dims = select_dims(model.config, 12, "calibrated", moments)
    assert keep_dims.tolist() == sorted(set(keep_dims.tolist())) and len(keep_dims) == 12
    covariance = stream_covariance(model.config, moments)
    record = truncation_record(model.config, 12, moments)
    assert record["explained"] == explained_share(covariance, keep_dims) > record["explained_by_first"]
    assert record["scores"] == ("pairs" if architecture_of(model.config).rotary else "low rank")


def test_moments_are_needed_and_must_be_the_models():
    model = tiny_model("bert")
    with pytest.raises(ValueError, match=r"needs moments; measure them with collect_moments\(model, batches\)"):
        truncate_hidden(model, 12, "calibrated")
    for other in (reduce_layers(model, [0, 2]), tiny_model("roberta")):  # of the first the layers are others, the paths are there
        with pytest.raises(ValueError, match="which this model does not have; measure them on the model that is cut"):
            truncate_hidden(other, 12, "calibrated", collect_moments(model, batches()))
