"""Every family, from its row alone: distillation's features, importance, and the whole pipeline."""

import json

import pytest
import torch
import yaml
from conftest import COUNTS_FROM_PADDING, EVERY_FAMILY, SHARED_LAYERS, SPECIAL_NAMES, logits_of, tiny_model
from made_up_texts import make_texts
from tiny_trainers import collate, make_trainer, naive_parts
from trained_tokenizers import bert, specials_last, xlm_roberta
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, TrainerCallback

from hf_lrcompress import prune_ffn
from hf_lrcompress.__main__ import main
from hf_lrcompress.distillation.observing import Wanted, observe
from hf_lrcompress.models.architectures import intermediate_size_of, layers_of
from hf_lrcompress.models.saving import save_tokenizer

STAGES = ["adapt_teacher", "reduce_layers", "prune_ffn", "truncate_hidden", "trim_vocab"]
SETTINGS = {
    "block_size": 32,
    "training": {"max_steps": 1, "per_device_train_batch_size": 2, "disable_tqdm": True, "bf16": False},
    "reduce_layers": {"num_hidden_layers": 2, "strategy": "first"},
    "prune_ffn": {"intermediate_size": 20},
    "truncate_hidden": {"hidden_size": 12},
    "trim_vocab": {"vocab_size": 300},
}


def test_features_make_the_logits(model, inputs):
    """features @ weight.T + bias, also where the head has its own width or the bias is elsewhere."""
    layer = model.get_output_embeddings()
    expected = logits_of(model, inputs)
    with torch.no_grad():
        features = observe(model, Wanted(features=True), **inputs).features
        logits = features @ layer.weight.T + (0 if layer.bias is None else layer.bias)
    torch.testing.assert_close(logits[inputs["attention_mask"].bool()], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits_of(model, inputs), expected, rtol=0, atol=0)


def test_what_the_feature_losses_compare_belongs_to_the_tokens(model, inputs):
    with torch.no_grad():
        whole = model.base_model(**inputs, output_hidden_states=True)
        seen = observe(model, Wanted(hidden_states=(0, 2, 4), attention_layer=-1), **inputs)
        with_features = observe(model, Wanted(features=True, hidden_states=(0, 2, 4)), **inputs)
    states, relations = seen.hidden_states, seen.attention
    assert [state.shape for state in states] == [(2, 12, 24)] * 3
    assert torch.equal(states[0], whole.hidden_states[0]) and torch.equal(states[1], whole.hidden_states[2])
    assert torch.equal(states[2], whole.last_hidden_state)
    for state, other in zip(states, with_features.hidden_states, strict=True):
        assert torch.equal(state, other)
    assert len(relations) == 3 and all(each.shape[:2] == (2, 12) for each in relations)
    if getattr(model.config, "num_key_value_heads", 3) == 3:
        assert {each.shape for each in relations} == {(2, 12, 24)}


def test_loss_and_gradients_are_those_of_the_definition(model, tmp_path):
    """Also under accumulation: transformers 5 alone would sum the gradients of the parts instead of averaging them."""
    neurons = torch.arange(20).expand(len(layers_of(model)), -1)
    student, naive = prune_ffn(model, neurons), prune_ffn(model, neurons)
    generator = torch.Generator().manual_seed(7)
    rows = [{"input_ids": torch.randint(5, 101, (length,), generator=generator).tolist()} for length in (20, 9, 14, 20)]
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_grad_norm": 0.0, "max_steps": 1}
    trainer = make_trainer(student, model, rows, tmp_path, alpha=0.3, **settings)
    gradients = {}
    trainer.add_callback(_KeepGradients(gradients))
    trainer.train()
    mlm, mse = naive_parts(naive, model, collate(rows))
    (0.3 * mlm + 0.7 * mse).backward()
    for name, parameter in naive.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-6, msg=name)


class _KeepGradients(TrainerCallback):
    def __init__(self, gradients):
        self.gradients = gradients

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients |= {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Files, blocks of them in the cache, and tokenizers: the same for all families."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "train.txt").write_text("\n".join(make_texts(300, 1)), encoding="utf-8")
    (folder / "validation.txt").write_text("\n".join(make_texts(20, 2)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        yield folder


def padding_last():
    """Its padding token is beyond as many tokens as are kept, as in ModernBERT's checkpoints."""
    tokenizer = specials_last()
    tokenizer.add_special_tokens({"cls_token": tokenizer.bos_token, "sep_token": tokenizer.eos_token})
    return tokenizer


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_the_whole_pipeline(family, texts, tmp_path, capsys):
    usual = xlm_roberta if family in COUNTS_FROM_PADDING else bert
    tokenizer = padding_last() if family == "modernbert" else usual()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_NAMES}
    teacher = tiny_model(family, vocab_size=len(tokenizer), **special)
    teacher.save_pretrained(tmp_path / "teacher"), save_tokenizer(tokenizer, tmp_path / "teacher")
    files = {name: {"files": [str(texts / f"{name}.txt")]} for name in ("train", "validation")}
    stages = [name for name in STAGES if name != "reduce_layers" or family not in SHARED_LAYERS]
    config = SETTINGS | files | {"teacher": str(tmp_path / "teacher"), "stages": stages}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = ["compress", "--lang", "sk", "--config", str(tmp_path / "run.yaml"), "--output_dir", str(tmp_path / "run")]
    assert main(arguments) == 0, capsys.readouterr().err

    small, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert type(small) is type(teacher)
    AutoModel.from_pretrained(tmp_path / "run" / "model")
    assert (small.config.hidden_size, small.config.vocab_size, intermediate_size_of(small.config)) == (12, 300, 20)
    assert small.config.num_hidden_layers == (4 if family in SHARED_LAYERS else 2)
    rows = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["stages"]
    assert [row["stage"] for row in rows] == ["teacher", *stages]
    assert rows[-1]["parameters"] == small.num_parameters()
    inputs = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")("Dobrý deň.", return_tensors="pt")
    assert torch.isfinite(logits_of(small.eval(), inputs)).all()
