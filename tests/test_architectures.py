import pytest
import torch
from conftest import tiny_config, tiny_model
from transformers import BertConfig, GPT2Config, XLMRobertaConfig

from hf_lrcompress.architectures import architecture_of, changed, disable_dropout, masked_lm_on_meta, moved_dimensions

XLMR_BASE = XLMRobertaConfig(vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
MBERT = BertConfig(vocab_size=119_547)
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


def test_moved_dimensions_finds_every_dimension_of_a_size(model):
    for name, dims in moved_dimensions(model, "hidden_size", step=3).items():
        shape = dict(model.named_parameters(remove_duplicate=False))[name].shape
        assert all(shape[dim] == 24 * multiple for dim, multiple in dims.items()), name
    assert all(
        "intermediate" in name or "output.dense.weight" in name for name in moved_dimensions(model, "intermediate_size", 1)
    )


def test_unknown_families_and_decoders_are_refused():
    with pytest.raises(ValueError, match="'gpt2' is not supported .*bert.*xlm-roberta"):
        architecture_of(GPT2Config())
    with pytest.raises(ValueError, match="'gpt2' has no masked-LM class"):
        masked_lm_on_meta(GPT2Config())


def test_disable_dropout_makes_training_deterministic_and_leaves_the_config(model_type):
    model = tiny_model(model_type).train()
    inputs = {"input_ids": torch.arange(5, 25)[None]}
    assert not torch.equal(model(**inputs).logits, model(**inputs).logits)
    disable_dropout(model)
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    assert model.config.hidden_dropout_prob == tiny_config(model_type).hidden_dropout_prob > 0
