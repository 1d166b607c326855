"""Checkpoints as people have them: each gives the right model, or one line that names the true cause."""

import json
import shutil
from functools import partial

import pytest
import torch
from conftest import tiny_config, tiny_model
from safetensors.torch import load_file, save_file

from hf_lrcompress import truncate_hidden
from hf_lrcompress.evaluation.adapters import load_for_task
from hf_lrcompress.models.architectures import architecture_of
from hf_lrcompress.models.checkpoints import has_masked_lm_head
from hf_lrcompress.models.loading import load_config, load_encoder, load_masked_lm
from hf_lrcompress.models.rebuilding import masked_lm_on_meta
from hf_lrcompress.models.weights import all_finite

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
RUNTIME_KEYS = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "chunk_size_feed_forward": 5,
    "torchscript": True,
}


@pytest.fixture
def directory(tmp_path):
    tiny_model("bert").save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def change_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(directory, change):
    path = directory / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


@pytest.mark.parametrize("key", RUNTIME_KEYS)
def test_keys_that_say_how_a_model_is_called_have_no_effect_and_are_not_saved(directory, inputs, tmp_path, key):
    expected = load_masked_lm(str(directory))(**inputs).logits
    change_config(directory, **{key: RUNTIME_KEYS[key]})
    model = load_masked_lm(str(directory))
    outputs = model(**inputs)
    torch.testing.assert_close(outputs.logits, expected, rtol=0, atol=0)
    assert outputs.keys() == {"logits"}
    truncate_hidden(model, 12).save_pretrained(tmp_path / "student")
    saved = json.loads((tmp_path / "student" / "config.json").read_text())
    assert saved.get(key, "default") != RUNTIME_KEYS[key]
    assert load_for_task(str(directory), ["a", "b"], tokens=True)(**inputs).logits.shape == (2, 12, 2)


BAD_CONFIGS = {
    "pruned heads": ({"pruned_heads": {"1": [0]}}, "lacks attention heads"),
    "NaN": ({"layer_norm_eps": float("nan")}, "layer_norm_eps in config.json is nan"),
    "nested infinity": ({"rope_parameters": {"theta": float("inf")}}, "rope_parameters in config.json is"),
    "below 0": ({"layer_norm_eps": -1.0}, "layer_norm_eps in config.json is -1.0"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers in config.json must be a whole number, 1 or more, not 0"),
    "fewer": ({"num_hidden_layers": -3}, "num_hidden_layers in config.json must be a whole number, 1 or more, not -3"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads in config.json"),
    "dtype": ({"dtype": "float23"}, "config.json has a value that cannot be"),
    "a layer less": ({"num_hidden_layers": 3}, "config.json says 3 layers, but the weights are of 4"),
    "a layer more": ({"num_hidden_layers": 5}, "lacks 16 weights of Bert.*; choose a complete checkpoint"),
    "width": ({"hidden_size": 30}, "the weights have other sizes than config.json says"),
    "neurons": ({"intermediate_size": 40}, "the weights have other sizes than config.json says"),
    "rows": ({"vocab_size": 50}, "the weights have other sizes than config.json says"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_config_that_is_not_of_its_weights_is_refused(directory, case):
    changes, message = BAD_CONFIGS[case]
    change_config(directory, **changes)
    for load in (load_masked_lm, load_encoder):
        with pytest.raises(ValueError, match=f"bert.*{message}"):
            load(str(directory))


def with_value(value):
    def change(weights):
        weights["bert.encoder.layer.1.intermediate.dense.bias"][3] = value
        return weights

    return change


BAD_WEIGHTS = {
    "NaN": (with_value(float("nan")), "layer.1.intermediate.dense.bias holds NaN or infinite values"),
    "infinite": (with_value(float("-inf")), "layer.1.intermediate.dense.bias holds NaN or infinite values"),
    "strange": (lambda weights: weights | {"bert.encoder.layer.1.gate.weight": torch.ones(2)}, "no place for 1 of its weights"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_are_no_numbers_or_of_another_model_are_refused(directory, case):
    change, message = BAD_WEIGHTS[case]
    change_weights(directory, change)
    for load in (load_masked_lm, load_encoder, partial(load_for_task, labels=["a", "b"], tokens=False)):
        with pytest.raises(ValueError, match=message):
            load(str(directory))


def test_weights_that_a_family_is_known_to_have_may_be_there(directory, inputs):
    expected = load_masked_lm(str(directory))(**inputs).logits
    names = ("bert.pooler.dense.weight", "bert.embeddings.position_ids", "cls.seq_relationship.weight", "classifier.weight")
    change_weights(directory, lambda weights: weights | {name: torch.ones(2) for name in names})
    torch.testing.assert_close(load_masked_lm(str(directory))(**inputs).logits, expected, rtol=0, atol=0)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"])
def test_a_git_lfs_pointer_in_place_of_a_file(directory, file):
    (directory / file).write_text(LFS_POINTER)
    with pytest.raises(ValueError, match=f"{file} is a Git LFS pointer, not the file itself; run git lfs pull in {directory}"):
        load_config(str(directory))


def test_a_trainers_output_folder_names_its_checkpoints(directory):
    directory.rename(directory.parent / "checkpoint-50")
    with pytest.raises(ValueError, match="the folder of a Trainer, .* name one, such as .*checkpoint-50"):
        load_config(str(directory.parent))


@pytest.mark.parametrize("content", [b"", b"cut"])
def test_damaged_weights(directory, content):
    (directory / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="the weights of .*bert are damaged .*; download or save them again"):
        load_masked_lm(str(directory))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("pytorch_model.bin", None),
        ("pytorch_model.bin", b"no pickle"),
        ("model.safetensors.index.json", b"{"),
        ("model.safetensors.index.json", b'{"a": 1}'),
    ],
)
def test_damaged_weights_of_other_kinds(directory, file, content):
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(weights, directory / "whole")
    whole = (directory / "whole").read_bytes()
    (directory / "whole").unlink()
    (directory / file).write_bytes(whole[: len(whole) // 2] if content is None else content)
    for read in (load_masked_lm, has_masked_lm_head):
        with pytest.raises(ValueError, match="the weights of .*bert are damaged .*; download or save them again"):
            read(str(directory))


def test_a_folder_that_holds_no_model(directory, tmp_path):
    empty = tmp_path / "run"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"run holds no model \(config.json\); give the folder of one$"):
        load_config(str(empty))
    shutil.copytree(directory, empty / "model")
    with pytest.raises(FileNotFoundError, match=f"run holds no model .*; did you mean {empty / 'model'}\\?$"):
        load_config(str(empty))


def test_a_model_that_is_nowhere_is_named():
    with pytest.raises(FileNotFoundError, match="there is no model '/lab/none', neither as a directory nor on the Hugging"):
        load_config("/lab/none")
    with pytest.raises(ConnectionError, match="^the Hugging Face Hub cannot be reached to load lab/none, and there is no such"):
        load_config("lab/none")


def test_a_config_that_is_a_list(directory):
    (directory / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="config.json must hold keys and values"):
        load_config(str(directory))


@pytest.mark.parametrize("changes", [{"hidden_act": "nosuch"}, {"pad_token_id": 999}])
def test_a_config_of_which_no_model_can_be_made(changes):
    with pytest.raises(ValueError, match="no BertForMaskedLM can be made of this config: "):
        masked_lm_on_meta(tiny_config("bert", **changes))


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "electra", "albert"])
def test_relative_positions_are_refused(model_type):
    with pytest.raises(ValueError, match="position_embedding_type=relative_key are not supported, only with .*=absolute"):
        architecture_of(tiny_config(model_type, position_embedding_type="relative_key"))


def save_headless(model, directory):
    """As the encoder alone; DeBERTa v3's checkpoints have the head of their generator, by other names."""
    if model.config.model_type != "deberta-v2":
        return model.base_model.save_pretrained(directory)
    names = {name: name.replace("cls.predictions.transform", "lm_predictions.lm_head") for name in model.state_dict()}
    names = {name: new.replace("cls.predictions", "lm_predictions.lm_head") for name, new in names.items()}
    model.save_pretrained(directory)
    return change_weights(directory, lambda weights: {names[name]: tensor for name, tensor in weights.items()})


@pytest.mark.parametrize("model_type", ["bert", "xlm-roberta", "deberta-v2"])
def test_a_new_head_is_drawn_from_a_seed_where_there_is_none(model_type, inputs, tmp_path):
    saved = tiny_model(model_type)
    save_headless(saved, tmp_path)
    with pytest.raises(ValueError, match=r"such as .*train a new one \(adapt_teacher.new_head: true\)"):
        load_masked_lm(str(tmp_path))
    models = [load_masked_lm(str(tmp_path), new_head_seed=seed) for seed in (1, 1, 2)]
    first, again, other = (model.eval()(**inputs).logits for model in models)
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert not torch.allclose(other, first)
    for name, tensor in saved.base_model.state_dict().items():
        assert torch.equal(models[0].base_model.state_dict()[name], tensor), name


def test_a_new_head_takes_the_place_of_none(directory):
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="has its masked-LM head, so it needs no new_head"):
        load_masked_lm(str(directory), new_head_seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    change_weights(
        directory, lambda weights: {name: x for name, x in weights.items() if "layer.2" not in name and "cls" not in name}
    )
    with pytest.raises(ValueError, match="lacks 16 weights .*layer.2.*; choose a complete checkpoint"):
        load_masked_lm(str(directory), new_head_seed=1)


@pytest.mark.parametrize("values", [[], [1, -2], [6e4, 6e4]])
def test_finite_values_can_have_an_infinite_sum(values):
    assert all_finite(torch.tensor(values, dtype=torch.float16))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_not_finite_is_found(value):
    assert not all_finite(torch.tensor([0, value, 0]))
    assert not all_finite(torch.tensor([float("inf"), 0, value]))
