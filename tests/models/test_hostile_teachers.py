"""Teachers made to run code, to have files written elsewhere, or to keep a job busy for ever: one line, at once."""

import json
import os

import pytest
from conftest import tiny_model
from trained_tokenizers import bert
from transformers import AutoConfig

from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.models.loading import load_config, load_encoder, load_masked_lm
from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.models.sentence_modules import read_modules
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.publishing.licence import teacher_license
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.preparation import prepare
from hf_lrcompress.texts.languages import Language

KERNEL = "some-body/kernel@main:attention"
TRUSTS_ITSELF = "trust_remote_code in config.json is for the user to say, not for a model; take the key out"
NAMES_CODE = "names code to fetch, .*, which is never done; take the key out"


@pytest.fixture
def teacher(tmp_path):
    tokenizer = bert()
    tiny_model("bert", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


def change_config(directory, changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def config_for(teacher):
    (teacher.parent / "text.txt").write_text("Some text.\n")
    text = {"files": [str(teacher.parent / "text.txt")]}
    stages = {"stages": ["reduce_layers"], "reduce_layers": {"num_hidden_layers": 2}}
    return RunConfig.from_mapping({"teacher": str(teacher), "train": text, "validation": text} | stages, Language.from_tag("sk"))


def prepare_run(teacher):
    return prepare(config_for(teacher))


def load_under_test(teacher):
    return ModelUnderTest("a", str(teacher)).load_tokenizer()


HOSTILE_CONFIGS = {
    "attention": ({"attn_implementation": KERNEL}, NAMES_CODE),
    "private attention": ({"_attn_implementation": "some-body/kernel"}, NAMES_CODE),
    "internal attention": ({"_attn_implementation_internal": KERNEL}, NAMES_CODE),
    "with a prefix": ({"attn_implementation": "paged|some-body/kernel"}, NAMES_CODE),
    "of a part": ({"attn_implementation": {"": "sdpa", "text_config": KERNEL}}, NAMES_CODE),
    "in a part": ({"text_config": [{"_attn_implementation": KERNEL}]}, NAMES_CODE),
    "experts": ({"experts_implementation": KERNEL}, NAMES_CODE),
    "trust": ({"model_type": "lightglue", "trust_remote_code": True}, TRUSTS_ITSELF),  # CVE-2026-5241
    "trust of a part": ({"keypoint_detector_config": {"trust_remote_code": 1}}, TRUSTS_ITSELF),
    "quantised": ({"quantization_config": {"quant_method": "mxfp4"}}, "is quantised .*; choose the model it was made of"),
    "layers": ({"num_hidden_layers": 100_000}, "num_hidden_layers in config.json is 100000, more than any model has"),
    "more layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers in config.json is 1000000000, more than any model has"),
    "labels": ({"num_labels": 10**9}, "num_labels in config.json is 1000000000, more than any model has"),
    "width": ({"hidden_size": 10**400}, "hidden_size in config.json is 10+ … 0+, more than any model has"),
    "nested": ({"sizes": {"a": [{"b": 10**9}]}}, "b in config.json is 1000000000, more than any model has"),
}


@pytest.mark.parametrize("case", HOSTILE_CONFIGS)
def test_a_hostile_config_is_refused_before_a_class_is_built(teacher, monkeypatch, case):
    changes, message = HOSTILE_CONFIGS[case]
    change_config(teacher, changes)
    monkeypatch.setattr(AutoConfig, "from_pretrained", None)
    for use in (load_config, load_masked_lm, load_encoder):
        with pytest.raises(ValueError, match=f"^{teacher}: .*{message}|^{teacher} {message}"):
            use(str(teacher))
    for use in (prepare_run, load_under_test):
        with pytest.raises(ValueError, match=message):
            use(teacher)


@pytest.mark.parametrize("name", ["eager", "sdpa", "flash_attention_2", None])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_the_plain_name_of_an_attention_has_no_effect(teacher, key, name):
    change_config(teacher, {key: name})
    assert load_config(str(teacher))._attn_implementation is None
    assert load_masked_lm(str(teacher)).config._attn_implementation == "sdpa"


def test_a_config_that_is_nested_too_deeply(teacher):
    (teacher / "config.json").write_text('{"a": ' * 100_000)
    with pytest.raises((ValueError, OSError), match=r"config\.json"):
        load_config(str(teacher))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json", "link.json"])
def test_a_pipe_or_a_device_in_a_teachers_folder(teacher, name):
    path = teacher / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("/dev/zero") if name == "link.json" else os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{name} is no file, but a pipe or a device; delete it"):
        load_config(str(teacher))


@pytest.mark.parametrize("load", [load_config, load_encoder, load_masked_lm, prepare_run, load_under_test])
def test_an_adapter_that_names_another_model_is_refused(teacher, load):
    (teacher / "adapter_config.json").write_text('{"base_model_name_or_path": "some-body/else"}')
    with pytest.raises(ValueError, match=r"holds an adapter \(adapter_config.json\); merge it"):
        load(teacher)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"type": "WordPiece"}}', '{"version": "9"}', b"\xff\xfe"])
def test_a_damaged_tokenizer_file_is_named(teacher, content):
    (teacher / "tokenizer.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"^{teacher}: tokenizer.json or its settings are damaged .*; download or save"):
        load_tokenizer(str(teacher))


def test_a_chat_template_is_no_file_somewhere_else(teacher, tmp_path):
    path = teacher / "tokenizer_config.json"
    templates = [{"name": name, "template": "planted"} for name in ("default", "../../planted", str(tmp_path / "planted"))]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": templates}))  # CVE-2026-9856
    before = set(tmp_path.rglob("*"))
    save_tokenizer(load_tokenizer(str(teacher)), tmp_path / "saved" / "here")
    written = {each for each in tmp_path.rglob("*") if each.is_file()} - before
    assert {each.parent for each in written} == {tmp_path / "saved" / "here"}
    assert not any(each.suffix == ".jinja" or "planted" in each.read_text() for each in written)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": []}', '{"weight_map": {"a": 5}, "metadata": {}}', "\xff"])
def test_a_damaged_index_of_weights_is_named(teacher, content):
    (teacher / "model.safetensors").unlink()
    (teacher / "model.safetensors.index.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=f"the weights of {teacher} are damaged .*; download or save them again"):
        load_encoder(str(teacher))


BAD_MODULES = [
    "{",
    "{}",
    "[1]",
    '[{"path": "a"}]',
    '[{"path": "../../a", "type": "Pooling"}]',
    '[{"path": "/a", "type": "Pooling"}]',
    '[{"path": "1_Pooling/../..", "type": "Pooling"}]',
]


@pytest.mark.parametrize("content", BAD_MODULES)
def test_modules_of_a_sentence_encoder_lie_in_its_folder(teacher, content):
    (teacher / "modules.json").write_text(content)
    with pytest.raises(ValueError, match=f"{teacher}.*modules.json (is damaged|must be a list of modules)"):
        read_modules(str(teacher))


def test_settings_of_a_sentence_encoder_that_are_damaged_are_named(teacher):
    (teacher / "modules.json").write_text('[{"path": "1_Pooling", "type": "x.Pooling"}]')
    (teacher / "1_Pooling").mkdir()
    (teacher / "1_Pooling" / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"1_Pooling/config\.json is damaged"):
        read_modules(str(teacher))


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{'license' if level == 9 else f'a{level}'}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize("header", [ALIASES, "license: {a: b}", "license: 5", "[mit]", "license: [", "license: \xff"])
def test_the_header_of_a_teachers_card(teacher, header):
    (teacher / "README.md").write_bytes(f"---\n{header}\n---\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"the header of {teacher}/README.md .*; mend it or delete the file"):
        teacher_license(config_for(teacher))
    (teacher / "README.md").write_text("---\nlicense: [mit, afl-3.0]\n---\n")
    assert teacher_license(config_for(teacher)) == {"license": ["mit", "afl-3.0"]}
