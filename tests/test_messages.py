"""Errors are one line of bounded length, with all that is wrong."""

import pytest

from hf_lrcompress.__main__ import main, parse_arguments
from hf_lrcompress.commands.compress import budget_of
from hf_lrcompress.messages import LONGEST_LINE, check_settings, noted, one_line, read_all, refuse, shown


def test_an_error_is_one_line_that_keeps_its_beginning_and_its_end():
    assert one_line(ValueError("a\n  b")) == "a b"
    said = one_line(ValueError("begin " + "x\n" * 10**6 + " end"))
    assert said.startswith("begin x x") and said.endswith("x x end") and len(said) < LONGEST_LINE + 10


def test_a_value_is_cut_where_it_is_long():
    assert shown("a") == "'a'" and shown([1]) == "[1]"
    assert len(shown(list(range(10**5)))) < 110


def test_one_mistake_is_said_as_it_is_and_several_by_number():
    found = []
    with noted(found):
        raise ValueError("first")
    with pytest.raises(ValueError, match="^first$"):
        refuse(found)
    with noted(found):
        read_all(one=lambda: check_settings(["\udcff"]), two=lambda: int("x"), three=lambda: 3)
    with noted(found):
        raise OSError("last")
    with pytest.raises(ValueError, match=r"^4 mistakes: \(1\) first \(2\) the name .* \(3\) .* \(4\) last$"):
        refuse(found)
    assert read_all(a=lambda: 1, b=lambda: 2).b == 2


BUDGETS = {
    "--target_mb": ["1e400", "nan", "-1", "0", "-inf"],
    "--target_parameters": ["", "0", "-5", "nan", "9" * 400, "9" * 5000, "x" * 10**5],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in BUDGETS.items() for value in values])
def test_a_budget_that_is_none(option, value):
    arguments = parse_arguments(["compress", "--lang", "sk", f"{option}={value}"])
    with pytest.raises(ValueError, match="is no number of (megabytes|parameters); give") as error:
        budget_of(arguments)
    assert len(str(error.value)) < 200


def run(name, arguments, capsys):
    assert main([name, *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and len(line) < LONGEST_LINE + 100
    return line


def test_compress_names_all_mistakes_of_a_command_at_once(capsys):
    options = ["--lang", "xx-nonsense", "--set", "a", "--set", "train.files=[5]", "--target_mb", "nan", "--hub_model_id", "a/b"]
    line = run("compress", [*options, "--teacher", "x", "--stages", "nosuch", "--set", "seed=-1"], capsys)
    for part in (
        "--set 'a'",
        "xx-nonsense",
        "files",
        "'nosuch'",
        "megabytes",
        "--hub_model_id does nothing",
        "seed must be from",
    ):
        assert part in line, part


def test_evaluate_names_all_mistakes_of_a_command_at_once(capsys):
    options = ["--lang", "xx-nonsense", "--model", "a", "--model", "a", "--seeds", "a", "--task_data", "tc", "--epochs", "0"]
    line = run("evaluate", options, capsys)
    for part in ("xx-nonsense", "the same model twice", "--seeds", "--task_data tc", "epochs must be 1 or more"):
        assert part in line, part


@pytest.mark.parametrize("option", ["--train_file", "--output_dir", "--teacher", "--config"])
def test_a_file_name_that_is_not_utf8_is_named(option, capsys):
    line = run("compress", ["--lang", "sk", option, "a\udcff.txt"], capsys)
    assert line == r"error: the name 'a\udcff.txt' is not UTF-8; give the file or folder another name"
    for name, arguments in (("evaluate", ["--lang", "sk", "--model", "a\udcff.txt"]), ("publish", ["a\udcff.txt", "a/b"])):
        assert r"the name 'a\udcff.txt' is not UTF-8" in run(name, arguments, capsys)
