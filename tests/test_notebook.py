"""The notebook, with a tiny teacher; its outputs in the file are those of the real one."""

import json

import pytest
from conftest import RECIPES, tiny_model
from made_up_texts import make_texts
from trained_tokenizers import xlm_roberta

NOTEBOOK = json.loads((RECIPES / "notebooks" / "compress.ipynb").read_text(encoding="utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SMALLER = {
    "STEPS = 150": "STEPS = 2",
    "logging_steps=10": "logging_steps=1",
    "intermediate_size=384": "intermediate_size=20",
    "288,": "12,",
    "288)": "12)",
}


def test_every_cell_was_run_in_order_and_without_an_error():
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    assert not [output for cell in CELLS for output in cell["outputs"] if output["output_type"] == "error"]


def test_the_notebook_runs(tmp_path, monkeypatch):
    tokenizer = xlm_roberta()
    for part in (tiny_model("bert", vocab_size=len(tokenizer), intermediate_size=36).base_model, tokenizer):
        part.save_pretrained(tmp_path / "teacher")
    for name, count in {"train": 300, "validation": 12}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(make_texts(count, 1)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hf_lrcompress.demo.texts.save_demo_teacher", lambda: tmp_path / "teacher")
    monkeypatch.setattr(
        "hf_lrcompress.demo.texts.save_demo_text", lambda language: (tmp_path / "train.txt", tmp_path / "validation.txt")
    )
    left = {}
    for cell in CELLS:
        code = "".join(cell["source"])
        for large, small in SMALLER.items():
            code = code.replace(large, small)
        exec(compile(code, "a cell of the notebook", "exec"), left)
    steps = [row["step"] for row in left["rows"]]
    assert steps[0] == "teacher" and steps[-1] == "distilled" and len(steps) == 6
    assert left["rows"][0]["sentence_similarity"] == pytest.approx(1, abs=1e-6)
    assert left["rows"][-1]["parameters"] < left["rows"][0]["parameters"] / 2
    assert left["states"].shape[::2] == (3, 12)
