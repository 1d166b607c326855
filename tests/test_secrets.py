"""Tokens and passwords: taken where they belong, in nothing that is written or printed."""

import pytest
import yaml
from conftest import tiny_model
from made_up_texts import make_texts
from trained_tokenizers import xlm_roberta

from hf_lrcompress.__main__ import main

TOKEN = "hf_" + "PlantedHere9" * 3
PASSWORD = "planted-password"
URL = f"https://someone:{PASSWORD}@example.org/model"


@pytest.fixture
def compress(tmp_path, monkeypatch, capfd):
    """Run the command on a tiny model; its exit code and everything that it wrote or printed."""
    tokenizer = xlm_roberta()
    tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id).save_pretrained(
        tmp_path / "teacher"
    )
    tokenizer.save_pretrained(tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("\n".join(make_texts(40, 1)), encoding="utf-8")
    text = {"files": [str(tmp_path / "text.txt")]}
    training = {"max_steps": 1, "per_device_train_batch_size": 2, "save_steps": 1}
    stages = {"stages": ["reduce_layers"], "reduce_layers": {"num_hidden_layers": 2}, "training": training}
    config = {"teacher": str(tmp_path / "teacher"), "train": text, "validation": text, "block_size": 32} | stages
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "run" / "cache")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("ALL_PROXY", f"http://someone:{PASSWORD}@127.0.0.1:9")

    def run(*arguments):
        options = ["--lang", "sk", "--config", str(tmp_path / "c.yaml"), "--output_dir", str(tmp_path / "run"), *arguments]
        monkeypatch.setattr("sys.argv", ["hf-lrcompress", "compress", *options])
        code = main(["compress", *options])
        captured = capfd.readouterr()
        return code, (captured.out + captured.err).encode() + contents(tmp_path / "run")

    return run


def contents(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_what_a_run_writes_and_prints_holds_no_secret_of_its_environment(compress):
    code, everything = compress()
    assert code == 0 and b"reduce_layers" in everything and len(everything) > 100_000
    assert TOKEN.encode() not in everything and PASSWORD.encode() not in everything


@pytest.mark.parametrize(
    "arguments",
    [
        ["--teacher", URL],
        ["--teacher", TOKEN],
        ["--set", f"training.push_to_hub_token={TOKEN}"],
        ["--set", "training.push_to_hub_token=" + PASSWORD],
        ["--set", f"training.hub_token={PASSWORD}"],
        ["--set", f"training.run_name={URL}"],
        ["--set", TOKEN],
        ["--set", f"train.files=[{URL}]"],
        ["--set", f"nosuch.{TOKEN}=1"],
        ["--hub_model_id", f"lab/{TOKEN}"],
        ["--license", TOKEN],
        ["--stages", TOKEN],
        ["--lang", TOKEN],
        ["--output_dir", TOKEN],
        ["--config", TOKEN],
    ],
    ids=lambda arguments: " ".join(arguments)[:45],
)
def test_a_secret_in_a_command_is_refused_and_not_repeated(compress, arguments):
    code, everything = compress(*arguments)
    assert code == 2 and everything.startswith(b"error: ") and everything.count(b"\n") == 1
    assert TOKEN.encode() not in everything and PASSWORD.encode() not in everything


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("evaluate", ["--lang", "sk", "--model", URL]),
        ("publish", [URL, "lab/x"]),
        ("benchmark", ["surgery", "--output", f"{URL}.json"]),
    ],
)
def test_the_other_commands_repeat_no_secret_either(name, arguments, capfd):
    assert main([name, *arguments]) == 2
    error = capfd.readouterr().err
    assert "URL with a password" in error and PASSWORD not in error
