"""The stage `export` in a run: its files beside the final model, its rows in report and card, its resume, and what is refused."""

import json
from types import SimpleNamespace

import pytest
import yaml
from conftest import tiny_model
from made_up_texts import make_texts
from trained_tokenizers import bert

from hf_lrcompress.__main__ import main
from hf_lrcompress.export import exporting, graphs
from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.publishing.hub_files import PUBLISHED, files_to_publish
from hf_lrcompress.run.folder import read_complete_run
from hf_lrcompress.stages.export import Export

FILES = ["onnx/model.onnx", "onnx/model_quantized.onnx"]
TRIM = {"block_size": 32, "trim_vocab": {"vocab_size": 300}, "stages": ["trim_vocab", "export"]}


def test_a_tokenizer_that_makes_no_mask_is_refused_before_anything_is_trained():
    """A KeyError came after all stages."""
    inputs = SimpleNamespace(tokenizer=SimpleNamespace(model_input_names=["input_ids"]))
    with pytest.raises(ValueError, match="the tokenizer makes input_ids alone; add attention_mask to its model_input_names"):
        Export().check(inputs, {})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    tokenizer = bert()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    model = tiny_model("bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, num_hidden_layers=1)
    model.save_pretrained(folder / "teacher"), save_tokenizer(tokenizer, folder / "teacher")
    for name, count in (("train", 300), ("validation", 30)):
        (folder / f"{name}.txt").write_text("\n".join(make_texts(count, count)), encoding="utf-8")
    texts = {name: {"files": [str(folder / f"{name}.txt")]} for name in ("train", "validation")}
    config = TRIM | texts | {"teacher": str(folder / "teacher")}
    (folder / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
        yield folder


@pytest.fixture
def compress(inputs, tmp_path, capsys):
    """Run the command in this process: `compress("--set", …)` → exit code, its errors."""

    def run(*arguments):
        command = ["compress", "--lang", "sk", "--config", str(inputs / "run.yaml"), "--output_dir", str(tmp_path / "run")]
        code = main([*command, *arguments])
        return code, capsys.readouterr().err

    return run


def interrupted(model):
    raise KeyboardInterrupt


def test_a_run_exports_its_final_model_and_resumes(compress, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(exporting, "quantize", interrupted)
        compress()
    assert not json.loads((run / "02-export" / "stage.json").read_text())["complete"] and not (run / "model").exists()
    code, errors = compress()
    assert code == 0, errors
    recorded = json.loads((run / "02-export" / "stage.json").read_text())["files"]
    assert sorted(recorded) == FILES
    for name in FILES:
        assert (run / "model" / name).read_bytes() == (run / "02-export" / name).read_bytes()
    published = {path.relative_to(run / "model").as_posix() for path in files_to_publish(run / "model", PUBLISHED)}
    assert published >= {*FILES, "model.safetensors", "README.md"}

    report = read_complete_run(run)
    assert [row["stage"] for row in report["stages"]] == ["teacher", "trim_vocab"]
    pytorch, fp32, int8 = report["export"]["rows"]
    assert report["export"]["tokens"] == 40 and report["export"]["threads"] >= 1
    assert pytorch["mlm_accuracy"] == report["stages"][1]["mlm_accuracy"] == fp32["mlm_accuracy"]
    assert fp32["mlm_loss"] == pytest.approx(pytorch["mlm_loss"], abs=1e-4)
    assert int8["mlm_loss"] == pytest.approx(pytorch["mlm_loss"], abs=0.1)
    assert int8["size_mb"] < fp32["size_mb"] and pytorch["size_mb"] == 4e-6 * report["stages"][1]["parameters"]
    for text in (run / "report.md", run / "model" / "README.md"):
        assert f"{int8['latency_ms_batch_1']:.1f}" in text.read_text(encoding="utf-8") and "ONNX int8" in text.read_text()
    assert "onnx" in yaml.safe_load((run / "model" / "README.md").read_text(encoding="utf-8").split("---")[1])["tags"]

    made = (run / "02-export" / "stage.json").stat().st_mtime_ns
    assert compress()[0] == 0 and (run / "02-export" / "stage.json").stat().st_mtime_ns == made
    (run / "model" / FILES[1]).write_bytes(b"other")
    code, errors = compress()
    assert code == 2 and "has another onnx/model_quantized.onnx than its last stage has made" in errors
    with pytest.raises(ValueError, match="onnx/model_quantized.onnx was changed"):
        read_complete_run(run)


def test_an_encoder_of_sentences_is_measured_by_its_similarities(compress, tmp_path):
    code, errors = compress("--set", "objective=representation")
    assert code == 0, errors
    rows = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["export"]["rows"]
    assert [row["sentence_similarity"] for row in rows[1:]] == pytest.approx([rows[0]["sentence_similarity"]] * 2, abs=0.02)
    assert not any("mlm_accuracy" in row for row in rows)
    assert {"onnx", "1_Pooling", "modules.json"} <= {path.name for path in (tmp_path / "run" / "model").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "missing", "message"),
    [
        (["--stages", "export,trim_vocab"], "", "stages: export is of the final model; put it after trim_vocab"),
        (["--stages", "export"], "", "stages: there is none that makes a model; for the teacher itself: hf-lrcompress export"),
        ([], "onnxruntime", 'the export needs onnxruntime; pip install ".[onnx]" in the repository'),
    ],
)
def test_bad_input_is_one_line_before_any_work(compress, tmp_path, monkeypatch, arguments, missing, message):
    find_spec = graphs.find_spec
    monkeypatch.setattr(graphs, "find_spec", lambda name: None if name == missing else find_spec(name))
    for further in ([], ["--dry_run"]):
        code, errors = compress(*arguments, *further)
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert (code, lines) == (2, [f"error: {message}"])
    assert not list((tmp_path / "run").glob("*/*.safetensors"))


def test_a_model_that_no_file_holds_is_refused_before_any_work(compress, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_BYTES", 1000)
    code, errors = compress("--dry_run")
    assert code == 2 and "export: the model has 0.0 GB in fp32, an ONNX file has at most" in errors
