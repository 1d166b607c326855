"""The commands, code and tables of the documentation."""

import configparser
import json
import re
import shlex
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml
from conftest import RECIPES, tiny_model
from made_up_texts import make_texts
from trained_tokenizers import xlm_roberta

from hf_lrcompress.__main__ import parse_arguments
from hf_lrcompress.benchmarks import quality
from hf_lrcompress.benchmarks.results import overview
from hf_lrcompress.commands.compress import read_config
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.loss_table import LOSSES
from hf_lrcompress.models.architectures import ARCHITECTURES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OF_RECIPES = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
OF_BENCHMARKS = (ROOT / "recipes" / "benchmarks" / "README.md").read_text(encoding="utf-8")
OF_CARDS = (ROOT / "model_cards" / "README.md").read_text(encoding="utf-8")
BOTH = (README + OF_RECIPES).replace("\\\n", " ")
COMMANDS = re.findall(r"^(?:hf-lrcompress|accelerate launch .*-m hf_lrcompress) (.*)$", BOTH, re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", BOTH, re.DOTALL)
SMALLER = {
    "FacebookAI/xlm-roberta-base": "teacher",
    "intermediate_size=2048": "intermediate_size=20",
    "hidden_size=564": "hidden_size=12",
    "vocab_size=40_000": "vocab_size=300",
    "num_train_epochs=3": "num_train_epochs=1",
}


def test_there_are_commands_and_code():
    assert len(COMMANDS) >= 7 and len(PYTHON) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_valid_options_and_configurations(command):
    parsed = parse_arguments(shlex.split(command, comments=True))
    assert parsed.command != "compress" or read_config(parsed).stages


OPTIONS = {
    "compress": ["--lang", "sk"],
    "compare": ["base", "trimmed", "--text", "text.txt"],
    "publish": ["run", "lab/name"],
    "evaluate": ["--lang", "sk", "--model", "m"],
    "study": ["alpha", "--lang", "sk"],
    "export": ["m"],
}


@pytest.mark.parametrize(("name", "needed"), OPTIONS.items())
def test_every_option_is_documented(name, needed):
    for option in vars(parse_arguments([name, *needed])).keys() - {"command"}:
        assert f"--{option}" in OF_RECIPES or option.upper() in OF_RECIPES


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), num_hidden_layers=12, max_position_embeddings=514)
    for folder in ("teacher", "runs/sk-small-cpu/model"):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for name, count in {"slovak": 500, "train": 20, "validation": 5}.items():
        Path(f"{name}.txt").write_text("\n".join(make_texts(count, 1)), encoding="utf-8")
    code = PYTHON[number]
    for large, small in SMALLER.items():
        code = code.replace(large, small)
    left: dict[str, Any] = {}
    exec(compile(code, f"example {number}", "exec"), left)
    made = {0: "runs/sk-small-cpu/model", 1: "small", 2: "distilled"}[number]
    assert (tmp_path / made / "model.safetensors").is_file()
    assert number > 0 or left["states"].shape[::2] == (2, model.config.hidden_size)


def test_the_lines_to_look_up_are_printed_by_the_package():
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "hf_lrcompress").rglob("*.py"))
    section = README[README.index("## When it says no") :]
    lines = re.findall(r"^\| `(?:… )?(.*?)(?: …)?` \|", section, re.MULTILINE)
    assert len(lines) == 7
    for line in lines:
        words = re.sub(r"\b(22786|nan|64|cuda:0)\b", "{}", line)  # what differs from run to run
        assert all(part.strip() in source for part in words.split("{}")), line


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "model_cards/README.md",
    "recipes/README.md",
    "recipes/benchmarks/README.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for path, anchor in re.findall(r"\]\(([^):#]*)#?([^):]*)\)", (ROOT / page).read_text(encoding="utf-8")):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [heading.lower().replace(",", "").replace(" ", "-") for heading in headings]


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert citation["version"] == setup["metadata"]["version"] and citation["license"] == setup["metadata"]["license"]
    assert [reference["url"] for reference in citation["references"]] == [setup["metadata"]["project_urls"].split(" = ")[1]]


def test_the_benchmark_table_is_that_of_the_results():
    files = sorted((RECIPES / "benchmarks" / "results").glob("*.json"))
    table = overview(json.loads(file.read_text(encoding="utf-8")) for file in files)
    assert table in OF_BENCHMARKS, f"recipes/benchmarks/README.md should have:\n{table}"


def test_the_tables_of_methods_are_those_of_the_results():
    result = json.loads((RECIPES / "benchmarks" / "results" / "quality.json").read_text(encoding="utf-8"))
    assert quality.headline(result) in README, quality.headline(result)
    assert quality.scored_table(result) in OF_BENCHMARKS, quality.scored_table(result)
    masked = {row["method"]: row["masked-token accuracy"] for row in result["rows"]}
    shares = [f"{100 * masked[name]:.1f} %" for name in ("ours, masked LM, 10.4 M", "paper's method, 10.4 M")]
    assert f"it fills in {shares[0]} of masked tokens, the paper's method {shares[1]}." in README


def test_the_scores_of_the_configuration_are_those_of_its_card():
    report = json.loads((ROOT / "model_cards" / "sk" / "report.json").read_text(encoding="utf-8"))
    for row in report["scores"]:
        assert f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}" in OF_BENCHMARKS, row["task"]


def test_the_scores_of_the_second_size_are_those_of_its_card():
    report = json.loads((ROOT / "model_cards" / "sk-6.5m" / "report.json").read_text(encoding="utf-8"))
    rows = {row["task"]: row for row in report["scores"] if row["model"] == "truncate_hidden"}
    assert {tuple(row["seeds"]) for row in rows.values()} == {(42, 43, 44)} and report["stages"][-1]["parameters"] == 6_529_536
    tc, sa, pos, ner = (
        f"{name.upper()} {100 * rows[name]['mean']:.1f} ± {100 * rows[name]['std']:.1f}" for name in ("tc", "sa", "pos", "ner")
    )
    kept = {name: 100 * row["retention"] for name, row in rows.items()}
    of_three = mean(kept[name] for name in ("tc", "sa", "pos"))
    page = " ".join(OF_BENCHMARKS.split())
    assert f"{tc}, {sa}, {pos} and {ner}: {of_three:.1f} % of the first three, {kept['ner']:.1f} % of NER, " in page
    assert f"of NER, {mean(kept.values()):.1f} % on average, where the paper's method keeps" in page
    of_cards = " ".join(OF_CARDS.split())
    assert f"It keeps {of_three:.1f} % of the teacher on topics, sentiment and parts of speech" in of_cards
    assert f"and {kept['ner']:.1f} % on entities, so {mean(kept.values()):.1f} % on average." in of_cards


def test_the_scores_of_entities_are_those_of_the_evaluation():
    rows = json.loads((ROOT / "model_cards" / "ner_20_epochs.json").read_text(encoding="utf-8"))["scores"]
    teacher, ours, papers = [f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}" for row in rows]
    kept = [100 * row["retention"] for row in rows]
    assert len(rows) == 3 and {row["epochs"] for row in rows} == {20}
    said = f"teacher {teacher}, the 10.3 M of `small-cpu` {ours}, the paper's method {papers}, "
    said += f"that is {kept[1]:.0f} and {kept[2]:.0f} %."
    assert said in " ".join(README.split())
    assert f"{ours} and {papers} ({teacher}). So `small-cpu` keeps {kept[1]:.1f} % of NER" in " ".join(OF_BENCHMARKS.split())


def test_the_scores_of_the_second_size_with_larger_adapters_are_those_of_the_evaluation():
    small, both = (
        json.loads((ROOT / "model_cards" / f"{name}.json").read_text(encoding="utf-8"))["scores"]
        for name in ("adapters_6.5m", "adapters")
    )
    report = json.loads((ROOT / "model_cards" / "sk-6.5m" / "report.json").read_text(encoding="utf-8"))
    with_16 = {row["task"]: row["values"][0] for row in report["scores"] if row["model"] != "teacher"}
    small = {row["task"]: row for row in small}
    assert {(row["reduction_factor"], row["learning_rate"]) for row in small.values()} == {(2, 5e-4)}
    assert [len(small[task]["seeds"]) for task in ("tc", "pos", "ner")] == [3, 3, 1]
    teacher = {row["task"]: row for row in both if row["reduction_factor"] == 2 and row["model"].startswith("e5")}
    said = {
        name: f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}"
        for name, row in (small | {"of teacher": teacher["pos"]}).items()
    }
    kept = 100 * small["pos"]["mean"] / teacher["pos"]["mean"]
    page = " ".join(OF_BENCHMARKS.split())
    assert f"has POS {said['pos']} where the teacher has {said['of teacher']} then, {kept:.1f} % of it" in page
    assert f"(r = 2) it has {said['pos']} on parts of speech, {kept:.1f} % of a teacher" in " ".join(OF_CARDS.split())
    first = [100 * score for score in (small["ner"]["mean"], with_16["ner"], teacher["ner"]["values"][0])]
    assert "NER {:.1f} (the first seed) where r = 16 had {:.1f} and the teacher has {:.1f}.".format(*first) in page
    assert f"Topics do not gain: {said['tc']}" in page


def test_the_entities_of_the_stages_are_those_of_the_evaluation():
    (teacher, _, papers), stages = (
        json.loads((ROOT / "model_cards" / f"{name}.json").read_text(encoding="utf-8"))["scores"]
        for name in ("ner_20_epochs", "ner_of_the_stages")
    )
    rows = [teacher, *stages, papers]
    assert all((row["task"], row["epochs"], row["seeds"][0]) == ("ner", 20, 42) for row in rows)
    teacher, adapted, layers, neurons, end = (f"{100 * row['values'][0]:.1f}" for row in rows)
    said = f"{teacher} the teacher, {adapted} adapted, {layers} with half of the layers, "
    assert said + f"{neurons} with two thirds of the neurons and {end} at the end" in " ".join(OF_BENCHMARKS.split())


def test_the_scores_with_larger_adapters_are_those_of_the_evaluation():
    before, after = (
        json.loads((ROOT / "model_cards" / f"{name}.json").read_text(encoding="utf-8"))["scores"]
        for name in ("ner_20_epochs", "adapters")
    )
    names = {before[0]["model"]: "teacher", "03-truncate_hidden": "small", "01-trim_vocab": "trimmed"}
    after = [row for row in after if row["task"] == "ner"]
    rows = {(names[row["model"]], row["reduction_factor"], row["learning_rate"]): row for row in after}
    assert len(rows) == len(after) == 6 and {row["epochs"] for row in after} == {20}
    teacher = rows["teacher", 2, 5e-4]
    small = rows["small", 2, 5e-4]
    assert teacher["seeds"] == small["seeds"] == [42, 43, 44]
    kept = 100 * small["mean"] / teacher["mean"]
    of_teacher, of_small = (f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}" for row in (teacher, small))
    in_readme = f"the teacher has {of_teacher}, and the model of `small-cpu` {of_small}, that is {kept:.0f} %."
    assert f"(a reduction factor of 2, not 16) {in_readme}" in " ".join(README.split())
    assert f"made again, keeps {kept:.1f} % where both have larger adapters (r = 2)" in " ".join(OF_CARDS.split())
    page = " ".join(OF_BENCHMARKS.split())
    assert f"r = 2 at 5e-4 has {of_small} (three seeds)" in page
    assert f"The teacher gains as well, {of_teacher} where it had" in page and f": {kept:.1f} % are kept, not" in page
    at_most = [f"{100 * rows[key]['mean']:.1f}" for key in (("small", 16, 1e-3), ("small", 2, 1e-3), ("teacher", 16, 1e-3))]
    assert (
        f"At 1e-3 r = 16 has {at_most[0]} and r = 2 {at_most[1]}" in page
        and f"the teacher with r = 16 {at_most[2]}, less" in page
    )
    trimmed, *others = (f"{100 * row['values'][0]:.1f}" for row in (rows["trimmed", 2, 5e-4], teacher, small))
    assert f"{trimmed} with r = 2, the whole one {others[0]} (the first seed), ours {others[1]}." in page


def test_the_scores_at_other_rates_are_those_of_the_evaluation():
    rows = json.loads((ROOT / "model_cards" / "adapters.json").read_text(encoding="utf-8"))["scores"]
    small = {(row["task"], row["learning_rate"]): f"{100 * row['mean']:.0f}" for row in rows if row["reduction_factor"] == 16}
    in_readme = f"had {small['tc', 1e-4]} at the paper's 1e-4 and {small['tc', 5e-4]} at 5e-4, which `--quick` takes"
    assert in_readme in " ".join(README.split())
    settings = (ROOT / "hf_lrcompress" / "evaluation" / "settings.py").read_text(encoding="utf-8")
    on_topics = f"had {small['tc', 1e-4]} on Slovak topics at 1e-4 and {small['tc', 5e-4]} at this one"
    on_tags = f"on parts of speech {small['pos', 1e-4]} and {small['pos', 5e-4]} (4 epochs)"
    assert on_topics in " ".join(settings.split()) and on_tags in " ".join(settings.split())


def test_the_scores_with_larger_adapters_on_the_other_tasks_are_those_of_the_evaluation():
    rows = json.loads((ROOT / "model_cards" / "adapters.json").read_text(encoding="utf-8"))["scores"]
    report = json.loads((ROOT / "model_cards" / "sk" / "report.json").read_text(encoding="utf-8"))
    found = {(row["task"], row["model"].startswith("03-"), 2): row for row in rows if row["reduction_factor"] == 2}
    found |= {(row["task"], row["model"] != "teacher", 16): row for row in report["scores"]}
    assert all(row["seeds"] == [42, 43, 44] for (task, _, _), row in found.items() if task != "ner")
    said = {key: f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}" for key, row in found.items()}
    page = " ".join(OF_BENCHMARKS.split())
    of_topics = (
        f"has {said['tc', False, 2]} on topics with r = 2, {said['tc', False, 16]} with r = 16, ours (the model made again) "
    )
    assert of_topics + f"{said['tc', True, 2]} and {said['tc', True, 16]} (three seeds each)." in page
    of_tags = f"the teacher {said['pos', False, 2]} where it had {said['pos', False, 16]}, ours {said['pos', True, 2]} "
    kept = [100 * found["pos", True, factor]["mean"] / found["pos", False, factor]["mean"] for factor in (2, 16)]
    assert of_tags + f"where it had {said['pos', True, 16]}: {kept[0]:.1f} % are kept, not {kept[1]:.1f} %." in page
    of_sentiment = f"with r = 2 at 2e-4 the teacher has {said['sa', False, 2]}, with r = 16 at 5e-4 {said['sa', False, 16]}, "
    assert of_sentiment + f"ours {said['sa', True, 2]} and {said['sa', True, 16]}." in page
    in_readme = f"On parts of speech they have {said['pos', False, 2]} and {said['pos', True, 2]} then, {kept[0]:.0f} %."
    assert in_readme in " ".join(README.split())


def test_the_memory_for_more_text_is_that_of_the_results():
    results = json.loads((RECIPES / "benchmarks" / "results" / "memory.json").read_text(encoding="utf-8"))
    largest = max(results["times_the_memory_of_the_smallest_text"].values())
    smallest_text, *_, largest_text = sorted({row["text_mb"] for row in results["rows"]})
    assert f"at most {largest:.2f} times the memory for {largest_text} MB that it takes for {smallest_text}," in OF_BENCHMARKS


def test_the_cost_of_surgery_is_that_of_the_results():
    results = json.loads((RECIPES / "benchmarks" / "results" / "surgery-xlm-r-base.json").read_text(encoding="utf-8"))
    seconds, ratios = ([row[name] for row in results["rows"]] for name in ("seconds", "peak_ratio"))
    assert (
        f"{min(seconds):.1f} to {max(seconds):.1f} seconds" in OF_BENCHMARKS
        and f"at most {max(ratios):.2f} times" in OF_BENCHMARKS
    )


def test_the_speed_of_an_export_is_that_of_the_results():
    rows = json.loads((RECIPES / "benchmarks" / "results" / "export.json").read_text(encoding="utf-8"))["rows"]
    int8 = {(row["outputs"], row["threads"]): row for row in rows if row["model"].endswith("int8")}
    faster = {key: f"{row['times_faster']:.1f}" for key, row in int8.items()}
    text = OF_BENCHMARKS.replace("\n", " ")
    one = f"{faster['logits', 1]} times as fast with logits, {faster['states', 1]} times with states alone"
    assert f"{one}, {min(row['times_smaller'] for row in int8.values()):.0f} times smaller" in text
    assert f"{faster['logits', 2]} and {faster['states', 2]}" in text


def test_every_loss_is_described():
    recipes = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+)` +\|", recipes, re.MULTILINE))
    assert LOSSES.keys() <= described
    assert LOSSES.keys() <= set(re.findall(r"- `(\w+)`:", DistillationConfig.__doc__))


def test_every_supported_family_is_listed():
    section = README[README.index("## What is supported") : README.index("## When it says no")]
    listed = {name for line in section.splitlines() if line.startswith("| ") for name in re.findall("`([a-z0-9-]+)`", line)}
    assert listed - {"model_type"} == {name for row in ARCHITECTURES for name in row.model_types}
