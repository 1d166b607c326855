"""`--lang sk,cs`: what is counted for the languages after the first."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from hf_lrcompress.__main__ import parse_arguments
from hf_lrcompress.commands.compress import default_output_dir, read_config

FILES = ["--train_file", "sk.txt", "--validation_file", "dev.txt"]
HUB = {"path": "cis-lmu/GlotCC-V1", "name": "ces-Latn", "column": "content", "max_documents": 100000}


def config_of(*arguments):
    return read_config(parse_arguments(["compress", *arguments]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"cs": {**HUB, "weight": 1}}),
        (["--set", "trim_vocab.also.cs.weight=0.25"], {"cs": {**HUB, "weight": 0.25}}),
        ([*FILES, "--set", "trim_vocab.also.cs.files=[cs.txt]"], {"cs": {"files": ["cs.txt"], "weight": 1}}),
        (
            ["--set", "trim_vocab.also={law: {files: [law.txt], weight: 2}, cs: {files: [cs.txt], weight: 3}}"],
            {"law": {"files": ["law.txt"], "weight": 2}, "cs": {"files": ["cs.txt"], "weight": 3}},
        ),
    ],
)
def test_the_other_languages_have_the_same_data_set_unless_told_otherwise(arguments, expected):
    config = config_of("--lang", "sk,cs", *arguments)
    assert config.stages["trim_vocab"].also == expected
    assert (config.language.tag, [language.tag for language in config.further_languages]) == ("sk", ["cs"])
    assert default_output_dir(config, "paper-xlmr") == Path("runs/sk-cs-paper-xlmr")


def test_one_language_is_as_before():
    config = config_of("--lang", "sk")
    assert config.stages["trim_vocab"].also == {} and config.further_languages == ()
    assert default_output_dir(config, "some/where.yaml") == Path("runs/sk-where")


@pytest.mark.skipif(find_spec("dataset_build") is None, reason="dataset_build is not installed")
def test_the_demo_has_its_text_in_every_language():
    (file,) = config_of("--lang", "sk, el", "--config", "demo").stages["trim_vocab"].also["el"]["files"]
    assert any("α" <= character <= "ω" for character in Path(file).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lang", "sk,cs", *FILES], "no text in Czech is known; give one, such as --set trim_vocab.also.cs.files=[cs.txt]"),
        (["--lang", "sk,xx"], "'xx' is not a language tag"),
        (["--lang", "sk,"], "--lang sk, has a comma with no language beside it; give tags such as sk or sk,en"),
        (["--lang", "sk,cs,slk"], "--lang sk,cs,slk names Slovak twice; name each language once"),
        (["--lang", "sk,cs", "--stages", "reduce_layers"], "--lang names several languages, which only trim_vocab keeps apart"),
        (["--lang", "sk,cs", "--set", "trim_vocab=3"], "trim_vocab must be a section"),
        (["--lang", "sk,cs", "--set", "trim_vocab.also=3"], "trim_vocab: also must be a section"),
        (["--lang", "sk,cs", "--set", "trim_vocab.also.cs=3"], "also.cs must be a section"),
        (["--lang", "sk,cs", "--set", "trim_vocab.also.cs.weight=-1"], "also: cs needs a weight of more than 0"),
        (["--lang", "sk,cs", "--set", "stages=3"], "stages must be a list"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        config_of(*arguments)
    assert message in str(error.value) and "\n" not in str(error.value)
