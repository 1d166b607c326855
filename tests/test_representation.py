"""The pipeline for encoders of sentences: no head, sentence-transformers' files, and what is refused."""

import json
import shutil

import pytest
import torch
import yaml
from conftest import tiny_model
from made_up_texts import make_texts
from trained_tokenizers import bert
from transformers import AutoModel, AutoTokenizer

from hf_lrcompress.__main__ import main
from hf_lrcompress.distillation.similarity import centred_similarities, correlation
from hf_lrcompress.models.sentence_modules import SentenceModule, SentenceModules, module_files

STAGES = ["trim_vocab", "reduce_layers", "prune_ffn", "truncate_hidden"]
SETTINGS = {
    "objective": "representation",
    "block_size": 32,
    "examples": "documents",
    "stages": STAGES,
    "training": {
        "losses": {"hidden_cosine": 1, "sentence_cosine": 1},
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "disable_tqdm": True,
    },
    "trim_vocab": {"vocab_size": 300},
    "reduce_layers": {"num_hidden_layers": 2, "strategy": "measured", "distil": False},
    "prune_ffn": {"intermediate_size": 20, "method": "refit", "calibration_blocks": 16},
    "truncate_hidden": {"hidden_size": 12, "method": "calibrated", "calibration_blocks": 16, "distil_from": "trim_vocab"},
}
PACKAGE = "sentence_transformers.models"
MODULES = SentenceModules(
    (
        SentenceModule("", f"{PACKAGE}.Transformer"),
        SentenceModule("1_Pooling", f"{PACKAGE}.Pooling", {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True}),
        SentenceModule(
            "2_Dense",
            f"{PACKAGE}.Dense",
            {"in_features": 24, "out_features": 10, "bias": False, "activation_function": "torch.nn.modules.linear.Identity"},
            {"linear.weight": torch.randn(10, 24, generator=torch.Generator().manual_seed(0))},
        ),
    ),
    {"config_sentence_transformers.json": {"prompts": {"query": "query: "}}},
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A teacher without a masked-LM head, with a Dense layer behind it; texts; a configuration."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "train.txt").write_text("\n".join(make_texts(500, 1)), encoding="utf-8")
    (folder / "validation.txt").write_text("\n".join(make_texts(60, 2)), encoding="utf-8")
    tokenizer = bert()
    model = tiny_model("bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model.bert.save_pretrained(folder / "teacher")
    tokenizer.save_pretrained(folder / "teacher")
    for name, content in module_files(MODULES, 24).items():
        (folder / "teacher" / name).parent.mkdir(exist_ok=True)
        (folder / "teacher" / name).write_bytes(content)
    texts = {name: {"files": [str(folder / f"{name}.txt")]} for name in ("train", "validation")}
    config = SETTINGS | texts | {"teacher": str(folder / "teacher")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.fixture
def compress(inputs, monkeypatch, capsys, tmp_path):
    """Run the command in this process: `compress("--set", …)` → (exit code, its errors)."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def run(*arguments):
        command = ["compress", "--lang", "sk", "--config", str(inputs / "config.yaml"), "--output_dir", str(tmp_path / "run")]
        code = main([*command, *map(str, arguments)])
        return code, capsys.readouterr().err

    return run


def test_sentences_are_pooled_as_the_teachers_users_pool_them(compress, inputs, tmp_path):
    """A teacher whose sentence is the first token, as LaBSE's and BGE-M3's."""
    teacher = shutil.copytree(inputs / "teacher", tmp_path / "teacher")
    (teacher / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 24, "pooling_mode": "cls"}))
    stages = ["--stages", "trim_vocab,truncate_hidden", "--set", "truncate_hidden.distil_from=parent"]
    code, errors = compress("--teacher", teacher, *stages)
    assert code == 0, errors
    row = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["stages"][-1]
    models = [AutoModel.from_pretrained(folder).eval() for folder in (teacher, tmp_path / "run" / "model")]
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (teacher, tmp_path / "run" / "model")]
    vectors = []
    for model, tokenizer in zip(models, tokenizers, strict=True):
        texts = (inputs / "validation.txt").read_text(encoding="utf-8").splitlines()
        rows = [tokenizer(text, truncation=True, max_length=32, return_tensors="pt") for text in dict.fromkeys(texts)]
        with torch.no_grad():
            vectors.append(torch.cat([model(**row).last_hidden_state[:, 0] for row in rows]))
    expected = correlation(*map(centred_similarities, vectors))
    assert row["sentence_similarity"] == pytest.approx(expected, abs=1e-4)


def test_the_small_encoder_is_a_sentence_transformer(compress, inputs, tmp_path):
    code, errors = compress()
    assert code == 0, errors
    run = tmp_path / "run"
    model, info = AutoModel.from_pretrained(run / "model", output_loading_info=True)
    assert all(name.startswith("pooler.") for name in info["missing_keys"]) and not info["unexpected_keys"]
    sizes = (model.config.num_hidden_layers, model.config.intermediate_size, model.config.hidden_size, model.config.vocab_size)
    assert sizes == (2, 20, 12, 300)
    rows = json.loads((run / "report.json").read_text(encoding="utf-8"))["stages"]
    assert [row["stage"] for row in rows] == ["teacher", *STAGES]
    assert rows[0]["sentence_similarity"] == pytest.approx(1) and rows[0]["token_similarity"] == pytest.approx(1)
    assert all(-1 <= row["sentence_similarity"] <= 1 and "mlm_accuracy" not in row for row in rows)
    assert len(rows[2]["keep_layers"]) == 2 and 0 < rows[4]["calibration"]["explained"] <= 1
    assert rows[4]["steps"] == 3 and "steps" not in rows[2]
    for folder in (*(run / f"{i:02}-{name}" for i, name in enumerate(STAGES, 1)), run / "model"):
        saved = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"  # a name that both transformers 4 and 5 have
    metadata = yaml.safe_load((run / "model" / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert metadata["pipeline_tag"] == "sentence-similarity"

    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = make_texts(200, 3)
    small, large = (
        torch.tensor(sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts))
        for folder in (run / "model", inputs / "teacher")
    )
    assert small.shape == large.shape == (200, 10)
    assert (small - large).square().sum() < (large - large.mean(dim=0)).square().sum()  # better than the mean


def test_neurons_may_be_scored_by_the_loss_that_is_distilled(compress, tmp_path):
    code, errors = compress("--set", "prune_ffn.method=first_order", "--set", "prune_ffn.score_against=trim_vocab")
    assert code == 0, errors
    rows = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["stages"]
    assert 0 < rows[3]["importance_kept"] < 1


BAD_INPUTS = {
    "logits": (["training.losses={mlm: 1}"], "truncate_hidden: losses: mlm need a masked-LM head"),
    "no losses": (["training.losses=null"], "truncate_hidden: losses: logits_mse, mlm need a masked-LM head"),
    "negative": (["training.losses={hidden_cosine: -1}"], "the weight of hidden_cosine must be a number from 0, got -1"),
    "all zero": (["training.losses={hidden_cosine: 0}"], "all weights are 0, so nothing would be learnt"),
    "unknown": (["training.losses={hidden_cosin: 1}"], "hidden_cosin"),
    "relation heads": (
        ["training.losses={relations: 1}", "training.relation_heads=5"],
        "truncate_hidden: relation_heads=5 must divide the student's attention of width 12",
    ),
    "teacher": (
        ["truncate_hidden.distil_from=adapt_teacher"],
        "truncate_hidden: distil_from: 'adapt_teacher' is no earlier stage",
    ),
    "untrained typo": (["reduce_layers.training.learning_rat=1"], "did you mean 'learning_rate'?"),
    "untrained": (["reduce_layers.distil_from=trim_vocab"], "distil_from 'trim_vocab' does nothing with distil: false"),
    "scores": (["prune_ffn.method=first_order"], "prune_ffn: without a masked-LM head neurons need score_against"),
    "scored against": (["prune_ffn.score_against=truncate_hidden"], "score_against: 'truncate_hidden' is no earlier stage"),
    "little text": (
        ["prune_ffn.calibration_blocks=1"],
        "prune_ffn: calibration has 32 tokens, but needs as many as dimensions, 36",
    ),
    "method": (["truncate_hidden.method=best"], "method must be one of truncate, calibrated, svd, got 'best'"),
    "objective": (["objective=sentences"], "objective must be masked_lm or representation, got 'sentences'"),
    "examples": (["examples=lines"], "examples must be blocks or documents, got 'lines'"),
    "head": (
        ["objective=masked_lm"],
        "saved with its masked-LM head, train a new one (adapt_teacher.new_head: true), or set objective: representation",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_one_line_before_any_work(compress, tmp_path, name):
    settings, message = BAD_INPUTS[name]
    code, errors = compress(*(word for setting in settings for word in ("--set", setting)))
    lines = [line for line in errors.splitlines() if line.strip() and "Generating" not in line]
    assert code == 2 and len(lines) == 1 and message in lines[0], errors
    assert not list((tmp_path / "run").glob("*/*.safetensors"))


def test_a_teacher_with_a_module_that_cannot_be_fitted_is_refused(compress, inputs, tmp_path):
    AutoModel.from_pretrained(inputs / "teacher").save_pretrained(tmp_path / "teacher")
    AutoTokenizer.from_pretrained(inputs / "teacher").save_pretrained(tmp_path / "teacher")
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{PACKAGE}.CNN"}]
    (tmp_path / "teacher" / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    code, errors = compress("--teacher", tmp_path / "teacher")
    assert code == 2 and "has a module CNN, which cannot be fitted to a smaller encoder" in errors
