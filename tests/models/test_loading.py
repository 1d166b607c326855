"""Loading: a whole model or one clear line, and an identity that changes with every file that matters."""

import json
import shutil

import pytest
import torch
from conftest import MODEL_TYPES, tiny_config, tiny_model
from own_code import with_own_code
from tokenizers import Tokenizer, models
from transformers import AutoModel, PreTrainedTokenizerFast
from transformers.utils import SAFE_WEIGHTS_NAME

from hf_lrcompress.models.checkpoints import has_masked_lm_head
from hf_lrcompress.models.identity import model_identity
from hf_lrcompress.models.loading import load_config, load_encoder, load_masked_lm
from hf_lrcompress.models.rebuilding import changed, encoder_on_meta, rebuild, with_layers
from hf_lrcompress.models.tokenizers import load_tokenizer

FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors", "modeling_own.py"]


def save_encoder_of(model, directory) -> None:
    """The encoder alone, without a pooler: a masked LM has none."""
    model.base_model.save_pretrained(directory)


def outputs_of(model, inputs):
    with torch.no_grad():
        return model(**inputs).last_hidden_state


@pytest.fixture
def directory(tmp_path):
    """A model with code and a tokenizer, as far as an identity is concerned."""
    tiny_model("xlm-roberta").save_pretrained(tmp_path / "model")
    for name, content in with_own_code({"config.json": (tmp_path / "model" / "config.json").read_bytes()}).items():
        (tmp_path / "model" / name).write_bytes(content)
    for name in FILES:
        path = tmp_path / "model" / name
        path.write_bytes(path.read_bytes() if path.exists() else b"{}")
    return tmp_path / "model"


@pytest.mark.parametrize("name", FILES)
def test_a_change_of_each_file_changes_the_identity(directory, name):
    before = model_identity(str(directory))
    assert model_identity(str(directory)) == before
    with (directory / name).open("ab") as file:
        file.write(b"\n")
    assert model_identity(str(directory)) != before


def test_pooling_is_a_part_of_the_identity(directory):
    (directory / "modules.json").write_text('[{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]')
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    before = model_identity(str(directory))
    (directory / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert model_identity(str(directory)) != before


@pytest.mark.parametrize("path", ["/etc", "../other", 3])
def test_a_module_elsewhere_is_no_part_of_the_identity(directory, path):
    before = model_identity(str(directory))
    listed = [{"path": path, "type": "x.Pooling"}]
    (directory / "modules.json").write_text(json.dumps(listed))
    (directory.parent / "other").mkdir()
    (directory.parent / "other" / "config.json").write_text("{}")
    there = model_identity(str(directory))
    (directory.parent / "other" / "config.json").write_text('{"other": 1}')
    assert model_identity(str(directory)) == there != before


def test_neither_place_nor_card_is_a_part_of_the_identity(directory, tmp_path):
    before = model_identity(str(directory))
    (directory / "README.md").write_text("a card")
    shutil.copytree(directory, tmp_path / "elsewhere")
    assert model_identity(str(tmp_path / "elsewhere")) == before


def test_an_encoder_is_loaded_from_a_masked_lm(model, inputs, tmp_path):
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    expected = outputs_of(load_masked_lm(str(tmp_path)).base_model, inputs)
    torch.testing.assert_close(outputs_of(encoder, inputs), expected, rtol=0, atol=0)


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "mpnet", "albert", "rembert"])
def test_an_encoder_has_no_pooler_whether_the_checkpoint_has_one_or_not(model_type, pooler, inputs, tmp_path):
    saved = AutoModel.from_config(tiny_config(model_type), add_pooling_layer=pooler)
    saved.save_pretrained(tmp_path / "saved")
    encoder = load_encoder(str(tmp_path / "saved"))
    assert encoder.pooler is None and not any("pooler" in name for name in encoder.state_dict())
    assert encoder.num_parameters() == encoder_on_meta(encoder.config).num_parameters()
    encoder.save_pretrained(tmp_path / "again")
    for each in (load_encoder(str(tmp_path / "again")), rebuild(encoder, changed(encoder.config))):
        torch.testing.assert_close(outputs_of(each, inputs), outputs_of(saved.eval(), inputs), rtol=0, atol=0)


def test_an_encoder_without_a_pooler_can_be_cut(inputs, tmp_path):
    save_encoder_of(tiny_model("bert"), tmp_path)
    encoder = load_encoder(str(tmp_path))
    small = rebuild(encoder, with_layers(encoder.config, 2))
    assert small.pooler is None and encoder.config.num_hidden_layers == 4
    encoder.encoder.layer = encoder.encoder.layer[:2]
    torch.testing.assert_close(outputs_of(small, inputs), outputs_of(encoder, inputs), rtol=0, atol=0)


def test_an_encoder_that_lacks_a_weight_is_refused(tmp_path):
    model = tiny_model("bert")
    weights = {name: tensor for name, tensor in model.state_dict().items() if "layer.2.intermediate" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    for load in (load_encoder, load_masked_lm):
        with pytest.raises(ValueError, match="lacks 2 weights of Bert.* [(]such as .*layer.2.intermediate.*; choose"):
            load(str(tmp_path))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_head_is_seen_where_a_masked_lm_can_be_loaded(model_type, tmp_path):
    model = tiny_model(model_type)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    save_encoder_of(model, tmp_path / "encoder")
    for name in ("whole", "parts"):
        assert has_masked_lm_head(str(tmp_path / name)) and load_masked_lm(str(tmp_path / name))
    assert not (tmp_path / "parts" / SAFE_WEIGHTS_NAME).exists()
    assert not has_masked_lm_head(str(tmp_path / "encoder"))
    with pytest.raises(ValueError, match="choose a checkpoint that was saved with its masked-LM head"):
        load_masked_lm(str(tmp_path / "encoder"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_head_is_seen_in_the_files_of_old(zipped, tmp_path):
    """A pickled checkpoint with the names that TensorFlow gave, as that of multilingual BERT."""
    model = tiny_model("bert")
    model.config.save_pretrained(tmp_path)
    names = {
        name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        for name in model.state_dict()
    }
    weights = {names[name]: tensor for name, tensor in model.state_dict().items()}
    torch.save(weights, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    assert has_masked_lm_head(str(tmp_path))
    head = [name for name in weights if name.startswith("cls")]
    torch.save({name: weights[name] for name in weights if name not in head}, tmp_path / "pytorch_model.bin")
    assert not has_masked_lm_head(str(tmp_path))
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(OSError, match="has none of model.safetensors, .*; choose a model with weights"):
        has_masked_lm_head(str(tmp_path))


def test_a_tokenizer_that_is_missing_or_slow_is_one_clear_line(tmp_path, monkeypatch):
    tiny_model("bert").config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no tokenizer; save one beside the model"):
        load_tokenizer(str(tmp_path))
    with pytest.raises(
        ValueError, match="^the Hugging Face Hub cannot be reached to load lab/none, and there is no such directory$"
    ):
        load_tokenizer("lab/none")
    for path in ("./none", "/lab/none"):
        with pytest.raises(ValueError, match=f"^there is no directory {path}$"):
            load_tokenizer(path)
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]").save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path)).get_vocab() == {"[UNK]": 0, "a": 1}
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(ValueError, match=f"{tmp_path}: .* is a slow tokenizer; save it with"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("load", [load_encoder, load_masked_lm])
@pytest.mark.parametrize("key", ["output_hidden_states", "output_attentions"])
def test_a_config_that_asks_for_more_outputs_is_loaded_and_saved_without(load, key, inputs, tmp_path):
    tiny_model("xlm-roberta").save_pretrained(tmp_path / "teacher")
    path = tmp_path / "teacher" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {key: True}), encoding="utf-8")
    model = load(str(tmp_path / "teacher"))
    assert len(model(**inputs)) == 1
    rebuild(model, with_layers(model.config, 2)).save_pretrained(tmp_path / "student")
    assert not json.loads((tmp_path / "student" / "config.json").read_text(encoding="utf-8")).get(key)
    assert not getattr(load_config(str(tmp_path / "teacher")), key)
