import pytest
import torch
from conftest import tiny_config, tiny_model
from known_sizes import MBERT, XLMR_BASE
from torch import nn
from transformers import BertConfig, DebertaV2Config, GPT2Config

from hf_lrcompress.models.architectures import architecture_of, disable_dropout, ffn_inputs_of, intermediate_size_of, layers_of
from hf_lrcompress.models.rebuilding import changed, masked_lm_on_meta, rebuild, with_hidden_size

LAYERS, FFN = {"num_hidden_layers": 6}, {"num_hidden_layers": 6, "intermediate_size": 2048}


@pytest.mark.parametrize(
    ("sizes", "xlmr", "mbert"),
    [
        ({}, 278_295_186, 177_974_523),
        (LAYERS, 235_767_954, 135_447_291),
        (FFN, 226_324_626, 126_003_963),
        (FFN | {"hidden_size": 564}, 163_400_418, 89_692_779),
        (FFN | {"hidden_size": 456}, 130_930_002, 71_311_611),
        (FFN | {"hidden_size": 312}, 88_543_314, 47_710_587),
        (FFN | {"hidden_size": 564, "vocab_size": 40_000}, 44_749_288, 44_748_724),
        (FFN | {"hidden_size": 456, "vocab_size": 40_000}, 34_959_088, 34_958_632),
        (FFN | {"hidden_size": 312, "vocab_size": 40_000}, 22_812_688, 22_812_376),
    ],
)
def test_parameter_counts_are_the_papers(sizes, xlmr, mbert):
    assert masked_lm_on_meta(changed(XLMR_BASE, **sizes)).num_parameters() == xlmr
    assert masked_lm_on_meta(changed(MBERT, **sizes)).num_parameters() == mbert


def test_a_row_names_the_modules_that_are_there(model):
    row, config = architecture_of(model.config), model.config
    assert len(layers_of(model)) == (1 if row.shared_layers else 4)
    assert intermediate_size_of(config) == 36
    for layer, inputs in zip(layers_of(model), ffn_inputs_of(model), strict=True):
        assert all(linear.out_features in (36, 72) for linear in inputs)
        assert isinstance(layer.get_submodule(row.attention_output), nn.Linear)


def test_rebuilding_needs_a_place_for_every_parameter():
    model = tiny_model("electra")
    with pytest.raises(ValueError, match="no place for electra.embeddings_project"):
        rebuild(model, changed(model.config, hidden_size=16, num_attention_heads=2))
    with pytest.raises(ValueError, match="asks for bert.encoder.layer.4"):
        rebuild(tiny_model("bert"), tiny_config("bert", num_hidden_layers=5))
    with pytest.raises(ValueError, match="has shape"):
        rebuild(tiny_model("bert"), tiny_config("bert", vocab_size=7))


def test_attention_that_transformers_4_would_read_otherwise_is_refused():
    config = tiny_config("modernbert", num_hidden_layers=4, global_attn_every_n_layers=3)
    config.layer_types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    assert architecture_of(config).layers == "layers"
    config.layer_types = ["full_attention", "full_attention", "sliding_attention", "full_attention"]
    with pytest.raises(ValueError, match="layer 1 has full_attention.*first of every 3 attends"):
        architecture_of(config)


def test_sizes_under_other_names_follow_the_hidden_size():
    config = with_hidden_size(tiny_config("electra base"), 12)
    assert (config.hidden_size, config.embedding_size) == (12, 12)
    config = with_hidden_size(tiny_config("deberta-v2 convolution"), 12)
    assert (config.hidden_size, config.pooler_hidden_size, config.attention_head_size) == (12, 12, 4)
    config = with_hidden_size(tiny_config("distilbert"), 12)
    assert (config.hidden_size, config.dim) == (12, 12)
    config = with_hidden_size(tiny_config("albert"), 12)
    assert (config.hidden_size, config.embedding_size) == (12, 16)


def test_unknown_families_and_decoders_are_refused():
    with pytest.raises(ValueError, match="'gpt2' is not supported .*bert.*xlm-roberta.*; a row in .* adds a family"):
        architecture_of(GPT2Config())
    with pytest.raises(ValueError, match="bert models with is_decoder=True are not supported"):
        architecture_of(BertConfig(is_decoder=True))
    with pytest.raises(ValueError, match="deberta-v2 models with legacy=False are not supported, only with legacy=True"):
        architecture_of(DebertaV2Config(legacy=False))
    with pytest.raises(ValueError, match="'gpt2' has no masked-LM class"):
        masked_lm_on_meta(GPT2Config())


def test_disable_dropout_makes_training_deterministic_and_leaves_the_config(model_type):
    model = tiny_model(model_type).train()
    inputs = {"input_ids": torch.arange(5, 25)[None]}
    assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
    disable_dropout(model)
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    assert model.config.to_dict() == tiny_model(model_type).config.to_dict()
