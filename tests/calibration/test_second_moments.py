import pytest
import torch
from conftest import tiny_model
from tiny_surgeries import batches
from transformers import AutoModel

from hf_lrcompress import Moments, collect_moments, truncate_hidden
from hf_lrcompress.models.architectures import architecture_of, layers_of
from hf_lrcompress.surgery.moments import LAST_HIDDEN_STATE, centred


def moments_by_hand(states, masks):
    """Σ [x; 1][x; 1]ᵀ, one token after another."""
    total = torch.zeros(states[0].shape[-1] + 1, states[0].shape[-1] + 1, dtype=torch.float64)
    for state, mask in zip(states, masks, strict=True):
        for token in state[mask.bool()].double():
            row = torch.cat([token, torch.ones(1, dtype=torch.float64)])
            total += torch.outer(row, row)
    return total


def test_the_moments_are_those_of_the_tokens_that_are_not_padding(model):
    with torch.no_grad():
        states = [model.base_model(**batch)[0] for batch in batches()]
    expected = moments_by_hand(states, [batch["attention_mask"] for batch in batches()])
    measured = collect_moments(model, batches()).sums[LAST_HIDDEN_STATE]
    assert measured.dtype == torch.float64
    torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-4)


def test_every_linear_map_and_norm_of_a_layer_is_measured(model):
    moments = collect_moments(model, batches())
    row = architecture_of(model.config)
    names = {name: module for name, module in model.named_modules() if module in set(layers_of(model)[0].modules())}
    weights = [name for name, module in names.items() if "weight" in module._parameters]
    assert weights
    for name in weights:
        assert name in moments.sums, name
    assert any(name.endswith(row.attention_output) for name in weights)


def test_the_input_of_a_layer_is_what_its_queries_are_made_from():
    model = tiny_model("bert")
    with torch.no_grad():
        states = [model.bert(**batch, output_hidden_states=True).hidden_states[2] for batch in batches()]
    expected = moments_by_hand(states, [batch["attention_mask"] for batch in batches()])
    measured = collect_moments(model, batches()).sums["bert.encoder.layer.2.attention.self.query"]
    torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-4)


def test_moments_of_two_texts_add_up_to_those_of_both(model):
    parts = collect_moments(model, batches()[:3]) + collect_moments(model, batches()[3:])
    whole = collect_moments(model, batches())
    assert set(parts.sums) == set(whole.sums)
    for path, moment in whole.sums.items():
        torch.testing.assert_close(parts.sums[path], moment)


def test_more_padding_changes_nothing():
    model = tiny_model("xlm-roberta")
    padded = []
    for batch in batches():
        padded.append({name: torch.nn.functional.pad(tensor, (0, 5)) for name, tensor in batch.items()})
    expected = collect_moments(model, batches())
    for path, moment in collect_moments(model, padded).sums.items():
        torch.testing.assert_close(moment, expected.sums[path], rtol=1e-4, atol=1e-4)


def test_an_encoder_without_head_has_the_same_moments(tmp_path):
    model = tiny_model("roberta")
    model.save_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False)
    expected = collect_moments(model, batches())
    for path, moment in collect_moments(encoder, batches()).sums.items():
        name = path if path == LAST_HIDDEN_STATE else f"roberta.{path}"
        torch.testing.assert_close(moment, expected.sums[name])


def test_logits_are_not_computed_and_the_mode_is_kept(model):
    def refuse(*args):
        raise AssertionError("the output layer ran")

    model.get_output_embeddings().forward = refuse
    model.train()
    collect_moments(model, [{**batch, "labels": batch["input_ids"]} for batch in batches()])
    assert model.training
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_too_few_tokens_are_refused_with_the_number_that_is_needed():
    with pytest.raises(ValueError, match=r"the calibration text has 20 tokens, but .* has 24 dimensions; give at least 24"):
        collect_moments(tiny_model("bert"), batches(count=1, rows=2))
    with pytest.raises(ValueError, match="there is no calibration text"):
        collect_moments(tiny_model("bert"), [])


def test_a_norm_over_few_relative_positions_is_measured():
    """mDeBERTa's has as many inputs as there are relative positions, whatever the text: a norm needs no inverse of them."""
    model = tiny_model("deberta-v2", hidden_size=96, num_attention_heads=4)
    moments = collect_moments(model, batches(count=1, rows=20))
    assert truncate_hidden(model, 48, "calibrated", moments).config.hidden_size == 48


@pytest.mark.parametrize("length", [15, 16, 17])
def test_relative_positions_are_no_text_of_their_number(length):
    """DeBERTa's table of relative positions, 16 here, goes through the layers' maps as a text does."""
    ids = torch.zeros(1, length, dtype=torch.long)
    ids[0, :12] = torch.arange(5, 17)
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    model = tiny_model("deberta-v2")
    count = collect_moments(model, [batch] * 4).sums["deberta.encoder.layer.1.attention.self.query_proj"][-1, -1]
    assert count == 4 * (12 + 2 * model.config.position_buckets)


def test_a_model_that_computes_in_chunks_is_refused():
    with pytest.raises(ValueError, match="load the model with chunk_size_feed_forward=0"):
        collect_moments(tiny_model("bert", chunk_size_feed_forward=4), batches())


def test_what_was_measured_on_another_model_is_refused():
    moments = collect_moments(tiny_model("bert"), batches())
    with pytest.raises(ValueError, match="no moments of encoder.layer.0 with 24 dimensions"):
        moments.mean("encoder.layer.0", 24)
    with pytest.raises(ValueError, match="measure both texts on the same one"):
        moments + collect_moments(tiny_model("roberta"), batches())
    with pytest.raises(ValueError, match="must be a square matrix"):
        Moments({"dense": torch.zeros(3, 4)})
    with pytest.raises(ValueError, match="not finite"):
        Moments({"dense": torch.full((3, 3), float("nan"))})


def test_centred_moments_are_the_covariance():
    rows = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 3
    moments = Moments({"dense": moments_by_hand([rows[None]], [torch.ones(1, 50)])})
    torch.testing.assert_close(centred(moments.mean("dense", 4)), torch.cov(rows.T, correction=0))
