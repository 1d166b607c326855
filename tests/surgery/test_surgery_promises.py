"""Promises that every surgery keeps, on every family."""

import copy

import pytest
import torch
from conftest import MODEL_TYPES, SHARED_LAYERS, logits_of, randomise, tiny_model
from known_sizes import MBERT, XLMR_BASE
from tiny_surgeries import COPYING, SURGERIES, batches, ties
from transformers import AutoModel, AutoModelForMaskedLM, BertTokenizerFast

from hf_lrcompress.calibration.second_moments import collect_moments
from hf_lrcompress.models.architectures import layers_of
from hf_lrcompress.models.rebuilding import masked_lm_on_meta
from hf_lrcompress.surgery.ffn_pruning import prune_ffn, select_neurons
from hf_lrcompress.surgery.hidden_truncation import truncate_hidden
from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers
from hf_lrcompress.surgery.vocab_trimming import trim_vocab
from hf_lrcompress.vocabulary.selection import select_tokens


def all_neurons(model):
    return torch.arange(36).expand(len(layers_of(model)), -1)


KEEP_EVERYTHING = {
    "reduce_layers": lambda model: reduce_layers(model, range(4)),
    "prune_ffn": lambda model: prune_ffn(model, all_neurons(model)),
    "prune_ffn refit": lambda model: prune_ffn(model, all_neurons(model), collect_moments(model, batches())),
    "truncate_hidden": lambda model: truncate_hidden(model, 24),
    "truncate_hidden svd": lambda model: truncate_hidden(model, 24, "svd"),
    "truncate_hidden calibrated": lambda model: truncate_hidden(model, 24, "calibrated", collect_moments(model, batches())),
}
CASES = [(family, name) for family in MODEL_TYPES for name in SURGERIES if name != "reduce_layers" or family not in SHARED_LAYERS]


@pytest.fixture(params=CASES, ids=" ".join)
def case(request):
    return request.param


@pytest.fixture
def model_type(case):
    return case[0]


@pytest.fixture
def name(case):
    return case[1]


def test_keeping_everything_changes_nothing(model, inputs, name):
    exact = {"rtol": 0, "atol": 0} if name in COPYING else {}
    torch.testing.assert_close(logits_of(KEEP_EVERYTHING[name](model), inputs), logits_of(model, inputs), **exact)


def test_the_callers_model_is_untouched(model, name):
    before, config = copy.deepcopy(model.state_dict()), copy.deepcopy(model.config.to_dict())
    small = SURGERIES[name](model)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert model.config.to_dict() == config
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_a_saved_model_loads_strictly_and_computes_the_same(model, inputs, name, tmp_path):
    small = SURGERIES[name](model)
    small.save_pretrained(tmp_path)
    loaded, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert type(loaded) is type(model)
    torch.testing.assert_close(logits_of(loaded, inputs), logits_of(small, inputs), rtol=0, atol=0)
    assert AutoModel.from_pretrained(tmp_path).config.num_hidden_layers == small.config.num_hidden_layers


def test_ties_dtype_mode_and_requires_grad_are_kept(model_type, name):
    model = tiny_model(model_type).to(torch.bfloat16).train()
    model.get_input_embeddings().weight.requires_grad_(False)
    small = SURGERIES[name](model)
    assert ties(small) == ties(model)
    assert not small.get_input_embeddings().weight.requires_grad
    assert small.training and all(module.training for module in small.modules())
    assert {parameter.dtype for parameter in small.parameters()} == {torch.bfloat16}


def test_an_encoder_in_eval_mode_stays_so_under_a_head_that_learns(model_type, name):
    model = tiny_model(model_type).train()
    model.base_model.eval()
    small = SURGERIES[name](model)
    assert small.training and not any(module.training for module in small.base_model.modules())
    assert model.training and not any(module.training for module in model.base_model.modules())


def test_untied_weights_stay_untied(model_type, name, inputs):
    model = tiny_model(model_type, tie_word_embeddings=False)
    small = SURGERIES[name](model)
    assert small.get_output_embeddings().weight is not small.get_input_embeddings().weight
    assert ties(small) == ties(model)
    torch.testing.assert_close(logits_of(KEEP_EVERYTHING[name](model), inputs), logits_of(model, inputs))


def test_an_encoder_without_head_can_be_cut(model, inputs, name, tmp_path):
    model.save_pretrained(tmp_path)
    encoder = randomise(AutoModel.from_pretrained(tmp_path))
    small = SURGERIES[name](encoder)
    small.save_pretrained(tmp_path / "encoder")
    loaded, info = AutoModel.from_pretrained(tmp_path / "encoder", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert small.num_parameters() < encoder.num_parameters()
    with torch.no_grad():
        expected, actual = small(**inputs), loaded(**inputs)
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=0, atol=0)


def test_a_cut_model_still_trains(model, inputs, name):
    small = SURGERIES[name](model).train()
    small(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


@pytest.mark.parametrize("family", MODEL_TYPES)
def test_surgeries_compose(family, inputs, tmp_path):
    small = tiny_model(family)
    for name in COPYING:
        small = SURGERIES[name](small) if (family, name) in CASES else small
    assert small.num_parameters() == masked_lm_on_meta(small.config).num_parameters()
    small.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(loaded, inputs), logits_of(small, inputs), rtol=0, atol=0)
    assert select_layers(4, 2) == [0, 2]


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (XLMR_BASE, [278_295_186, 235_767_954, 226_324_626, 163_400_418]),
        (MBERT, [177_974_523, 135_447_291, 126_003_963, 89_692_779]),
    ],
)
def test_parameter_counts_of_the_paper_come_out_of_the_surgeries(config, sizes):
    """On the real configurations; without memory for the weights, which the counts do not depend on."""
    base = masked_lm_on_meta(config)
    layers = reduce_layers(base, select_layers(12, 6))
    pruned = prune_ffn(layers, select_neurons(torch.rand(6, 3072), 2048))
    narrow = truncate_hidden(pruned, 564)
    assert [model.num_parameters() for model in (base, layers, pruned, narrow)] == sizes
    for hidden_size in (456, 312):
        assert truncate_hidden(pruned, hidden_size).num_parameters() == truncate_hidden(narrow, hidden_size).num_parameters()


@pytest.mark.slow
def test_the_papers_smallest_mbert_from_random_weights_and_the_real_vocabulary(real_data, tmp_path):
    tokenizer = BertTokenizerFast(str(real_data / "tokenizers/mbert-cased/vocab.txt"), do_lower_case=False)
    model = AutoModelForMaskedLM.from_config(MBERT).eval()
    small = truncate_hidden(prune_ffn(reduce_layers(model, range(6, 12)), torch.arange(2048).expand(6, -1)), 312)
    counts = torch.ones(len(tokenizer), dtype=torch.long)  # more distinct tokens than the Slovak text has
    trimmed = trim_vocab(small, tokenizer, select_tokens(tokenizer, counts, 40_000))
    assert trimmed.model.num_parameters() == 22_812_376
    trimmed.model.save_pretrained(tmp_path), trimmed.tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path)
    inputs = trimmed.tokenizer("Dobrý deň, svet.", return_tensors="pt")
    torch.testing.assert_close(logits_of(loaded, inputs), logits_of(trimmed.model, inputs), rtol=0, atol=0)
