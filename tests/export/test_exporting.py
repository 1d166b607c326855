"""ONNX files: equal to PyTorch for every family at any shape, eight bits that are close, and what is refused."""

import importlib.util
import json
import logging
import shlex
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import EVERY_FAMILY, tiny_config, tiny_model
from trained_tokenizers import bert, xlm_roberta
from transformers import BertModel

from hf_lrcompress.__main__ import main
from hf_lrcompress.distillation.masked_accuracy import accuracy_of_logits, mask_text, masked_token_accuracy
from hf_lrcompress.export import exporting, graphs
from hf_lrcompress.export.exporting import export_model
from hf_lrcompress.export.int8 import rows_in_8_bits
from hf_lrcompress.export.running import OnnxModel
from hf_lrcompress.models.saving import save_tokenizer

LAYERS = {"modernbert": 2}
"""Where they differ; elsewhere one will do."""
TEXTS = ["Dobrý deň všetkým.", "Ahoj, ako sa máte dnes?"]


class Names:
    """What the export asks of a tokenizer."""

    def __init__(self, *names):
        self.model_input_names = list(names)


@pytest.mark.parametrize("family", [*EVERY_FAMILY, pytest.param("deberta-v2 convolution", marks=pytest.mark.long)])
def test_every_family_is_equal_at_any_shape_and_close_in_8_bits(family, tmp_path):
    model = tiny_model(family, num_hidden_layers=LAYERS.get(family, 1))
    measured = export_model(model, Names("input_ids", "attention_mask"), tmp_path)
    torch_row, fp32, int8 = measured["rows"]
    assert fp32["difference"] < 1e-5 and fp32["correlation"] == pytest.approx(1) and int8["correlation"] > 0.99
    assert torch_row["speedup"] == 1 and all(row["latency_ms_batch_1"] > 0 for row in measured["rows"])
    for file in ("model.onnx", "model_quantized.onnx"):
        session = onnxruntime.InferenceSession(tmp_path / "onnx" / file)
        assert [(each.name, each.shape) for each in session.get_inputs()] == [
            ("input_ids", ["batch", "sequence"]),
            ("attention_mask", ["batch", "sequence"]),
        ]
        assert [each.name for each in session.get_outputs()] == ["logits"]
        for shape in ((1, 1), (5, 9)):  # of none that was compared
            ids = np.random.default_rng(0).integers(5, 101, shape)
            (logits,) = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
            expected = model(input_ids=torch.from_numpy(ids)).logits.detach().numpy()
            assert np.abs(logits - expected).max() < (1e-4 if file == "model.onnx" else 0.3 * expected.std())


def test_a_tokenizer_that_makes_no_mask_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the tokenizer makes input_ids alone; add attention_mask to its model_input_names"):
        export_model(tiny_model("bert"), Names("input_ids"), tmp_path)


def test_of_an_encoder_with_a_pooler_the_states_are_compared(tmp_path):
    model = BertModel(tiny_config("bert", num_hidden_layers=1)).eval()
    measured = export_model(model, Names("input_ids", "attention_mask"), tmp_path)
    assert OnnxModel(tmp_path / "onnx" / "model.onnx").output == "last_hidden_state" and measured["rows"][1]["difference"] < 1e-5


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A masked LM with tied embeddings, larger than what exporters fold, and its folder."""
    folder = tmp_path_factory.mktemp("exported")
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), hidden_size=96, num_hidden_layers=1)
    return model, tokenizer, folder, export_model(model, tokenizer, folder)


def test_the_table_of_embeddings_is_in_8_bits_and_in_the_file_once(exported):
    model, _, folder, measured = exported
    _, fp32, int8 = (row["size_mb"] * 1e6 for row in measured["rows"])
    table = model.config.vocab_size * model.config.hidden_size
    assert int8 == (folder / "onnx" / "model_quantized.onnx").stat().st_size < fp32 - 2.5 * table
    graph = onnx.load(folder / "onnx" / "model_quantized.onnx").graph
    assert not [each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT and len(each.dims) == 2]


def test_accuracy_by_logits_is_that_of_the_model(exported):
    model, tokenizer, folder, _ = exported
    masked = mask_text(TEXTS, [tokenizer], 38)
    expected = masked_token_accuracy(model, tokenizer, masked)
    assert accuracy_of_logits(model.eval(), tokenizer, masked) == pytest.approx(expected, rel=1e-5)
    assert accuracy_of_logits(OnnxModel(folder / "onnx" / "model.onnx"), tokenizer, masked) == pytest.approx(expected, rel=1e-4)


def test_rows_in_8_bits_are_within_half_a_level():
    weight = np.random.default_rng(0).normal(size=(7, 30)).astype(np.float32)
    weight[3] = 0
    levels, scales = rows_in_8_bits(weight)
    assert levels.dtype == np.int8 and np.abs(levels).max() == 63 and not levels[3].any()
    assert (np.abs(levels * scales[:, None] - weight) <= scales[:, None] * 0.501).all()


def test_other_outputs_are_refused_and_no_file_is_left(tmp_path, monkeypatch):
    model = tiny_model("bert", num_hidden_layers=1)
    graph = graphs.to_onnx(model, ["input_ids", "attention_mask"])
    monkeypatch.setattr(exporting, "to_onnx", lambda *_: graph)
    other = tiny_model("bert", seed=1, num_hidden_layers=1)
    with pytest.raises(ValueError, match="the ONNX model's outputs differ from PyTorch's by up to .*, so it is not kept"):
        export_model(other, Names("input_ids", "attention_mask"), tmp_path)
    assert not list(tmp_path.rglob("*.onnx*"))


def test_an_operation_that_onnx_lacks_is_named(tmp_path, monkeypatch):
    model = tiny_model("bert", num_hidden_layers=1)
    plain = model.bert.embeddings.forward
    monkeypatch.setattr(model.bert.embeddings, "forward", lambda *args, **kwargs: torch.special.bessel_j0(plain(*args, **kwargs)))
    with pytest.raises(ValueError, match="^BertForMaskedLM cannot be exported: ONNX has no operation for prims.bessel_j0$"):
        export_model(model, Names("input_ids", "attention_mask"), tmp_path)


@pytest.fixture
def command(tmp_path, capsys):
    """`command("export DIR …")` → exit code, what it printed, its errors; `model` stands there for a tiny encoder."""
    tokenizer = bert()
    model = tiny_model("bert", vocab_size=len(tokenizer), num_hidden_layers=1)
    model.bert.save_pretrained(tmp_path / "model"), save_tokenizer(tokenizer, tmp_path / "model")
    capsys.readouterr()  # of the bar that saving draws

    def run(line):
        code = main([word.replace("model", str(tmp_path / "model"), 1) for word in shlex.split(line)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_command_writes_both_files_and_overwrites_none(command, tmp_path, caplog):
    code, out, errors = command("export model")
    assert (code, errors) == (0, "") and not [each for each in caplog.records if each.levelno >= logging.INFO]
    assert [line.split("  ")[0] for line in out.splitlines()[2:5]] == ["PyTorch fp32", "ONNX fp32", "ONNX int8"]
    files = [tmp_path / "model" / "onnx" / name for name in ("model.onnx", "model_quantized.onnx")]
    assert sorted((tmp_path / "model" / "onnx").iterdir()) == files
    names = [each.name for each in onnxruntime.InferenceSession(files[0]).get_inputs()]
    assert names == ["input_ids", "token_type_ids", "attention_mask"]  # what the tokenizer makes
    assert OnnxModel(files[1]).output == "last_hidden_state"
    code, _, errors = command("export model")
    assert (code, errors) == (2, f"error: {files[0]} exists; set --overwrite to replace it\n")
    before = files[0].stat().st_mtime_ns
    assert command("export model --overwrite")[0] == 0 and files[0].stat().st_mtime_ns > before


def without(package, name, *rest):
    return None if name == package else importlib.util.find_spec(name, *rest)


def test_a_model_of_a_task_is_refused(command, tmp_path):
    """What is exported has no head, and every check of it would pass."""
    config_file = tmp_path / "model" / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config_file.write_text(json.dumps(config | {"architectures": ["BertForTokenClassification"]}), encoding="utf-8")
    code, _, errors = command("export model")
    assert (
        code == 2 and "model is a BertForTokenClassification, whose head would be lost; optimum-cli export onnx writes" in errors
    )
    assert not (tmp_path / "model" / "onnx").exists()


@pytest.mark.parametrize(
    ("line", "missing", "message"),
    [
        ("export nowhere", "", "nowhere holds no model (config.json); give the folder of one, such as the model/ of a run"),
        ("export model", "onnxruntime", 'the export needs onnxruntime; pip install ".[onnx]" in the repository'),
        ("export model", "onnxscript", 'the export needs onnxscript; pip install ".[onnx]" in the repository'),
    ],
)
def test_bad_input_is_one_line(command, tmp_path, monkeypatch, line, missing, message):
    monkeypatch.setattr(graphs, "find_spec", partial(without, missing))
    assert command(line) == (2, "", f"error: {message}\n")
    assert not (tmp_path / "model" / "onnx").exists()


def test_the_folder_of_a_run_leads_to_its_model(command, tmp_path):
    said = f"error: {tmp_path} holds no model (config.json); give {tmp_path / 'model'}\n"
    assert command(f"export {shlex.quote(str(tmp_path))}") == (2, "", said)


def test_a_model_that_no_file_holds_is_refused():
    class Large:
        def num_parameters(self):
            return 560_000_000

    with pytest.raises(ValueError, match="^the model has 2.2 GB in fp32, an ONNX file has at most 2.1; export a smaller one"):
        graphs.check_exportable(Large())
