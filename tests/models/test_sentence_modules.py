"""The files of sentence-transformers: read from a teacher, fitted to a narrower student, and loaded by the library itself."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from conftest import tiny_model
from made_up_texts import make_texts
from trained_tokenizers import bert
from transformers import AutoTokenizer, BertModel

from hf_lrcompress import truncate_hidden
from hf_lrcompress.models.sentence_dense import fit_dense, pooled_states
from hf_lrcompress.models.sentence_modules import mean_pooling, module_files, read_modules

sentence_transformers = pytest.importorskip("sentence_transformers")
PROMPTS = {"query": "query: ", "passage": "passage: "}


def write_modules(modules, directory, hidden_size):
    for name, content in module_files(modules, hidden_size).items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A directory with an encoder without head, and its tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = bert()
    model = tiny_model("bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model.bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(encoder, tmp_path_factory):
    """A model with a Dense layer on the first token, as LaBSE, and prompts, saved by the library."""
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

    torch.manual_seed(0)
    modules = [Transformer(str(encoder)), Pooling(24, "cls"), Dense(24, 10), Normalize()]
    folder = tmp_path_factory.mktemp("teacher")
    sentence_transformers.SentenceTransformer(modules=modules, prompts=PROMPTS, device="cpu").save(str(folder))
    return folder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1_Pooling/config.json", {"word_embedding_dimension": 24, "pooling_mode": "max"}),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}),
        ("modules.json", [{"path": "", "type": "a.Transformer"}, {"path": "2_Dense", "type": "a.Dense"}]),
    ],
)
def test_a_pooling_that_is_not_copied_is_refused(teacher, tmp_path, name, content):
    folder = shutil.copytree(teacher, tmp_path / "teacher")
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="teacher pools by .*; only the mean of the tokens and the first of them can be copied"):
        read_modules(str(folder))
    listed = [module for module in json.loads((folder / "modules.json").read_text()) if not module["type"].endswith("Dense")]
    (folder / "modules.json").write_text(json.dumps(listed))  # losses and similarities would be of another vector too
    with pytest.raises(ValueError, match="pools by"):
        read_modules(str(folder))


def test_a_second_dense_layer_is_refused(teacher, tmp_path):
    folder = shutil.copytree(teacher, tmp_path / "teacher")
    listed = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*listed, listed[2]]))
    with pytest.raises(ValueError, match="teacher has several Dense layers; only one can be fitted"):
        read_modules(str(folder))


def test_what_is_written_is_what_was_read(teacher, tmp_path):
    modules = read_modules(str(teacher))
    assert [module.kind for module in modules.modules] == ["Transformer", "Pooling", "Dense", "Normalize"]
    BertModel.from_pretrained(teacher).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(tmp_path)
    write_modules(modules, tmp_path, 24)
    texts = make_texts(8, 1)
    expected, actual = (
        sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts, prompt_name="query")
        for folder in (teacher, tmp_path)
    )
    torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected))


def test_modules_are_named_as_both_versions_of_the_library_find_them(teacher):
    """6 saves `sentence_transformers.base.modules.…`, which 5 has not; code of a teacher's own keeps its name."""
    modules = read_modules(str(teacher))
    of_version_6 = replace(modules.modules[-1], type="sentence_transformers.base.modules.normalize.Normalize")
    own = replace(modules.modules[0], type="custom_st.Transformer")
    files = module_files(replace(modules, modules=(own, *modules.modules[1:-1], of_version_6)), 24)
    types = [module["type"] for module in json.loads(files["modules.json"])]
    assert types == [
        "custom_st.Transformer",
        *(f"sentence_transformers.models.{kind}" for kind in ("Pooling", "Dense", "Normalize")),
    ]


def test_a_student_takes_texts_as_they_are(teacher, tmp_path, caplog):
    """It is trained and measured without a prompt: what puts one before every text would leave that."""
    folder = shutil.copytree(teacher, tmp_path / "teacher")
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"default_prompt_name": "query"}))
    written = json.loads(module_files(read_modules(str(folder)), 24)[settings.name])
    assert "default_prompt_name" not in written and written["prompts"]["query"] == "query: "
    assert "puts its prompt 'query' before every text" in caplog.text
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    with pytest.raises(ValueError, match="has do_lower_case in sentence_bert_config.json; set it to false"):
        read_modules(str(folder))


def test_a_teacher_without_files_has_none_and_mean_pooling_is_the_default(encoder, tmp_path):
    assert read_modules(str(encoder)) is None
    model, tokenizer = BertModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    modules = mean_pooling(24, PROMPTS)
    write_modules(modules, tmp_path, 24)
    texts = make_texts(40, 1)
    loaded = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    states = pooled_states(model, tokenizer, modules, texts, 40)
    expected = torch.nn.functional.normalize(states)
    torch.testing.assert_close(torch.tensor(loaded.encode(texts)), expected, rtol=1e-4, atol=1e-5)
    assert loaded.prompts["passage"] == "passage: "


def test_a_dense_layer_fits_the_narrower_student(teacher, tmp_path):
    """By least squares: closer to the teacher's output than the layer with its first columns."""
    modules = read_modules(str(teacher))
    large = BertModel.from_pretrained(teacher).eval()
    small = truncate_hidden(large, 12).eval()
    texts = make_texts(300, 1)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    students, teachers = (pooled_states(model, tokenizer, modules, texts, 40) for model in (small, large))
    fitted = fit_dense(modules, students, teachers)
    small.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    write_modules(fitted, tmp_path, 12)
    assert 12 in json.loads((tmp_path / "1_Pooling" / "config.json").read_text(encoding="utf-8")).values()
    expected = sentence_transformers.SentenceTransformer(str(teacher), device="cpu").encode(texts)
    actual = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(texts)
    assert actual.shape == expected.shape == (300, 10)
    weight, bias = modules.modules[2].weights["linear.weight"], modules.modules[2].weights["linear.bias"]
    cut = torch.nn.functional.normalize((students @ weight[:, :12].T + bias).tanh())
    assert (torch.tensor(actual) - expected).norm() < 0.8 * (cut - torch.tensor(expected)).norm()


def test_the_map_of_a_dense_layer_is_exact_where_the_states_are(teacher):
    modules = read_modules(str(teacher))
    generator = torch.Generator().manual_seed(0)
    students = torch.randn(200, 30, generator=generator)
    teachers = students @ torch.randn(30, 24, generator=generator) + 1
    dense = fit_dense(modules, students, teachers).modules[2].weights
    original = modules.modules[2].weights
    expected = teachers @ original["linear.weight"].T + original["linear.bias"]
    actual = students @ dense["linear.weight"].T + dense["linear.bias"]
    torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.05)


def test_a_module_that_cannot_be_fitted_is_named(teacher, tmp_path):
    (tmp_path / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.LSTM"}]), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="has a module LSTM, which cannot be fitted to a smaller encoder"):
        read_modules(str(tmp_path))
