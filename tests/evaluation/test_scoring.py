"""Training and scoring on tiny models with real tokenizers, the command, and every kind of bad input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import RECIPES, tiny_model
from evaluation.tiny_tasks import SPLITS, save_models_and_tasks, write_lines
from made_up_texts import make_texts
from seqeval.metrics import f1_score as seqeval_f1
from sklearn.metrics import f1_score
from trained_tokenizers import bert, gemma, llama3, modernbert, xlm_roberta
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from hf_lrcompress import reduce_layers, select_layers
from hf_lrcompress.__main__ import main
from hf_lrcompress.evaluation.adapters import adapter_parameters, add_task_adapter, load_for_task
from hf_lrcompress.evaluation.bottleneck import add_bottlenecks
from hf_lrcompress.evaluation.encoding import IGNORED, EncodedTask, ModelUnderTest, encode
from hf_lrcompress.evaluation.examples import Example
from hf_lrcompress.evaluation.jobs import ScoringJob
from hf_lrcompress.evaluation.judging import is_at_baseline
from hf_lrcompress.evaluation.scoring import load_tasks
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.evaluation.task_data import load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.evaluation.training import BestEpoch, _arguments, train_and_score
from hf_lrcompress.files import locked
from hf_lrcompress.texts.languages import Language

pytestmark = pytest.mark.usefixtures("metric_modules")
SLOVAK = Language.from_tag("sk")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return save_models_and_tasks(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize(
    "layers, hidden, parameters", [(12, 768, 894_528), (6, 768, 447_264), (6, 564, 240_474), (6, 456, 156_120), (6, 312, 73_122)]
)
def test_adapters_have_the_papers_parameters(layers, hidden, parameters):
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": 12, "intermediate_size": 32}
    config = AutoConfig.for_model("xlm-roberta", vocab_size=100, **sizes)
    for add in (add_task_adapter, add_bottlenecks):
        model = AutoModelForSequenceClassification.from_config(config)
        add(model, 16)
        assert adapter_parameters(model) == parameters


@pytest.mark.parametrize("tokens", [False, True])
def test_only_adapters_and_head_learn_and_nothing_runs_back_into_the_embeddings(inputs, tokens):
    model = load_for_task(str(inputs / "large"), ["a", "b"], tokens, reduction_factor=4)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".adapters." in name or name.startswith("classifier") for name in trained)
    assert sum(".adapters." in name for name in trained) == 4 * 4 and any(name.startswith("classifier") for name in trained)
    seen = []
    model.base_model.embeddings.register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
    ids = torch.randint(5, 90, (2, 9))
    model(input_ids=ids, labels=ids % 2 if tokens else ids[:, 0] % 2).loss.backward()
    assert seen == [False]
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained


@pytest.mark.parametrize("tokens", [False, True])
def test_every_family_loads_with_adapters_and_a_head_that_learns(model_type, tokens, tmp_path):
    tiny_model(model_type).save_pretrained(tmp_path)
    model = load_for_task(str(tmp_path), ["a", "b"], tokens)
    ids = torch.randint(5, 90, (2, 9))
    model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids % 2 if tokens else ids[:, 0] % 2).loss.backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    encoder = {name for name, _ in model.named_parameters() if name.startswith(f"{model.base_model_prefix}.")}
    assert any(name.startswith("classifier") for name in learning)
    assert all(".adapters." in name or ".pooler." in name for name in learning & encoder)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == learning
    if model_type == "bert" and not tokens:
        assert model.bert.pooler.dense.weight.grad is not None


def test_full_tuning_trains_everything(inputs):
    model = load_for_task(str(inputs / "large"), ["a", "b"], False, tuning="full")
    assert all(parameter.requires_grad for parameter in model.parameters()) and not adapter_parameters(model)


def test_tags_are_on_the_first_token_or_on_all():
    tokenizer = xlm_roberta()
    example = Example(tuple(max(make_texts(20, 5), key=len).split()), ())
    example = Example(example.inputs, tuple("ab"[i % 2] for i in range(len(example.inputs))))
    words = tokenizer(list(example.inputs), is_split_into_words=True).word_ids()
    for label_all in (False, True):
        split = encode([example], tokenizer, ["a", "b"], 500, label_all)
        naive = [IGNORED if word is None else word % 2 for word in words]
        if not label_all:
            naive = [naive[i] if words.index(word) == i else IGNORED for i, word in enumerate(words)]
        assert split.features[0]["labels"] == naive
        assert split.first_tokens[0] == [words.index(word) for word in range(len(example.inputs))]
    assert len(words) > len(example.inputs) + 2


@pytest.mark.parametrize("kind", [bert, xlm_roberta, modernbert, llama3, gemma])
def test_words_are_read_as_running_text_and_every_token_belongs_to_its_word(kind):
    """Byte-level BPE has a space in front of a word in its tokens: a list of words would lose it."""
    tokenizer = kind()
    words = max(make_texts(20, 5), key=len).split()
    split = encode([Example(tuple(words), ("a",) * len(words))], tokenizer, ["a", "b"], 500, False)
    ids = split.features[0]["input_ids"]
    (first,) = split.first_tokens
    assert ids == tokenizer(" ".join(words))["input_ids"]
    assert len(ids) > len(words) + 2
    ends = [*first[1:], len(ids) - 1]
    found = [tokenizer.decode(ids[start:end]) for start, end in zip(first, ends, strict=True)]
    assert ["".join(text.split()) for text in found] == words


def test_small_models_can_have_their_own_factor():
    training = TaskTraining(small_reduction_factor=2)
    assert [training.of_model(size).reduction_factor for size in (312, 564, 565)] == [2, 2, 16]
    assert TaskTraining(reduction_factor=4).of_model(312).reduction_factor == 4


def test_every_language_has_its_own_treebank_or_data_set():
    names = {tag: TASKS["pos"].source(Language.from_tag(tag)).name for tag in ("cs", "nb", "nn", "sr-Latn", "sw", "zu", "yo")}
    assert names == {
        "cs": "cs_pdt", "nb": "no_bokmaal", "nn": "no_nynorsk", "sr-Latn": "sr_set", "sw": "swa", "zu": "zul", "yo": "yor"
    }  # fmt: skip
    assert TASKS["pos"].source(Language.from_tag("sr")) is None
    for task in ("pos", "sa"):
        assert {Language.from_tag(tag).tag for tag in TASKS[task].sources} == set(TASKS[task].sources)


def test_no_data_is_taken_that_is_in_another_script():
    """WikiANN's names do not say the script: `kk` is Cyrillic, as the Kazakh Wikipedia is."""
    sources = {tag: TASKS["ner"].source(Language.from_tag(tag)) for tag in ("kk", "fa-AF", "zh-TW", "sk", "crh-Latn")}
    assert all(sources.values())
    others = ("kk-Latn", "hi-Latn", "zh-Latn", "crh", "nan")
    assert [TASKS["ner"].source(Language.from_tag(tag)) for tag in others] == [None] * 5


def test_the_best_epoch_is_kept_and_patience_stops(inputs):
    """The metric's course is given; what is kept and restored is real."""
    network = load_for_task(str(inputs / "large"), ["a", "b"], False)
    best, control, seen = BestEpoch("f1", patience=2), TrainerControl(), []
    for epoch, value in enumerate([0.2, 0.5, 0.5, 0.4], start=1):
        torch.nn.init.constant_(network.classifier.out_proj.bias, epoch)
        best.on_evaluate(None, TrainerState(epoch=epoch), control, model=network, metrics={"f1": value})
        seen.append(control.should_training_stop)
    assert seen == [False, False, False, True] and (best.epoch, best.score) == (2, 0.5)
    best.restore(network)
    assert network.classifier.out_proj.bias.tolist() == [2, 2]


def test_words_beyond_the_maximum_length_get_the_default():
    example = Example(tuple(make_texts(1, 5)[0].split()), ())
    example = Example(example.inputs, ("a",) * len(example.inputs))
    split = encode([example], xlm_roberta(), ["a", "b"], 5, False)
    (tags,) = split.decode([[1] * 5], ["a", "b"], "cut")
    assert len(tags) == len(example.inputs) and tags[0] == "b" and tags[-1] == "cut"


@pytest.mark.parametrize("task", ["tc", "ner"])
def test_scores_repeat_with_a_seed_and_come_from_the_saved_predictions(inputs, task):
    model = ModelUnderTest("large", str(inputs / "large"))
    data = load_task(TASKS[task], SLOVAK, inputs / task)
    encoded = EncodedTask.encode(data, model, label_all_tokens=False)
    first, second = (train_and_score(model, encoded, TaskTraining(epochs=2), seed=3) for _ in range(2))
    assert first | {"seconds": 0} == second | {"seconds": 0}
    rows = first["predictions"]
    gold = [row["gold"] for row in rows]
    predicted = [row["predicted"] for row in rows]
    if task == "ner":
        direct = seqeval_f1([list(labels) for labels in gold], predicted)
    else:
        direct = f1_score(gold, predicted, average="macro")
    assert first["scores"][TASKS[task].metric] == pytest.approx(direct)
    inputs_of = "tokens" if task == "ner" else "text"
    assert sorted(row.inputs for row in data.test) == sorted(row[inputs_of] for row in rows)


@pytest.fixture
def evaluate(inputs, capsys, tmp_path):
    def run(*arguments, models=("large",), tasks=("tc", "ner"), output_dir=tmp_path / "scores", folder=inputs):
        given = [option for name in models for option in ("--model", str(inputs / name))]
        given += [option for task in tasks for option in ("--task_data", f"{task}={folder / task}")]
        given += ["--lang", "sk", "--tasks", ",".join(tasks), "--epochs", "1", "--output_dir", str(output_dir)]
        code = main(["evaluate", *given, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_recipe_scores_and_resumes(evaluate, tmp_path):
    code, printed, error = evaluate("--quick", models=("large", "small"))
    assert code == 0, error
    assert "Shortened: 1 of 3 seeds (TC, NER); 1 of 20 epochs (TC); 1 of 100 epochs (NER)." in printed
    folder = tmp_path / "scores"
    content = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert {(row["model"], row["task"]) for row in content["scores"]} == {
        (m, t) for m in ("large", "small") for t in ("tc", "ner")
    }
    large, small = (row for row in content["scores"] if row["task"] == "tc")
    assert large["values"] == small["values"] and large["seeds"] == [42] and large["test_size"] == 13  # the same model twice
    saved = [json.loads(line) for line in (folder / "small-tc-lr0.0005-42.jsonl").read_text(encoding="utf-8").splitlines()]
    direct = f1_score([row["gold"] for row in saved], [row["predicted"] for row in saved], average="macro")
    assert small["mean"] == pytest.approx(direct)
    assert content["efficiency"][0]["speedup"] == 1 and (folder / "scores.png").stat().st_size > 1000
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-42.json*")}
    assert evaluate("--quick", models=("large", "small"))[0] == 0
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.glob("*-42.json*")}
    code, _, error = evaluate("--quick", "--reduction_factor", "2", models=("large", "small"))
    assert code == 2 and "other data, settings or another model" in error and "goes on" not in error
    (folder / "small-tc-lr0.0005-42.json").unlink()
    code, _, error = evaluate("--quick", "--reduction_factors", "2", models=("large", "small"))
    assert code == 0, error
    (folder / "r2" / "large-tc-lr0.0005-42.json").write_text("{}", encoding="utf-8")
    code, _, error = evaluate("--quick", "--reduction_factors", "2", "--seeds", "42,43", models=("large", "small"))
    assert code == 2 and f"{folder / 'r2' / 'large-tc-lr0.0005-42.json'} was made with other data" in error
    assert not list(folder.glob("*-43.json"))


def test_what_fails_on_the_way_is_one_line_and_exit_code_1(evaluate, monkeypatch):
    def fails(*arguments, **settings):
        raise OSError("the network drive is gone")

    monkeypatch.setattr("hf_lrcompress.evaluation.jobs.train_and_score", fails)
    code, _, error = evaluate(tasks=("tc",))
    assert (code, error) == (1, "error: the network drive is gone; the same command goes on from there\n")


def test_given_seeds_are_taken_with_quick_too(evaluate):
    code, printed, error = evaluate("--quick", "--seeds", "3,4", tasks=("tc",))
    assert code == 0, error
    assert "Shortened: 2 of 3 seeds (TC); 1 of 20 epochs (TC)." in printed


@pytest.mark.once
def test_the_recipe_runs_as_a_script_beside_its_own_name(inputs, tmp_path):
    """Its folder comes first in Python's path, and `import evaluate` would find the recipe there."""
    command = [sys.executable, RECIPES / "evaluate.py", "--model", inputs / "small", "--lang", "sk", "--quick", "--epochs", "1"]
    command += ["--tasks", "ner", "--task_data", f"ner={inputs / 'ner'}", "--output_dir", tmp_path / "scores"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    saved = [
        json.loads(line)
        for line in (tmp_path / "scores" / "small-ner-lr0.0005-42.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    score = json.loads((tmp_path / "scores" / "scores.json").read_text(encoding="utf-8"))["scores"][0]["mean"]
    assert score == pytest.approx(seqeval_f1([row["gold"] for row in saved], [row["predicted"] for row in saved]))


def test_two_evaluations_do_not_share_a_folder(evaluate, tmp_path):
    with locked(tmp_path / "scores", "a test"):
        code, _, error = evaluate(tasks=("tc",))
    assert (code, error) == (2, f"error: another evaluation is using {tmp_path / 'scores'}; wait for it or give another folder\n")
    assert evaluate(tasks=("tc",))[0] == 0


def test_weights_of_every_model_are_read_before_the_first_is_trained(evaluate, inputs, tmp_path):
    shutil.copytree(inputs / "large", tmp_path / "half")
    weights = tmp_path / "half" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    code, _, error = evaluate(models=("large", tmp_path / "half"))
    assert code == 2 and "half are damaged" in error and error.count("\n") == 1
    assert not list((tmp_path / "scores").glob("*"))


def damaged(folder, inputs, task, split, rows):
    for name in SPLITS:
        lines = (inputs / task / f"{name}.jsonl").read_text(encoding="utf-8")
        (folder / task).mkdir(exist_ok=True)
        (folder / task / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    write_lines(folder / task / f"{split}.jsonl", rows)


@pytest.mark.parametrize(
    "task, split, rows, message",
    [
        ("tc", "test", [{"text": t, "label": t} for t in ("a", "new")], "label 'new' in the test split is not in train"),
        ("tc", "dev", [], "the validation split is empty"),
        (
            "ner",
            "train",
            [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a", "b"], "tags": ["O"]}],
            "line 2: 2 tokens but 1 tags",
        ),
        ("ner", "test", [{"tokens": ["a"]}], "line 1: ner needs columns tokens and tags"),
        ("tc", "test", [{"text": " ", "label": "a"}], "line 1: tc needs a text that is not blank"),
    ],
)
def test_bad_data_is_one_line(evaluate, inputs, tmp_path, task, split, rows, message):
    damaged(tmp_path, inputs, task, split, rows)
    code, _, error = evaluate(tasks=(task,), folder=tmp_path)
    assert code == 2 and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "task, name, text, message",
    [
        ("ner", "train.conll", "Anna B-PER\nspí\n", "line 2: a token without a tag"),
        ("pos", "train.conllu", "1\tJa\t_\tPRON\n", "line 1: 4 columns; CoNLL-U has 10, separated by tabs"),
        ("tc", "train.jsonl", "{\n", "line 1: not JSON"),
        ("tc", "train.conll", "a b\n", "must hold one file train (.jsonl, .json, .csv, .tsv, "),
    ],
)
def test_bad_files_are_one_line(evaluate, tmp_path, task, name, text, message):
    (tmp_path / task).mkdir()
    (tmp_path / task / name).write_text(text, encoding="utf-8")
    for split in ("dev", "test"):
        (tmp_path / task / f"{split}{Path(name).suffix}").write_text(text, encoding="utf-8")
    code, _, error = evaluate(tasks=(task,), folder=tmp_path)
    assert code == 2 and message in error and error.count("\n") == 1


def test_a_model_without_a_tokenizer_is_one_line(evaluate, inputs, capsys):
    tiny_model("xlm-roberta").save_pretrained(inputs / "bare")
    capsys.readouterr()  # transformers 5 draws a bar
    code, _, error = evaluate(models=("large", "bare"))
    assert code == 2 and "has no tokenizer" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--tasks", "tc"], "--task_data ner=… does nothing, ner is not among --tasks; leave one of them out"),
        (["--tuning", "lora"], "tuning must be seq_bn or full"),
        (["--tasks", "qa"], "unknown task 'qa'; there are: tc, sa, ner, pos"),
        (["--task_data", "pos"], "give it as TASK=DIR"),
        (["--task_data", "tc=nowhere"], "there is no folder nowhere"),
        (["--reduction_factor", "0"], "reduction_factor must be 1 or more"),
        (["--small_reduction_factor", "0"], "small_reduction_factor must be 1 or more"),
        (["--reduction_factors", "2,x"], "--reduction_factors 2,x: give whole numbers separated by commas"),
        (["--reduction_factors", "0,2"], "reduction_factors must be whole numbers of 1 or more, got 0"),
        (["--reduction_factors", "2", "--tuning", "full"], "it needs tuning seq_bn"),
        (["--reduction_factor", "2", "--tuning", "full"], "reduction_factor 2 changes nothing, tuning full has no adapters"),
        (["--small_reduction_factor", "2", "--tuning", "full"], "small_reduction_factor 2 changes nothing, tuning full has"),
        (["--seeds", "3,4,3"], "seeds must differ from each other, got [3, 4, 3]"),
        (["--tasks", "tc,ner,tc"], "tasks must differ from each other"),
        (["--reduction_factors", "2,2"], "reduction_factors must differ from each other, got [2, 2]"),
        (["--learning_rates", "1e-4,x"], "--learning_rates 1e-4,x: give numbers separated by commas"),
        (["--learning_rates", "1e-4,0"], "learning_rates must be numbers above 0, such as 1e-4, got 0.0"),
    ],
)
def test_bad_options_are_one_line(evaluate, arguments, message):
    code, _, error = evaluate(*arguments)
    assert code == 2 and message in error and error.count("\n") == 1


def test_somebody_elses_file_is_not_overwritten(evaluate, tmp_path):
    (tmp_path / "scores.json").write_text('{"mine": 1}')
    code, _, error = evaluate("--output_dir", str(tmp_path))
    assert code == 2 and f"{tmp_path / 'scores.json'} is no result of an evaluation" in error
    assert (tmp_path / "scores.json").read_text() == '{"mine": 1}'
    (tmp_path / "scores.json").unlink()
    for name in ("scores.md", "scores.png", "capacity.png"):
        (tmp_path / name).write_text("mine")
        code, _, error = evaluate("--output_dir", str(tmp_path))
        assert code == 2 and f"{tmp_path / name} is of no evaluation and would be replaced" in error
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "file").write_text("mine")
    for below in ("file", "file/below/it"):
        code, _, error = evaluate("--output_dir", str(tmp_path / below))
        assert code == 2 and error == f"error: {tmp_path / 'file'} is a file; give another output_dir\n"


def test_several_gpus_do_not_make_batches_larger(inputs, monkeypatch):
    """The Trainer spreads a batch a GPU over as many as it is told of."""
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 4))
    data = load_task(TASKS["tc"], SLOVAK, inputs / "tc")
    encoded = EncodedTask.encode(data, ModelUnderTest("large", str(inputs / "large")), False)
    assert _arguments("scratch", encoded, TaskTraining(), 3)._n_gpu == 1


def test_a_task_without_data_is_an_error_when_named():
    with pytest.raises(ValueError, match="sa: no data set in Czech is known"):
        load_tasks(["sa"], {}, Language.from_tag("cs"))


def test_conll_and_conllu_hold_what_json_holds(tmp_path):
    rows = {"train": [("Ja", "PRON"), ("som", "AUX")], "valid": [("Ja", "PRON"), ("som", "AUX")]}
    rows["test"] = [("som", "AUX"), ("Ja", "PRON")]
    for split, words in rows.items():
        upos = "".join(f"{i}\t{w}\t_\t{t}" + "\t_" * 6 + "\n" for i, (w, t) in enumerate(words, start=1))
        (tmp_path / f"{split}.conllu").write_text("# text = x\n1-2\tJasom" + "\t_" * 8 + f"\n{upos}\n", encoding="utf-8")
    data = load_task(TASKS["pos"], SLOVAK, tmp_path)
    assert data.train == (Example(("Ja", "som"), ("PRON", "AUX")),) and data.train_overlap == 0
    folder = tmp_path / "ner"
    folder.mkdir()
    for split in SPLITS:
        (folder / f"{split}.conll").write_text("-DOCSTART- -X- O O\n\nAnna NNP B-PER\nspí VB O\n\nTu RB O\n", encoding="utf-8")
    data = load_task(TASKS["ner"], SLOVAK, folder)
    assert data.test == (Example(("Anna", "spí"), ("B-PER", "O")), Example(("Tu",), ("O",))) and data.train_overlap == 1


def assert_surgery_alone_made(folder, teacher):
    """Every weight is one of the teacher's, rows of the feed-forward network apart, which are some of its rows."""
    model, teacher = (AutoModelForMaskedLM.from_pretrained(path) for path in (folder, teacher))
    reduced = reduce_layers(teacher, select_layers(4, 2)).state_dict()
    for name, tensor in model.state_dict().items():
        whole = reduced[name]
        if tensor.shape[0] == whole.shape[0] and tensor.shape != whole.shape:
            tensor, whole = tensor.T, whole.T
        rows, those_there_are = ({tuple(row) for row in t.reshape(len(t), -1).tolist()} for t in (tensor, whole))
        assert rows <= those_there_are and (tensor.shape != whole.shape or torch.equal(tensor, whole))


def test_a_run_is_scored_resumed_and_keeps_its_model(inputs, started, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for name, count in {"train": 300, "validation": 60}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(make_texts(count, 1)), encoding="utf-8")
    config = {
        "teacher": str(inputs / "large"),
        **{name: {"files": [str(tmp_path / f"{name}.txt")]} for name in ("train", "validation")},
        "block_size": 32,
        "stages": ["reduce_layers", "prune_ffn", "trim_vocab", "evaluate"],
        "training": {"max_steps": 1, "per_device_train_batch_size": 4, "disable_tqdm": True},
        "reduce_layers": {"num_hidden_layers": 2},
        "prune_ffn": {"intermediate_size": 20},
        "trim_vocab": {"vocab_size": 300},
        "evaluate": {"tasks": ["tc"], "data": {"tc": str(inputs / "tc")}, "quick": True, "epochs": 1},
    }
    config["evaluate"] |= {"undistilled": True, "reduction_factors": [16, 4]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = tmp_path / "run"
    given = ["compress", "--lang", "sk", "--config", str(tmp_path / "config.yaml"), "--output_dir", str(run)]
    recorded = []
    train = ScoringJob.run

    def observed(job, *arguments):
        recorded.append(json.loads((run / "04-evaluate" / "stage.json").read_text(encoding="utf-8"))["metrics"].get("seconds", 0))
        train(job, *arguments)

    monkeypatch.setattr(ScoringJob, "run", observed)
    assert main(given) == 0
    assert recorded == sorted(set(recorded)) and len(recorded) == 10  # whoever kills the process takes one training's time
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in report["scores"]] == ["teacher", "reduce_layers", "prune_ffn", "trim_vocab", "undistilled"]
    assert [row["reduction_factor"] for row in report["capacity"]] == [16] * 5 + [4] * 5
    assert report["capacity"][:5] == report["scores"]
    assert [row["stage"] for row in report["stages"]] == ["teacher", "reduce_layers", "prune_ffn", "trim_vocab"]
    assert all(row["quick"] and row["epochs"] == 1 for row in report["scores"] + report["capacity"])
    guessed = [is_at_baseline(row) for row in report["scores"]]
    assert [row["retention"] is None for row in report["scores"]] == [guessed[0] or each for each in guessed]
    sizes = [row["parameters"] for row in report["stages"]]
    assert [row["parameters"] for row in report["efficiency"]] == [*sizes, sizes[-1]]
    assert_surgery_alone_made(run / "04-evaluate" / "undistilled", inputs / "large")
    text = (run / "report.md").read_text(encoding="utf-8")
    assert "Shortened: 1 of 3 seeds (TC); 1 of 20 epochs (TC)." in text and (run / "scores.png").is_file()
    assert "r = 4 |" in text and "no training after them" in text and (run / "capacity.png").is_file()
    assert AutoConfig.from_pretrained(run / "model").intermediate_size == 20
    assert not list(run.glob("04-evaluate/*.safetensors"))
    done = run / "04-evaluate" / "predictions" / "teacher-tc-lr0.0005-42.json"
    before = done.stat().st_mtime_ns
    (run / "04-evaluate" / "predictions" / "prune_ffn-tc-lr0.0005-42.json").unlink()
    record = json.loads((run / "04-evaluate" / "stage.json").read_text(encoding="utf-8"))
    (run / "04-evaluate" / "stage.json").write_text(json.dumps(record | {"complete": False, "files": {}}), encoding="utf-8")
    given += ["--set", "evaluate.workers=2"]  # it does not change the result: the rest is kept
    assert main(given) == 0
    assert done.stat().st_mtime_ns == before and len(started) == 1
    assert json.loads((run / "report.json").read_text(encoding="utf-8"))["scores"] == report["scores"]
    capsys.readouterr()
    assert main([*given, "--overwrite", "--set", "evaluate.models=[nothing]"]) == 2
    assert "'nothing' is no stage before evaluate" in capsys.readouterr().err
