"""Task files as people publish them: what each is read as, or the one line that says what is wrong."""

import gzip
import json
import logging
import os
from types import SimpleNamespace

import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import List as ListFeature
from evaluation.tiny_tasks import save_models_and_tasks, write_lines
from transformers import AutoConfig, AutoModel

from hf_lrcompress.__main__ import main
from hf_lrcompress.evaluation.encoding import EncodedSplit, EncodedTask, ModelUnderTest
from hf_lrcompress.evaluation.entries import Entry
from hf_lrcompress.evaluation.examples import Example, TaskData
from hf_lrcompress.evaluation.progress import Progress
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.evaluation.tables import score_notes
from hf_lrcompress.evaluation.task_data import load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.run.configuration import build
from hf_lrcompress.stages import STAGES
from hf_lrcompress.texts.languages import Language

SLOVAK = Language.from_tag("sk")
NAMES = [(["Anna", "spí"], ["B-PER", "O"])]
WORDS = [(["Anna", "spí"], ["PROPN", "VERB"])]
TEXTS = [("Dobré", "a"), ("Zlé", "b")]
CHOOSE = "choose those of word and tag with --task_columns"


def upos(*rows, misc="_"):
    """Lines of CoNLL-U."""
    return "".join(f"{number}\t{form}\t_\t{tag}" + "\t_" * 5 + f"\t{misc}\n" for number, form, tag in rows)


def write(folder, ending, text, labels=""):
    for split in ("train", "dev", "test"):
        (folder / f"sk_snk-ud-{split}{ending}").write_text(text, encoding="utf-8")
    if labels:
        (folder / "labels.txt").write_text(labels, encoding="utf-8")
    return folder


ANNA = upos((1, "Anna", "PROPN"), (2, "spí", "VERB"))
MULTICONER = "\n\n# id 12\tdomain=sk\nAnna _ _ B-PER\nspí _ _ O\n\n\n# id 13\tdomain=sk\nAnna _ _ B-PER\nspí _ _ O\n"
READ = {
    "Universal NER": ("ner", ".iob2", "# sent_id = 1\n# text = Anna\n1\tAnna\tB-PER\t-\tX\n2\tspí\tO\t-\t-\n", NAMES),
    "its columns in .conll": ("ner", ".conll", "1\tAnna\tB-PER\t-\tX\n2\tspí\tO\t-\tX\n", NAMES),
    "CoNLL-2003": ("ner", ".conll", "-DOCSTART- -X- -X- O\n\nAnna NNP B-NP B-PER\nspí VB O O\n", NAMES),
    "a comment in columns by spaces": ("ner", ".conll", MULTICONER, NAMES * 2),
    "a comment in columns by tabs": ("ner", ".conll", "# id 12\tdomain=sk\nAnna\tB-PER\nspí\tO\n", NAMES),
    "a comment with the width of a word": ("ner", ".conll", "# newdoc\nAnna B-PER\nspí O\n", NAMES),
    "the word #, by spaces": (
        "ner",
        ".conll",
        "# O\nje O\n\nAnna B-PER\n# O\n",
        [(["#", "je"], ["O", "O"]), (["Anna", "#"], ["B-PER", "O"])],
    ),
    "the word #, by tabs": ("pos", ".conll", "#\tSYM\nAnna\tPROPN\n", [(["#", "Anna"], ["SYM", "PROPN"])]),
    "a comment and the word #": (
        "ner",
        ".conll",
        "# x y z\n#1 O\nAnna B-PER\nspí O\n",
        [(["#1", "Anna", "spí"], ["O", "B-PER", "O"])],
    ),
    "a space in a word": ("ner", ".conll", "New York\tB-LOC\nje\tO\n", [(["New York", "je"], ["B-LOC", "O"])]),
    "a no-break space in a word": ("ner", ".conll", "a\xa0b B-LOC\n\xa0 O\n", [(["a\xa0b", "\xa0"], ["B-LOC", "O"])]),
    "types with a hyphen, and none": ("ner", ".conll", "Anna B-A-B\nspí I\n", [(["Anna", "spí"], ["B-A-B", "I"])]),
    "parts of speech": ("pos", ".conllu", "# text = x\n" + upos(("1-2", "Annaspí", "_")) + ANNA, WORDS),
    "numbered parts of speech": ("pos", ".conll", "1 Anna PROPN\n2 spí VERB\n", WORDS),
    "ranges in numbered words": ("ner", ".conll", "1-2 Annaspí _\n1 Anna B-PER\n2 spí O\n", NAMES),
    "texts in CSV": (
        "tc",
        ".csv",
        '\ufeffid,label,text\r\n1,a,"Dobré, ""\r\nvraj"""\r\n2,b,Zlé\r\n',
        [('Dobré, "\r\nvraj"', "a"), TEXTS[1]],
    ),
    "texts in TSV": ("tc", ".tsv", 'text\tlabel\n"Dobré\ta\n\nZlé\tb\n', [('"Dobré', "a"), TEXTS[1]]),
    "labels and columns with spaces": ("tc", ".csv", "text, label\nDobré, a\nZlé,b \n", TEXTS),
    "files put together": ("ner", ".iob2", "\ufeff1\tAnna\tB-PER\n2\tspí\tO\n\n\ufeff1\tAnna\tB-PER\n2\tspí\tO\n", NAMES * 2),
    "names in capitals": ("tc", ".CSV", "text,label\nDobré,a\nZlé,b\n", TEXTS),
    "words in CSV": ("ner", ".csv", "tokens,tags\nAnna spí,B-PER O\n", NAMES),
    "words in TSV": ("pos", ".tsv", "tokens\ttags\nAnna spí\tPROPN VERB\n", WORDS),
}


@pytest.mark.parametrize("case", READ)
def test_files_are_read_as_they_are_published(case, tmp_path):
    task, ending, text, expected = READ[case]
    data = load_task(TASKS[task], SLOVAK, write(tmp_path, ending, text))
    rows = [(list(row.inputs), list(row.labels)) if TASKS[task].tokens else (row.inputs, row.labels) for row in data.test]
    assert rows == expected and data.train == data.test == data.validation


TAGGED = [{"tokens": ["Anna", "spí"], "tags": [1, 0], "id": None}]
RATED = [{"text": text, "label": int(label == "b"), "id": None} for text, label in TEXTS]
FEATURES = {
    "ner": {"tokens": ListFeature(Value("string")), "tags": ListFeature(ClassLabel(names=["O", "B-PER"]))},
    "tc": {"text": Value("string"), "label": ClassLabel(names=["a", "b"])},
}


def parquet(folder, task, rows, **others):
    """A folder of Parquet files as `datasets` writes and the Hub names them."""
    rows = Dataset.from_list(rows, Features(FEATURES[task] | {"id": Value("int64")} | others))
    for split in ("train", "validation", "test"):
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize(("task", "rows", "expected"), [("ner", TAGGED, NAMES), ("tc", RATED, TEXTS)])
def test_rows_are_the_same_in_json_lines_and_in_parquet_packed_or_not(task, rows, expected, tmp_path):
    read = [load_task(TASKS[task], SLOVAK, parquet(tmp_path, task, rows))]
    plain = [dict(zip(FEATURES[task], row, strict=True)) for row in expected]
    lines = "".join(json.dumps(row) + "\n" for row in plain).encode()
    for ending, content in ((".json", lines), (".jsonl.gz", gzip.compress(lines))):
        folder = tmp_path / ending
        folder.mkdir()
        for split in ("train", "dev", "test"):
            (folder / f"{split}{ending}").write_bytes(content)
        read.append(load_task(TASKS[task], SLOVAK, folder))
    assert [(row.inputs, row.labels) for row in read[0].test] == [
        tuple(tuple(cell) if isinstance(cell, list) else cell for cell in row) for row in expected
    ]
    assert read[0].identity() == read[1].identity() == read[2].identity()


def test_parquet_with_labels_that_are_numbers_alone_takes_their_names_from_the_folder(tmp_path):
    parquet(tmp_path, "ner", TAGGED, tags=ListFeature(Value("int64")))
    with pytest.raises(ValueError, match="row 1: tag 1 is a number; put the tags' names into labels.txt"):
        load_task(TASKS["ner"], SLOVAK, tmp_path)
    (tmp_path / "labels.txt").write_text("O\nB-PER\n", encoding="utf-8")
    assert load_task(TASKS["ner"], SLOVAK, tmp_path).train == (Example(("Anna", "spí"), ("B-PER", "O")),)


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (
            [*RATED, {"text": "Tak", "label": -1}],
            bytes,
            "row 3: label -1 has no name; the file has 2, the first for 0",
        ),
        ([*RATED, {"text": "Tak", "label": None}], bytes, "row 3: tc needs a label, a text or a whole number, got None"),
        (RATED, lambda content: content[:-20], "train-00000-of-00001.parquet is not a Parquet file, or a damaged one"),
        (RATED, lambda content: b"text,label\n", "or name it after what it is"),
    ],
)
def test_what_is_wrong_with_parquet_is_one_line(rows, change, message, tmp_path):
    path = parquet(tmp_path, "tc", rows) / "train-00000-of-00001.parquet"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        load_task(TASKS["tc"], SLOVAK, tmp_path)


GERMEVAL = "#\tsource [2009]\n1\tAnna\tB-PER\tO\n2\tspí\tO\tO\n"
CHOSEN = {
    "names of JSON": (
        "tc",
        ".jsonl",
        '{"headline": "Dobré", "topic": "a"}\n{"headline": "Zlé", "topic": "b"}\n',
        "headline,topic",
        TEXTS,
    ),
    "names of CSV": ("tc", ".csv", "topic,headline\na,Dobré\nb,Zlé\n", "headline,topic", TEXTS),
    "numbers of columns": ("ner", ".conll", GERMEVAL, "2,3", NAMES),
    "of several that could be meant": ("pos", ".conll", "Anna PROPN x\nspí VERB y\n", "1,2", WORDS),
    "entities in CoNLL-U": (
        "ner",
        ".conllu",
        upos((1, "Anna", "X"), misc="B-PER") + upos((2, "spí", "X"), misc="O"),
        "2,10",
        NAMES,
    ),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_columns_can_be_chosen(case, tmp_path):
    task, ending, text, columns, expected = CHOSEN[case]
    data = load_task(TASKS[task], SLOVAK, write(tmp_path, ending, text), columns.split(","))
    rows = [(list(row.inputs), list(row.labels)) if TASKS[task].tokens else (row.inputs, row.labels) for row in data.train]
    assert rows == expected


NUMBERS = {
    "tags in JSON": ("ner", ".jsonl", '{"tokens": ["Anna", "spí"], "tags": [1, 0]}\n', "O\nB-PER\n", NAMES),
    "tags in TSV": ("pos", ".tsv", "tokens\ttags\nAnna spí\t0 1\n", "PROPN\nVERB\n", WORDS),
    "tags in CoNLL": ("ner", ".conll", "Anna 1\nspí 0\n", "O\nB-PER\n", NAMES),
    "labels": ("tc", ".csv", "text,label\nDobré,0\nZlé,1\n", "a\nb\n", TEXTS),
    "labels without names": ("tc", ".csv", "text,label\nDobré,0\nZlé,1\n", "", [("Dobré", "0"), ("Zlé", "1")]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_labels_that_are_numbers_have_names(case, tmp_path):
    task, ending, text, labels, expected = NUMBERS[case]
    data = load_task(TASKS[task], SLOVAK, write(tmp_path, ending, text, labels))
    rows = [(list(row.inputs), list(row.labels)) if TASKS[task].tokens else (row.inputs, row.labels) for row in data.train]
    assert rows == expected


REFUSED = {
    "parts of speech as entities": ("ner", ".conllu", ANNA, f"line 1: CoNLL-U has parts of speech, ner needs entities.*{CHOOSE}"),
    "parts of speech in JSON": (
        "ner",
        ".jsonl",
        '{"tokens": ["a", "b"], "tags": ["NOUN", "O"]}\n',
        "line 1: tag 'NOUN' is not IOB2",
    ),
    "the type first": ("ner", ".conll", "Anna PER-B\nspí O\n", "line 1: tag 'PER-B' is not IOB2; .*1: 'Anna', 2: 'PER-B'"),
    "no prefix": ("ner", ".csv", "tokens,tags\nAnna spí,PER O\n", "line 2: tag 'PER' is not IOB2"),
    "BILOU": (
        "ner",
        ".iob2",
        "1\tspí\tO\n2\tAnna\tU-PER\n",
        "line 2: tag 'U-PER' is not IOB2; give O, B-TYPE and I-TYPE .*U- and S- are B-",
    ),
    "an annotator last": ("ner", ".conll", "Anna B-PER X\nspí O X\n", f"line 1: tag 'X' is not.*3: 'X'; {CHOOSE} ner=2,3"),
    "two columns of entities": (
        "ner",
        ".conll",
        GERMEVAL,
        f"line 2: it is not clear which column.*2: 'Anna', 3: 'B-PER'.*{CHOOSE}",
    ),
    "entities as parts of speech": (
        "pos",
        ".conll",
        "Anna NNP B-PER\nspí VB O\n",
        f"line 1: it is not clear which column.*{CHOOSE}",
    ),
    "a space in a word, by spaces": (
        "ner",
        ".conll",
        "New York B-LOC\nje O\nv O\n",
        "line 1: 3 columns where most lines have 2; separate",
    ),
    "a comment in a sentence": ("ner", ".conll", "Anna B-PER\n# a comment\nspí O\n", "line 2: 3 columns where most lines have 2"),
    "CoNLL-U by spaces": ("pos", ".conllu", ANNA.replace("\t", " "), "line 1: 1 columns; CoNLL-U has 10, separated by tabs"),
    "one line of it": (
        "pos",
        ".conllu",
        ANNA + "3 dnes _ ADV _ _ _ _ _ _\n",
        "line 3: 1 columns; CoNLL-U has 10, separated by tabs",
    ),
    "words without a number": (
        "pos",
        ".conllu",
        ANNA + upos(("a", "b", "X")),
        "line 3: 10 columns; CoNLL-U has 10.* numbers the words",
    ),
    "no part of speech": ("pos", ".conllu", ANNA + upos((3, "x", "_")), "line 3: the tag of 'x' is '_'"),
    "no words": ("pos", ".conllu", upos((1, "_", "NOUN"), (2, "_", "VERB")), "every word is '_'; get the text"),
    "one label": (
        "tc",
        ".csv",
        "text,label\nx,a\ny,a\n",
        "'a' is the only label in the train split: there is nothing to tell apart",
    ),
    "one tag": ("ner", ".conll", "Anna O\nspí O\n", "'O' is the only label in the train split"),
    "one sentence of 2,000 words": (
        "ner",
        ".conll",
        "Anna B-PER\nspí O\n" * 1000,
        "1,488 of 2,000 words in the train split .* blank line",
    ),
    "numbers without names": (
        "pos",
        ".conll",
        "Anna 1\nspí 0\n",
        "line 1: tag 1 is a number; put the tags' names into labels.txt",
    ),
    "no such column": (
        "tc",
        ".csv",
        "headline,label\nx,a\n",
        "line 2: tc needs columns text and label; there are: headline, label",
    ),
    "no label": ("tc", ".csv", "text,label\nx,\n", "line 2: tc needs a label, a text or a whole number, got ''"),
    "a label that is no whole number": ("tc", ".jsonl", '{"text": "x", "label": 1.0}\n', "a whole number, got 1.0"),
    "lists as pandas writes them": (
        "pos",
        ".csv",
        "tokens,tags\n\"['Anna', 'spí']\",\"['PROPN', 'VERB']\"\n",
        "line 2: a list as pandas or JSON writes it; give words with spaces between, or lists in .jsonl",
    ),
    "a damaged number": (
        "ner",
        ".iob2",
        "1\tAnna\tB-PER\n2\tspí\tO\n\n" * 9 + "1\tAnna\tB-PER\n2a\tspí\tO\n",
        "line 29: the first column numbers the words, but here it is '2a'; correct it",
    ),
    "a cell too many": ("tc", ".csv", "text,label\nx,y,a\n", "line 2: 3 columns, the first line has 2"),
    "quotation marks": ("tc", ".csv", 'text,label\n"a" b,c\n', "line 2: .* expected after .*; is a quote not closed"),
    "a word without end": ("pos", ".conll", "Anna PROPN\n" + "x" * 100_001 + " VERB\n", "line 1: more than 100,000 characters"),
    "a text without end": (
        "tc",
        ".tsv",
        "text\tlabel\n" + "x " * 50_001 + "\ta\n",
        "line 2: more than 100,000 .* cut it",
    ),
    "a quotation that does not end": ("tc", ".csv", 'text,label\n"a,b\nc,d\n', "line 3: unexpected end of data"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_a_file_is_one_line(case, tmp_path):
    task, ending, text, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        load_task(TASKS[task], SLOVAK, write(tmp_path, ending, text))


@pytest.mark.parametrize("name", ["train.conll", "labels.txt"])
def test_a_pipe_in_a_folder_of_data(name, tmp_path):
    write(tmp_path, ".conll", "Anna B-PER\nspí O\n")
    (tmp_path / "sk_snk-ud-train.conll").rename(tmp_path / "train.conll")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=f"{name} is no file"):
        load_task(TASKS["ner"], SLOVAK, tmp_path)


def test_a_name_for_two_labels_is_one_line(tmp_path):
    write(tmp_path, ".csv", "text,label\nx,0\ny,1\n", "a\na \n")
    with pytest.raises(ValueError, match="labels.txt has 'a' twice; give each label a name of its own"):
        load_task(TASKS["tc"], SLOVAK, tmp_path)


@pytest.mark.parametrize(("sentences", "refused"), [(40, True), (60, False)])
def test_a_rare_label_that_train_lacks_counts_as_an_error(sentences, refused, tmp_path, caplog):
    """A small treebank's test has classes that its train lacks; where they are many somebody has slipped."""
    sentence = "Anna PROPN\nspí VERB\n\n"
    write(tmp_path, ".conll", sentence * sentences)
    (tmp_path / "sk_snk-ud-test.conll").write_text("+ SYM\n\n" + sentence * sentences, encoding="utf-8")
    if refused:
        with pytest.raises(ValueError, match="pos: label 'SYM' in the test split is not in train; correct it or leave out"):
            load_task(TASKS["pos"], SLOVAK, tmp_path)
    else:
        assert "SYM" in load_task(TASKS["pos"], SLOVAK, tmp_path).labels
        assert "label 'SYM' in the test split is not in train" in caplog.text and "it counts as an error" in caplog.text


def test_a_number_without_a_name_is_one_line(tmp_path):
    write(tmp_path, ".conll", "Anna 1\nspí 2\n", "O\nB-PER\n")
    with pytest.raises(ValueError, match="line 1: label 2 has no name; labels.txt has 2, the first for 0"):
        load_task(TASKS["ner"], SLOVAK, tmp_path)


@pytest.mark.parametrize("columns", ["12", ["text"], ["text", "text"], 3])
def test_columns_are_two(columns, tmp_path):
    with pytest.raises(ValueError, match="columns of tc: give two"):
        load_task(TASKS["tc"], SLOVAK, tmp_path, columns)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tc=headline,subject", "line 2: tc needs columns headline and subject; there are: headline, topic"),
        ("tc", "--task_columns tc: give it as TASK=INPUTS,LABELS"),
        ("sa=a,b", "columns of sa: give a folder of local files as the data of sa as well"),
    ],
)
def test_the_command_takes_columns(given, message, tmp_path, capsys):
    write(tmp_path, ".csv", "headline,topic\nDobré,a\nZlé,b\n")
    options = ["--model", "x", "--lang", "sk", "--tasks", "tc", "--task_data", f"tc={tmp_path}", "--task_columns", given]
    assert main(["evaluate", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_configuration_takes_columns(tmp_path):
    write(tmp_path, ".csv", "headline,topic\nDobré,a\nZlé,b\n")
    teacher = SimpleNamespace(path="none", revision=None)
    inputs = SimpleNamespace(teacher_config=AutoConfig.for_model("xlm-roberta"), language=SLOVAK, teacher=teacher)
    settings = {"tasks": ["tc"], "data": {"tc": str(tmp_path)}, "columns": {"tc": ["headline", "topic"]}}
    build(STAGES["evaluate"], settings, "evaluate").check(inputs, {})
    settings["columns"] = {"tc": ["topic"]}
    with pytest.raises(ValueError, match="columns of tc: give two"):
        build(STAGES["evaluate"], settings, "evaluate").check(inputs, {})


def test_how_many_words_are_cut_off_is_said_and_most_are_refused(tmp_path, caplog):
    save_models_and_tasks(tmp_path)
    model = ModelUnderTest("large", str(tmp_path / "large"))
    sentence = Example(("a",) * 30, ("B-X",) + ("O",) * 29)
    short = Example(("a", "a"), ("B-X", "O"))
    with caplog.at_level(logging.WARNING):
        encoded = EncodedTask.encode(TaskData(TASKS["ner"], (short,), (short,), (sentence,)), model, False)
        encoded.say_what_is_cut_off("large")
    cut = encoded.splits["test"].words_cut_off
    assert 0 < cut == sum(position is None for position in encoded.splits["test"].first_tokens[0])
    length = encoded.max_length
    assert f"large, ner: {cut} of 30 words in the test split have no token among the first {length}" in caplog.text
    long = Example(sentence.inputs * 3, sentence.labels * 3)
    with pytest.raises(ValueError, match="^large: ner: .* of 90 words in the test split are beyond the first"):
        EncodedTask.encode(TaskData(TASKS["ner"], (short,), (short,), (long,)), model, False)


def test_the_stage_refuses_what_is_mostly_cut_off_before_the_others_run(tmp_path):
    save_models_and_tasks(tmp_path)
    for split in ("train", "dev", "test"):
        write_lines(tmp_path / "long" / f"{split}.jsonl", [{"tokens": ["a"] * 90, "tags": ["B-X"] + ["O"] * 89}])
    teacher = str(tmp_path / "large")
    inputs = SimpleNamespace(
        teacher_config=AutoConfig.from_pretrained(teacher), language=SLOVAK, teacher=SimpleNamespace(path=teacher, revision=None)
    )
    settings = {"tasks": ["ner"], "data": {"ner": str(tmp_path / "ner")}}
    build(STAGES["evaluate"], settings, "evaluate").check(inputs, {})
    settings["data"] = {"ner": str(tmp_path / "long")}
    with pytest.raises(ValueError, match="of 90 words in the train split are beyond the first"):
        build(STAGES["evaluate"], settings, "evaluate").check(inputs, {})


def test_a_model_that_reads_too_little_is_refused_before_the_others_are_trained(tmp_path, capsys):
    save_models_and_tasks(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path / "small")
    config.max_position_embeddings = config.pad_token_id + 1 + 6
    AutoModel.from_config(config).save_pretrained(tmp_path / "small")
    for split in ("train", "dev", "test"):
        write_lines(tmp_path / "long" / f"{split}.jsonl", [{"tokens": ["a"] * 12, "tags": ["B-X"] + ["O"] * 11}])
    models = ["--model", str(tmp_path / "large"), "--model", str(tmp_path / "small")]
    data = ["--lang", "sk", "--tasks", "ner", "--task_data", f"ner={tmp_path / 'long'}"]
    assert main(["evaluate", *models, *data, "--output_dir", str(tmp_path / "out")]) == 2
    assert "small: ner: 10 of 12 words in the train split are beyond the first 6 tokens" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir()), "nothing was trained"


def test_words_cut_off_stand_beside_the_scores(monkeypatch, tmp_path):
    scores = {"seqeval_f1": 0.5, "accuracy": 0.5}
    result = {"scores": scores, "validation": 0.5, "seconds": 1.0, "predictions": []}
    monkeypatch.setattr("hf_lrcompress.evaluation.jobs.train_and_score", lambda *given, **named: dict(result))
    examples = (Example(("a", "b"), ("B-X", "O")),)
    data = TaskData(TASKS["ner"], examples, examples, examples)
    split = EncodedSplit(examples, (), ([1, None],))
    encoded = EncodedTask(data, None, 3, {"test": split})
    entry = Entry(ModelUnderTest("small", "x"), data, "identity", TaskTraining(), (42,), tmp_path)
    for job in entry.jobs():
        job.run(encoded, Progress(1, job.cost))
    row = entry.row()
    assert row["words_cut_off"] == 1
    assert "words beyond the maximum length, which have the most frequent tag: 1 (small)" in score_notes([row])[1]
    assert "words beyond" not in score_notes([row | {"words_cut_off": 0}])[1]
