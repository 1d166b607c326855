"""The task data of the Hub, read with the unpatched clients from a local server that holds small files in the real layouts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import List as ListFeature
from hub_server import File, HubServer

ROOT = Path(__file__).parent.parent.parent
PARQUET = "refs/convert/parquet"
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
UPOS = ["NOUN", "PUNCT", "ADP", "_", "INTJ"]
TREEBANKS = "universal-dependencies/universal_dependencies"
READ = """
import json, sys
from hf_lrcompress.evaluation.task_data import load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.texts.languages import Language

answers = []
for name, tag in json.loads(sys.argv[1]):
    try:
        data = load_task(TASKS[name], Language.from_tag(tag))
        splits = data and [[[x.inputs, x.labels] for x in split] for split in (data.train, data.validation, data.test)]
        answers.append([data and data.source, splits])
    except (ValueError, OSError) as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


def parquet(folder, rows, **features):
    file = folder / "rows.parquet"
    Dataset.from_list(rows, Features(features)).to_parquet(file)
    return file.read_bytes()


def card(configs):
    """A README whose header names the files of every configuration, as the Hub's data sets have it."""
    lines = ["---", "configs:"]
    for name, files in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [line for split, path in files.items() for line in (f"  - split: {split}", f"    path: {path}")]
    return "\n".join([*lines, "---", ""]).encode()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What is read of each task and language."""
    folder = tmp_path_factory.mktemp("hub")
    splits = ("train", "validation", "test")
    label = ClassLabel(names=["negative", "positive"])
    with HubServer() as server:
        topics = {s: f"data/slk_Latn/{f}.tsv" for s, f in zip(splits, ("train", "dev", "test"), strict=True)}
        rows = 'index_id\tcategory\ttext\n1\tsports\tHokej "je" hra\n2\tpolitics\tVoľby\n'.encode()
        server.add("Davlan/sib200", {"README.md": card({"slk_Latn": topics})} | dict.fromkeys(topics.values(), rows))

        names = [{"tokens": ["Anna", "spí"], "ner_tags": [1, 0], "langs": ["sk", "sk"], "spans": ["PER: Anna"]}]
        plain = ListFeature(Value("string"))
        file = parquet(folder, names, tokens=plain, ner_tags=ListFeature(ClassLabel(names=TAGS)), langs=plain, spans=plain)
        paths = {split: f"sk/{split}-00000-of-00001.parquet" for split in splits}
        server.add("unimelb-nlp/wikiann", {"README.md": card({"sk": paths})} | dict.fromkeys(paths.values(), file))

        tagged = parquet(
            folder, [{"tokens": ["Pes", "."], "upos": [0, 1]}], tokens=plain, upos=ListFeature(ClassLabel(names=UPOS))
        )
        parts = [{"tokens": ["im", "in", "dem", "Haus"], "upos": [3, 2, 2, 0]}]
        unseen = [{"tokens": ["Ach", "Haus"], "upos": [4, 0]}]
        treebank = {"train": parts, "validation": parts, "test": unseen}
        rated = [{"tweet": text, "label": i} for i, text in enumerate(["Vibaya", "Sawa", "Nzuri"])]
        three = ClassLabel(names=["negative", "neutral", "positive"])
        for repo, name, file in (
            (TREEBANKS, "sk_snk", tagged),
            ("masakhane/masakhapos", "swa", tagged),
            ("masakhane/afrisenti", "swa", parquet(folder, rated, tweet=Value("string"), label=three)),
        ):
            added = server.add(repo, {"script.py": b"raise ValueError"})
            added.add_commit(PARQUET, {f"{name}/{split}/0000.parquet": File(file, False) for split in splits})

        hidden = parquet(folder, [{"tweet": "Da kyau", "label": -1}], tweet=Value("string"), label=three)
        files = server.files("masakhane/afrisenti", PARQUET) | {f"hau/{split}/0000.parquet": hidden for split in splits}
        tweets = server.repositories["masakhane/afrisenti"]
        tweets.add_commit(PARQUET, {path: File(content, False) for path, content in files.items()})

        features = {"tokens": plain, "upos": ListFeature(ClassLabel(names=UPOS))}
        german = {f"de_gsd/{split}/0000.parquet": parquet(folder, rows, **features) for split, rows in treebank.items()}
        sk_and_de = server.files(TREEBANKS, PARQUET) | german
        server.repositories[TREEBANKS].add_commit(PARQUET, {path: File(content, False) for path, content in sk_and_de.items()})

        rated = parquet(folder, [{"text": "Dobré", "label": 1}, {"text": "Zlé", "label": 0}], text=Value("string"), label=label)
        server.add("DGurgurov/slovak_sa", {f"data/{split}-00000-of-00001.parquet": rated for split in splits})
        server.add("DGurgurov/maltese_sa", {f"{split}.csv": b"sentence,label\nTajjeb,1\n" for split in splits})

        wanted = [("tc", "sk"), ("ner", "sk"), ("pos", "sk"), ("pos", "sw"), ("sa", "sw"), ("sa", "sk")]
        wanted += [("tc", "mt"), ("pos", "th"), ("sa", "mt"), ("pos", "mt"), ("pos", "de"), ("sa", "ha")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(folder / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run([sys.executable, "-c", READ, json.dumps(wanted)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(zip(wanted, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize(
    "task, language, source, rows",
    [
        ("tc", "sk", "Davlan/sib200", [['Hokej "je" hra', "sports"], ["Voľby", "politics"]]),
        ("ner", "sk", "unimelb-nlp/wikiann", [[["Anna", "spí"], ["B-PER", "O"]]]),
        ("pos", "sk", TREEBANKS, [[["Pes", "."], ["NOUN", "PUNCT"]]]),
        ("pos", "sw", "masakhane/masakhapos", [[["Pes", "."], ["NOUN", "PUNCT"]]]),
        ("sa", "sw", "masakhane/afrisenti", [["Vibaya", "negative"], ["Nzuri", "positive"]]),
        ("sa", "sk", "DGurgurov/slovak_sa", [["Dobré", "positive"], ["Zlé", "negative"]]),
    ],
)
def test_every_data_set_is_read(answers, task, language, source, rows):
    assert answers[task, language] == [source, [rows] * 3]


def test_a_word_that_only_has_parts_is_left_out_and_a_tag_that_train_lacks_counts(answers):
    parts = [[["in", "dem", "Haus"], ["ADP", "ADP", "NOUN"]]]
    assert answers["pos", "de"][1] == [parts, parts, [[["Ach", "Haus"], ["INTJ", "NOUN"]]]]


def test_a_language_without_data_has_none(answers):
    assert answers["tc", "mt"] == answers["pos", "th"] == [None, None]


def test_what_is_wrong_is_one_line(answers):
    assert answers["sa", "mt"] == ["ValueError", "DGurgurov/maltese_sa has no column 'text'; there are: sentence, label"]
    unnamed = "masakhane/afrisenti, train, row 0: label -1 has no name; the data set has 3, the first for 0"
    assert answers["sa", "ha"] == ["ValueError", unnamed]
    kind, message = answers["pos", "mt"]
    assert kind == "FileNotFoundError"
    assert message == f"pos: {TREEBANKS} has no mt_mudt; give a folder of local files as the data of pos"
