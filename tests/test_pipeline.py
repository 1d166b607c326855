"""The whole pipeline on tiny models with real tokenizers: run, skip, resume, refuse, overwrite; and every kind of bad input."""

import gc
import json
import shutil
import sys
import weakref
from pathlib import Path

import pytest
import torch
import yaml
from conftest import logits_of, tiny_model
from filelock import FileLock
from made_up_texts import make_texts
from trained_tokenizers import bert, xlm_roberta
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, GPT2Config, TrainerCallback, TrainingArguments, pipeline

from hf_lrcompress import count_tokens, select_tokens
from hf_lrcompress.__main__ import main, parse_arguments
from hf_lrcompress.commands.compress import read_config
from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.machine import peak_memory_mb
from hf_lrcompress.publishing.licence import license_of
from hf_lrcompress.run.folder import RunFolder
from hf_lrcompress.run.preparation import prepare
from hf_lrcompress.stages.evaluate import Evaluate
from hf_lrcompress.texts.languages import Language

TOKENIZERS = {"bert": bert, "xlm-roberta": xlm_roberta}
STAGES = ["adapt_teacher", "reduce_layers", "prune_ffn", "truncate_hidden", "trim_vocab"]
DIRECTORIES = ["00-teacher", *(f"{i:02d}-{name}" for i, name in enumerate(STAGES, start=1))]
SETTINGS = {
    "block_size": 32,
    "training": {"max_steps": 3, "per_device_train_batch_size": 4, "save_steps": 1, "disable_tqdm": True},
    "reduce_layers": {"num_hidden_layers": 2},
    "prune_ffn": {"intermediate_size": 20},
    "truncate_hidden": {"hidden_size": 12},
    "trim_vocab": {"vocab_size": 300},
}


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with teachers of two families, texts, and a configuration for each."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "train.txt").write_text("\n".join(make_texts(500, 1)), encoding="utf-8")
    (folder / "validation.txt").write_text("\n".join(make_texts(60, 2)), encoding="utf-8")
    for family, make in TOKENIZERS.items():
        tokenizer = make()
        model = tiny_model(family, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
        model.save_pretrained(folder / family), tokenizer.save_pretrained(folder / family)
        texts = {name: {"files": [str(folder / f"{name}.txt")]} for name in ("train", "validation")}
        config = SETTINGS | texts | {"teacher": str(folder / family), "stages": STAGES}
        (folder / f"{family}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.fixture
def compress(inputs, capsys):
    """Run the command in this process: `compress("--stages", …)` → (exit code, what it printed, its errors)."""

    def run(*arguments, family="xlm-roberta", config=None, language="sk"):
        config = config or inputs / f"{family}.yaml"
        code = main(["compress", "--lang", language, "--config", str(config), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    """Complete runs of both families, to read from; `copy_of` is for tests that run there again."""
    folder = tmp_path_factory.mktemp("runs")
    for family in TOKENIZERS:
        config = str(inputs / f"{family}.yaml")
        assert main(["compress", "--lang", "sk", "--config", config, "--output_dir", str(folder / family)]) == 0
    before = times_of_files(folder)
    yield folder
    assert times_of_files(folder) == before, "a test changed the runs that all share; give it copy_of"


def times_of_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copy_of(finished, tmp_path):
    """A complete run for one test alone: `copy_of("bert")` → its folder."""
    return lambda family: shutil.copytree(finished / family, tmp_path / "run")


def report_of(run):
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


def modified(run):
    return {name: (run / name / "stage.json").stat().st_mtime_ns for name in DIRECTORIES}


@pytest.mark.parametrize("family", TOKENIZERS)
def test_a_run_leaves_a_stock_model_and_its_report(finished, family):
    run = finished / family
    model, info = AutoModelForMaskedLM.from_pretrained(run / "model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    config = AutoModel.from_pretrained(run / "model").config
    sizes = (config.num_hidden_layers, config.intermediate_size, config.hidden_size, config.vocab_size)
    assert sizes == (2, 20, 12, 300)
    assert config.model_type == family and len(AutoTokenizer.from_pretrained(run / "model")) == 300
    fill_mask = pipeline("fill-mask", model=str(run / "model"))
    assert len(fill_mask(f"a {fill_mask.tokenizer.mask_token} b", top_k=3)) == 3
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == [*DIRECTORIES, "model"]
    assert not list(run.glob("*/checkpoint-*")) and not list((run / "model").glob("stage.json"))

    rows = report_of(run)["stages"]
    assert [row["stage"] for row in rows] == ["teacher", *STAGES]
    assert rows[-1]["parameters"] == model.num_parameters() < rows[0]["parameters"]
    assert rows[-1]["reduction_percent"] == pytest.approx(100 * (1 - rows[-1]["parameters"] / rows[0]["parameters"]))
    assert len({row["masked_text"] for row in rows}) == len({row["masked_tokens"] for row in rows}) == 1
    assert all(0 <= row["mlm_accuracy"] <= 1 and row["mlm_loss"] > 0 and row["seconds"] >= 0 for row in rows)
    total = report_of(run)["total"]
    assert pytest.approx(total["stage_seconds"]) == sum(row["seconds"] for row in rows) < total["seconds"]
    assert report_of(run)["hashes"].keys() == {"teacher", "train", "validation"}
    text = (run / "report.md").read_text(encoding="utf-8")
    assert f"{rows[-1]['parameters']:,}" in text and "machine-written" not in text


def test_the_configuration_that_a_run_leaves_makes_the_same_model_again(finished, compress, tmp_path):
    code, _, errors = compress("--output_dir", tmp_path / "again", config=finished / "bert" / "config.yaml")
    assert code == 0, errors
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (finished / "bert", tmp_path / "again")]
    assert weights[0] == weights[1]
    assert report_of(tmp_path / "again")["hashes"] == report_of(finished / "bert")["hashes"]


def test_a_finished_run_is_not_named_after_another_language(compress, copy_of):
    run = copy_of("bert")
    weights = {path: path.stat().st_mtime_ns for path in run.glob("0*/model.safetensors")}
    code, _, errors = compress("--output_dir", run, family="bert", language="cs")
    assert code == 2 and report_of(run)["language"] == "sk"
    assert_one_line(errors, "model has a card that says language 'sk', not 'cs'")
    code, _, errors = compress("--output_dir", run, "--overwrite", family="bert", language="cs")
    assert code == 0, errors
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["language"] == report_of(run)["language"] == "cs"
    assert weights == {path: path.stat().st_mtime_ns for path in run.glob("0*/model.safetensors")}, "the texts are the same"


def test_the_card_has_the_reports_numbers_and_metadata(finished):
    card = (finished / "xlm-roberta" / "model" / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["language"] == "sk" and metadata["pipeline_tag"] == "fill-mask"
    for row in report_of(finished / "xlm-roberta")["stages"]:
        assert f"{row['parameters']:,}" in card and f"{row['mlm_accuracy']:.4f}" in card
    assert str(finished.parent) not in card and "train.txt" in card
    assert "base_model" not in metadata
    assert "not measured" in card and "written by a language model" not in card


def test_a_stage_leaves_no_trainer_in_memory(compress, tmp_path, monkeypatch):
    made = []

    def remembering(self, *args, **kwargs):
        made.append(weakref.ref(self))
        plain(self, *args, **kwargs)

    plain = DistillationTrainer.__init__
    monkeypatch.setattr(DistillationTrainer, "__init__", remembering)
    gc.disable()
    try:
        assert compress("--output_dir", tmp_path / "run", "--stages", "reduce_layers")[0] == 0
    finally:
        gc.enable()
    assert len(made) == 1 and made[0]() is None


def test_only_figures_of_the_run_are_on_its_card(copy_of, compress):
    run = copy_of("bert")
    for name in ("scores.png", "holiday.png"):
        (run / name).write_bytes(b"of something else")
    shutil.rmtree(run / "model")
    assert compress("--output_dir", run, family="bert")[0] == 0
    assert (run / "holiday.png").exists() and not (run / "scores.png").exists()
    assert {path.name for path in (run / "model").glob("*.png")} == {"stages.png", "vocabulary_curve.png"}
    for text in (run / "report.md", run / "model" / "README.md"):
        assert "holiday" not in text.read_text(encoding="utf-8") and "scores.png" not in text.read_text(encoding="utf-8")


def test_texts_in_other_languages_count_by_their_weight(compress, inputs, finished, tmp_path):
    old, kept = (AutoTokenizer.from_pretrained(path) for path in (inputs / "xlm-roberta", finished / "xlm-roberta" / "model"))
    lost = sorted(token for token in old.get_vocab().keys() - kept.get_vocab().keys() if old.tokenize(token[1:]) == [token])[0]
    (tmp_path / "en.txt").write_text(f"{lost[1:]}\n" * 5, encoding="utf-8")
    for language, weight, stays in (("sk", 1e-6, False), ("sk,en", 1, True)):
        also = f"trim_vocab.also={{en: {{files: [{tmp_path / 'en.txt'}], weight: {weight}}}}}"
        run = tmp_path / str(weight)
        code, _, errors = compress("--stages", "trim_vocab", "--set", also, "--output_dir", run, language=language)
        assert code == 0, errors
        card = (run / "model" / "README.md").read_text(encoding="utf-8")
        languages = language.split(",")
        assert yaml.safe_load(card.split("---")[1])["language"] == (languages if len(languages) > 1 else "sk")
        assert ("For Slovak, English text only: " in card) == stays
        vocab = AutoTokenizer.from_pretrained(run / "model").get_vocab()
        assert len(vocab) == 300 and (lost in vocab) == stays
    moved = (tmp_path / "en.txt").rename(tmp_path / "moved.txt")
    also = also.replace("en.txt", "moved.txt")
    code, _, errors = compress("--stages", "trim_vocab", "--set", also, "--output_dir", run, language=language)
    assert code == 0, errors
    moved.write_text("other words\n", encoding="utf-8")
    code, _, errors = compress("--stages", "trim_vocab", "--set", also, "--output_dir", run)
    assert code == 2 and "made with other settings" in errors


@pytest.mark.parametrize(("name", "value", "multiple"), [("min_count", 20, None), ("coverage", 0.9, 64)])
def test_the_text_decides_the_size_before_the_run(compress, inputs, tmp_path, name, value, multiple):
    tokenizer = AutoTokenizer.from_pretrained(inputs / "xlm-roberta")
    counts = count_tokens(tokenizer, (inputs / "train.txt").read_text(encoding="utf-8").splitlines())
    expected = select_tokens(tokenizer, counts, **{name: value}, pad_to_multiple_of=multiple)
    change = f"trim_vocab={{{name}: {value}, pad_to_multiple_of: {multiple or 'null'}}}"
    arguments = ("--stages", "trim_vocab", "--set", change, "--output_dir", tmp_path / "run")
    code, out, errors = compress(*arguments, "--dry_run")
    assert code == 0 and f" {len(expected)} " in out.splitlines()[-1] and not (tmp_path / "run").exists()
    for _ in range(2):
        code, _, errors = compress(*arguments)
        assert code == 0, errors
    model = AutoModel.from_pretrained(tmp_path / "run" / "model")
    kept = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert sorted(kept.get_vocab()) == sorted(tokenizer.convert_ids_to_tokens(expected.tolist()))
    assert model.get_input_embeddings().num_embeddings == len(expected) == len(kept)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))["trim_vocab"]
    assert (written["vocab_size"], written[name]) == (len(expected), value)
    code, _, errors = compress(*arguments, "--target_parameters", "20K", "--output_dir", tmp_path / "other")
    assert code == 2
    assert_one_line(errors, f"trim_vocab.{name} and a target both decide the vocabulary's size; leave one out")


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ("{en: {files: [en.txt]}}", "also: en needs a weight"),
        ("{en: {files: [en.txt], weight: -1}}", "also: en needs a weight"),
        ("{en: 0.2}", "also.en must be a section"),
        ("{en: {files: [en.txt], weight: .inf}}", "also: en needs a weight"),
        ("{en: {files: en.txt, weight: 1}}", "also: en: files must be a list of paths, got 'en.txt'"),
        ("{en: {filse: [en.txt], weight: 1}}", "also: en: "),
        ("{en: {weight: 1}}", "also: en: a text source needs either files or path"),
        ("{en: {files: [missing.txt], weight: 1}}", "missing.txt does not exist"),
    ],
)
def test_bad_texts_in_other_languages(compress, tmp_path, also, message):
    code, _, errors = compress("--set", f"trim_vocab.also={also}", "--output_dir", tmp_path / "run")
    assert code == 2 and errors.startswith("error: ") and message in errors and errors.count("\n") == 1


def test_the_stages_start_from_each_other(finished):
    """Pruning does not train: its model is the cut of the one before, and trimming keeps its logits."""
    run, tokenizer = finished / "xlm-roberta", None
    before, after = (AutoModelForMaskedLM.from_pretrained(run / name) for name in DIRECTORIES[-2:])
    old, tokenizer = (AutoTokenizer.from_pretrained(run / name) for name in DIRECTORIES[-2:])
    keep = torch.tensor(old.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(range(300))))
    text = next(text for text in make_texts(100, 3) if old.tokenize(text) == tokenizer.tokenize(text))
    logits = [logits_of(model, t(text, return_tensors="pt")) for model, t in ((before, old), (after, tokenizer))]
    torch.testing.assert_close(logits[1], logits[0][:, keep], rtol=1e-5, atol=1e-6)
    pruned, unpruned = (AutoModelForMaskedLM.from_pretrained(run / name) for name in (DIRECTORIES[3], DIRECTORIES[2]))
    assert torch.equal(pruned.get_input_embeddings().weight, unpruned.get_input_embeddings().weight)


def test_a_complete_run_is_not_run_again(copy_of, compress):
    run = copy_of("xlm-roberta")
    before = modified(run)
    (run / "model" / "README.md").write_text("my own words", encoding="utf-8")
    code, out, _ = compress("--output_dir", run)
    assert code == 0 and "| trim_vocab" in out
    assert modified(run) == before
    assert (run / "model" / "README.md").read_text(encoding="utf-8") == "my own words"


def test_changed_settings_are_refused_then_only_what_they_change_is_made_again(copy_of, compress):
    run = copy_of("bert")
    change = ("--set", "truncate_hidden.hidden_size=6")
    before = modified(run)
    code, _, err = compress("--output_dir", run, *change, family="bert")
    assert code == 2 and "04-truncate_hidden was made with other settings" in err and "--overwrite" in err
    assert modified(run) == before
    assert compress("--output_dir", run, *change, "--overwrite", family="bert")[0] == 0
    after = modified(run)
    assert [after[name] == before[name] for name in DIRECTORIES] == [True] * 4 + [False] * 2
    assert AutoModel.from_pretrained(run / "model").config.hidden_size == 6
    assert not list(run.glob("README*"))


def test_a_card_that_somebody_has_changed_outlives_overwrite(copy_of, compress, caplog):
    run = copy_of("bert")
    card = run / "model" / "README.md"
    for words, size, kept in (("my own words", 6, "README.kept.md"), ("others", 12, "README.kept2.md")):
        card.write_text(words, encoding="utf-8")
        change = ("--set", f"truncate_hidden.hidden_size={size}", "--set", "trim_vocab.vocab_size=299")
        assert compress("--output_dir", run, *change, "--overwrite", family="bert")[0] == 0
        assert f"model/README.md is not as it was made; it is kept as {run / kept}" in caplog.text
        assert (run / kept).read_text(encoding="utf-8") == words != card.read_text(encoding="utf-8")
        (run / "report.json").unlink()  # nothing says then what the card was


def test_a_card_that_nobody_has_changed_says_what_the_report_does(copy_of, compress):
    """A licence is no setting of a stage: nothing is made again but the card."""
    run = copy_of("bert")
    card = run / "model" / "README.md"
    before = modified(run)
    assert compress("--output_dir", run, "--license", "mit", family="bert")[0] == 0
    assert modified(run) == before and report_of(run)["settings"]["license"] == "mit"
    assert "license: mit" in card.read_text(encoding="utf-8").split("---")[1]
    change = ("--license", "mit", "--set", "truncate_hidden.hidden_size=6", "--overwrite")
    assert compress("--output_dir", run, *change, family="bert")[0] == 0
    assert not list(run.glob("README*"))


def test_a_setting_of_a_stage_that_is_not_run_is_refused(compress, tmp_path):
    given = ("--stages", "trim_vocab", "--output_dir", tmp_path / "run", "--set", "reduce_layers.num_hidden_layers=1")
    code, _, errors = compress(*given)
    said = "--set reduce_layers.num_hidden_layers changes nothing, reduce_layers is not among the stages; add it to them"
    assert code == 2 and said in errors and not (tmp_path / "run").exists()
    code, _, errors = compress("--set", "stages=5", *given[2:])
    assert code == 2 and errors == "error: stages must be a list of different stage names, got 5\n"


def test_one_text_for_both_is_said(compress, inputs, tmp_path, caplog):
    text = inputs / "train.txt"
    stages = ("--stages", "trim_vocab", "--output_dir", tmp_path / "run")
    assert compress(*stages, "--train_file", text, "--validation_file", text)[0] == 0
    assert "train and validation are the same text, so what is measured is of text that was trained on" in caplog.text


def test_a_batch_that_does_not_fit_is_found_smaller_by_the_same_command(compress, tmp_path, monkeypatch):
    """What was made before it stays."""
    step = DistillationTrainer.training_step

    def training_step(trainer, model, inputs, *others):
        if trainer.teacher_model and len(inputs["input_ids"]) > 2:
            torch.empty(2**60)
        return step(trainer, model, inputs, *others)

    monkeypatch.setattr(DistillationTrainer, "training_step", training_step)
    stages = ("--stages", "adapt_teacher,reduce_layers", "--output_dir", tmp_path / "run")
    code, _, errors = compress(*stages)
    assert code == 1 and "batches of 4 do not fit into the memory of " in errors.splitlines()[-1]
    adapted = (tmp_path / "run" / "01-adapt_teacher" / "stage.json").stat().st_mtime_ns
    code, _, errors = compress(*stages, "--set", "training.auto_find_batch_size=true")
    assert code == 0, errors
    assert (tmp_path / "run" / "01-adapt_teacher" / "stage.json").stat().st_mtime_ns == adapted
    teacher, before, reduced = report_of(tmp_path / "run")["stages"]
    assert (reduced["steps"], reduced["per_device_train_batch_size"]) == (3, 2) and "per_device_train_batch_size" not in before


def test_the_time_to_a_checkpoint_is_recorded_with_it(compress, tmp_path, monkeypatch):
    """A process that is killed after it says nothing more, and the steps since are made again."""
    step = DistillationTrainer.training_step
    recorded = []

    def training_step(trainer, *others):
        record = json.loads((Path(trainer.args.output_dir) / "stage.json").read_text(encoding="utf-8"))
        recorded.append(record["metrics"].get("seconds", 0))
        return step(trainer, *others)

    monkeypatch.setattr(DistillationTrainer, "training_step", training_step)
    code, _, errors = compress("--stages", "adapt_teacher", "--output_dir", tmp_path / "run")
    assert code == 0, errors
    seconds = report_of(tmp_path / "run")["stages"][-1]["seconds"]
    assert 0 == recorded[0] < recorded[1] < recorded[2] < seconds


@pytest.mark.parametrize("interrupted_at", [1, 2])
def test_an_interrupted_run_resumes_from_its_checkpoint(compress, tmp_path, monkeypatch, interrupted_at):
    settings = ("training.bf16=false", "training.learning_rate=0.01", "training.warmup_steps=0")
    arguments = ("--stages", "reduce_layers,trim_vocab", *(word for setting in settings for word in ("--set", setting)))
    assert compress("--output_dir", tmp_path / "whole", *arguments)[0] == 0

    class Interrupt(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == interrupted_at:
                raise KeyboardInterrupt

    plain = DistillationTrainer.__init__

    def interrupting(self, *args, **kwargs):
        plain(self, *args, **kwargs, callbacks=[Interrupt()])

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "__init__", interrupting)
        with pytest.raises(KeyboardInterrupt):
            compress("--output_dir", tmp_path / "run", *arguments)
    record = json.loads((tmp_path / "run" / "01-reduce_layers" / "stage.json").read_text(encoding="utf-8"))
    assert not record["complete"] and record["metrics"]["seconds"] > 0
    (tmp_path / "run" / "01-reduce_layers" / "checkpoint-99").mkdir()  # killed while it was written
    steps = []
    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "training_step", counting(DistillationTrainer.training_step, steps))
        assert compress("--output_dir", tmp_path / "run", *arguments)[0] == 0
    assert len(steps) == 3 - interrupted_at
    whole, resumed = (report_of(tmp_path / name)["stages"] for name in ("whole", "run"))
    for expected, actual in zip(whole, resumed, strict=True):
        assert actual["mlm_loss"] == pytest.approx(expected["mlm_loss"], rel=1e-5)
    assert "train_loss" in whole[1] and "train_loss" not in resumed[1], "it would be that of the steps since"


def counting(function, calls):
    def counted(*args, **kwargs):
        calls.append(1)
        return function(*args, **kwargs)

    return counted


def test_trimming_first_gives_the_same_tokens_and_the_same_sizes(finished, compress, tmp_path):
    order = "trim_vocab,adapt_teacher,reduce_layers,prune_ffn,truncate_hidden"
    assert compress("--output_dir", tmp_path / "run", "--stages", order)[0] == 0
    last, first = report_of(finished / "xlm-roberta")["stages"], report_of(tmp_path / "run")["stages"]
    assert last[-1]["parameters"] == first[-1]["parameters"]
    assert last[-1]["masked_text"] == first[-1]["masked_text"]
    assert AutoTokenizer.from_pretrained(tmp_path / "run/model").get_vocab() == (
        AutoTokenizer.from_pretrained(finished / "xlm-roberta/model").get_vocab()
    )


def test_accuracies_are_measured_again_when_other_places_are_masked(compress, tmp_path):
    arguments = ("--output_dir", tmp_path / "run", "--stages", "reduce_layers")
    assert compress(*arguments)[0] == 0
    first = report_of(tmp_path / "run")["stages"]
    assert compress("--output_dir", tmp_path / "run", "--stages", "reduce_layers,trim_vocab", "--overwrite")[0] == 0
    again = report_of(tmp_path / "run")["stages"]
    assert len({row["masked_text"] for row in again}) == 1 and again[0]["masked_text"] != first[0]["masked_text"]
    assert again[1]["train_loss"] == first[1]["train_loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "trim_vocab.vocab_size=890"), "the corpus has only"),
        (("--stages", "reduce_layers,evaluate", "--set", "evaluate.data.tc=nowhere"), "nowhere"),
        (("--train_file", "nowhere.txt"), "nowhere.txt does not exist"),
        (("--set", "trim_vocab.vocab_size=9"), "vocab_size 9 is too small"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(compress, tmp_path, arguments, message):
    code, out, err = compress("--dry_run", "--output_dir", tmp_path / "run", *arguments)
    assert code == 2 and not (tmp_path / "run").exists()
    assert_one_line(err, message)


def test_nothing_is_read_counted_or_planned_twice(compress, tmp_path, monkeypatch):
    calls = []
    for name in ("hf_lrcompress.run.preparation.make_plan", "hf_lrcompress.stages.inputs.cached_counts"):
        module, _, function = name.rpartition(".")
        plain = getattr(sys.modules[module], function)
        monkeypatch.setattr(name, lambda *arguments, plain=plain, function=function: calls.append(function) or plain(*arguments))
    assert compress("--output_dir", tmp_path / "run", "--stages", "trim_vocab")[0] == 0
    assert calls == ["make_plan", "cached_counts"]


def test_dry_run_prints_the_sizes_and_writes_nothing(compress, finished, tmp_path):
    code, out, _ = compress("--dry_run", "--output_dir", tmp_path / "run")
    assert code == 0 and not (tmp_path / "run").exists()
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    for row in report_of(finished / "xlm-roberta")["stages"]:
        assert f"{row['parameters']:,}" in out
        assert (rows[row["stage"]][-1] == "–") == ("train_loss" not in row), "only of what is trained"
    assert int(rows["reduce_layers"][-1].replace(",", "")) == pytest.approx(peak_memory_mb(), rel=0.25)


def assert_one_line(err, message):
    """Below progress bars, one line that says what is wrong."""
    lines = [line for line in err.splitlines() if line.strip() and "Generating" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0], err


BAD_INPUTS = {
    "language": ({"language": "xx"}, [], "'xx' is not a language tag"),
    "heads": ({}, ["--set", "truncate_hidden.hidden_size=13"], "not divisible by the 3 attention heads; use 12 or 15"),
    "wider": ({}, ["--set", "truncate_hidden.hidden_size=27"], "hidden_size 27 is not in 1 to 24"),
    "deeper": ({}, ["--set", "reduce_layers.num_hidden_layers=9"], "cannot keep 9 of 4 layers"),
    "neurons": ({}, ["--set", "prune_ffn.intermediate_size=99"], "cannot keep 99 of 36 neurons"),
    "vocabulary": ({}, ["--set", "trim_vocab.vocab_size=90000"], "vocab_size 90000 is larger than the model's"),
    "few_tokens": ({}, ["--set", "trim_vocab.vocab_size=890"], "the corpus has only"),
    "min_count": ({}, ["--set", "trim_vocab.min_count=0"], "trim_vocab: min_count must be 1 or more, got 0"),
    "multiple": ({}, ["--set", "trim_vocab.pad_to_multiple_of=4096"], "vocab_size 300, padded to 4096, is larger"),
    "few_kept": ({}, ["--set", "trim_vocab.vocab_size=9"], "vocab_size 9 is too small"),
    "key": ({}, ["--set", "trim_vocab.vocabsize=9"], "unknown key in trim_vocab: 'vocabsize'; did you mean 'vocab_size'"),
    "size twice": (
        {},
        ["--target_parameters", "20k", "--set", "truncate_hidden.hidden_size=9"],
        "--set truncate_hidden.hidden_size changes nothing, the target size chooses it; leave one of them out",
    ),
    "neurons twice": (
        {},
        ["--target_parameters", "20k", "--set", "prune_ffn.intermediate_size=5"],
        "--set prune_ffn.intermediate_size=5 changes nothing, the target size makes it 24; leave one of them out",
    ),
    "revision": ({}, ["--hub_revision", "x"], "--hub_revision does nothing without --push_to_hub"),
    "public": ({}, ["--public"], "--public does nothing without --push_to_hub"),
    "no steps": ({}, ["--set", "training.max_steps=0"], "max_steps is 0, so nothing would be trained; give more"),
    "set": ({}, ["--set", "trim_vocab"], "give it as key=value"),
    "stage": ({}, ["--stages", "prune"], "unknown stage: 'prune'"),
    "argument": ({}, ["--set", "training.lr=1"], "unknown training argument 'lr'"),
    "block": ({}, ["--set", "block_size=64"], "block_size 64 must be 8 to 38"),
    "no_file": ({}, ["--train_file", "nowhere.txt"], "nowhere.txt does not exist"),
    "no_config": ({"config": "nowhere.yaml"}, [], "configuration nowhere.yaml does not exist"),
    "no_teacher": ({}, ["--teacher", "./nowhere"], "nowhere"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_one_line_and_exit_code_2_before_any_work(compress, tmp_path, name):
    keywords, arguments, message = BAD_INPUTS[name]
    code, out, err = compress("--output_dir", tmp_path / "run", *arguments, **keywords)
    assert code == 2
    assert_one_line(err, message)
    assert not list((tmp_path / "run").glob("*/*.safetensors"))


BAD_TEXTS = {
    "empty.txt": (b"", "empty.txt has no text"),
    "blank.txt": (b"\n \n", "blank.txt has no text"),
    "latin2.txt": ("dobré\nžltý kôň".encode("iso8859-2"), "line 1: byte 0xe9 is not UTF-8"),
    "text.doc": (b"x", "text.doc is no kind of text"),
}


@pytest.mark.parametrize("file", BAD_TEXTS)
@pytest.mark.parametrize("option", ["--train_file", "--validation_file"])
def test_bad_texts(compress, tmp_path, file, option):
    content, message = BAD_TEXTS[file]
    (tmp_path / file).write_bytes(content)
    code, _, err = compress("--output_dir", tmp_path / "run", option, tmp_path / file)
    assert code == 2
    assert_one_line(err, message)


def test_streamed_text_trains_for_a_given_number_of_steps(compress, tmp_path):
    arguments = ("--output_dir", tmp_path / "run", "--stages", "reduce_layers", "--set", "train.streaming=true")
    assert compress(*arguments)[0] == 0
    assert report_of(tmp_path / "run")["stages"][-1]["steps"] == 3


def test_streamed_text_without_an_end_is_refused(compress, tmp_path):
    for setting, message in (("train", "such as training.max_steps=10000"), ("validation", "cannot be streamed")):
        code, _, err = compress(
            "--output_dir", tmp_path / "run", "--set", f"{setting}.streaming=true", "--set", "training.max_steps=-1"
        )
        assert code == 2
        assert_one_line(err, message)


def test_a_validation_text_shorter_than_a_block(compress, tmp_path):
    (tmp_path / "short.txt").write_text("a b", encoding="utf-8")
    code, _, err = compress("--output_dir", tmp_path / "run", "--validation_file", tmp_path / "short.txt")
    assert code == 2
    assert_one_line(err, "validation: the text does not fill one block of 32 tokens")


def test_too_little_text(compress, tmp_path):
    (tmp_path / "short.txt").write_text("a b", encoding="utf-8")
    code, _, err = compress("--output_dir", tmp_path / "run", "--train_file", tmp_path / "short.txt")
    assert code == 2
    assert_one_line(err, "the corpus has only")


def test_a_teacher_that_is_no_masked_lm(compress, tmp_path):
    GPT2Config().save_pretrained(tmp_path / "gpt2")
    code, _, err = compress("--output_dir", tmp_path / "run", "--teacher", tmp_path / "gpt2")
    assert code == 2 and "'gpt2' has no masked-LM class" in err


def test_a_teacher_without_its_head(compress, inputs, tmp_path):
    AutoModel.from_pretrained(inputs / "xlm-roberta").save_pretrained(tmp_path / "headless")
    AutoTokenizer.from_pretrained(inputs / "xlm-roberta").save_pretrained(tmp_path / "headless")
    code, _, err = compress("--output_dir", tmp_path / "run", "--teacher", tmp_path / "headless")
    assert code == 2
    assert_one_line(err, "masked-LM head")


def test_the_hub_out_of_reach_names_the_demo(compress, tmp_path):
    code, _, err = compress("--output_dir", tmp_path / "run", "--teacher", "FacebookAI/xlm-roberta-base")
    assert code == 2
    assert_one_line(err, "Hub cannot be reached")
    assert "hf-lrcompress compress --lang sk --config demo" in err


@pytest.mark.parametrize("below", ["file", "file/below/it"])
def test_a_folder_cannot_be_made_of_a_file(compress, tmp_path, below):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    code, _, err = compress("--output_dir", tmp_path / below)
    assert code == 2
    assert_one_line(err, f"{tmp_path / 'file'} is a file; give another output_dir")


def test_a_folder_with_other_files_is_left_alone(compress, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    code, _, err = compress("--output_dir", tmp_path)
    assert code == 2 and "holds other files (such as thesis.tex)" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["config.yaml", "model", "01-reduce_layers", "report.json"])
def test_not_even_overwrite_touches_a_folder_that_is_no_run(compress, tmp_path, name):
    path = tmp_path / name if "." in name else tmp_path / name / "my.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    code, _, err = compress("--output_dir", tmp_path, "--overwrite")
    assert code == 2 and "holds other files" in err
    assert path.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "setting",
    [
        "teacher={}",
        "train.files=[{}/text.txt]",
        "trim_vocab.also={{en: {{files: [{}/text.txt], weight: 1}}}}",
        "evaluate.data.tc={}",
    ],
)
def test_overwrite_does_not_delete_what_the_run_reads(copy_of, compress, setting):
    run = copy_of("xlm-roberta")
    adapted = run / "01-adapt_teacher"
    (adapted / "text.txt").write_text("a text", encoding="utf-8")
    arguments = ("--stages", "reduce_layers,trim_vocab,evaluate", "--set", setting.format(adapted))
    code, _, err = compress("--output_dir", run, "--overwrite", *arguments)
    assert code == 2 and "would be deleted" in err
    assert (adapted / "model.safetensors").exists()


def test_the_teachers_row_is_that_of_this_run(copy_of, compress, inputs, tmp_path):
    """Another text and objective: nothing of the run before is left in the report."""
    run = copy_of("xlm-roberta")
    before = report_of(run)
    (tmp_path / "more.txt").write_text("\n".join(make_texts(200, 7)), encoding="utf-8")
    changes = ("--train_file", tmp_path / "more.txt", "--stages", "prune_ffn", "--set", "prune_ffn.method=refit")
    code, _, errors = compress("--output_dir", run, "--overwrite", *changes, "--set", "objective=representation")
    assert code == 0, errors
    report = report_of(run)
    assert report["hashes"]["train"] != before["hashes"]["train"]
    assert report["hashes"]["teacher"] == before["hashes"]["teacher"]
    teacher = report["stages"][0]
    assert teacher["parameters"] < before["stages"][0]["parameters"] and "mlm_accuracy" not in teacher


def test_a_licence_that_is_stated_later_is_published(compress, inputs, tmp_path):
    shutil.copytree(inputs / "xlm-roberta", tmp_path / "teacher")
    arguments = ("--teacher", tmp_path / "teacher", "--output_dir", tmp_path / "run", "--stages", "prune_ffn")
    assert compress(*arguments)[0] == 0
    assert license_of(report_of(tmp_path / "run")) == {}
    (tmp_path / "teacher" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert compress(*arguments)[0] == 0
    assert license_of(report_of(tmp_path / "run")) == {"license": "mit"}


def test_a_streamed_text_is_another_text(inputs):
    """Its order is the file's, and calibration takes its first blocks."""

    def fingerprint(*changes):
        arguments = ["compress", "--lang", "sk", "--config", str(inputs / "bert.yaml"), "--stages", "reduce_layers", *changes]
        return prepare(read_config(parse_arguments(arguments))).plan[-1].fingerprint

    assert fingerprint("--set", "train.streaming=true") != fingerprint("--set", "train.streaming=false") == fingerprint()


def test_scores_on_tasks_of_the_hub_are_those_of_a_language(tmp_path):
    """Of local data the language is none of their parts."""
    languages = [Language.from_tag(tag) for tag in ("sk", "cs")]
    for settings, differ in (({}, True), ({"tasks": ("tc",)}, True), ({"data": {"tc": str(tmp_path)}}, False)):
        slovak, czech = [Evaluate(**settings).inputs(language) for language in languages]
        assert (slovak != czech) == differ


def test_several_gpus_in_one_process_are_refused(compress, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    code, _, errors = compress("--output_dir", tmp_path / "run", "--dry_run")
    assert code == 2
    assert_one_line(errors, "there are several GPUs: start with accelerate launch, which gives each a process")
    assert compress("--output_dir", tmp_path / "run", "--dry_run", "--stages", "trim_vocab")[0] == 0


def test_a_vocabulary_that_cannot_be_trimmed_is_found_before_any_work(compress, inputs, tmp_path):
    shutil.copytree(inputs / "xlm-roberta", tmp_path / "teacher")
    path = tmp_path / "teacher" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decoder_start_token_id": 9000}))
    code, _, err = compress("--output_dir", tmp_path / "run", "--teacher", tmp_path / "teacher")
    assert code == 2
    assert_one_line(err, "decoder_start_token_id 9000 is not among the kept tokens")


def test_the_distillation_loss_does_not_touch_the_adapted_teacher(copy_of, compress):
    run = copy_of("xlm-roberta")
    before = modified(run)
    code, _, err = compress("--output_dir", run, "--set", "training.alpha=0.7")
    assert code == 2 and "02-reduce_layers was made with other settings" in err
    assert modified(run) == before


def test_how_often_to_log_and_save_may_change(copy_of, compress):
    run = copy_of("xlm-roberta")
    before = modified(run)
    assert compress("--output_dir", run, "--set", "training.logging_steps=7")[0] == 0
    assert modified(run) == before


def test_the_precision_of_the_scores_is_a_setting_of_ffn_pruning(inputs):
    def fingerprint(*changes):
        arguments = ["compress", "--lang", "sk", "--config", str(inputs / "bert.yaml"), "--stages", "prune_ffn", *changes]
        return prepare(read_config(parse_arguments(arguments))).plan[-1].fingerprint

    assert fingerprint("--set", "training.bf16=false") != fingerprint()
    assert fingerprint("--set", "training.learning_rate=0.1") == fingerprint()


def test_a_run_killed_before_its_model_was_written_is_finished(copy_of, compress):
    run = copy_of("xlm-roberta")
    shutil.rmtree(run / "model")
    before = times_of_files(run)
    assert compress("--output_dir", run)[0] == 0
    assert AutoModel.from_pretrained(run / "model").config.hidden_size == 12
    after = times_of_files(run)
    weights = [path for path in before if path.suffix == ".safetensors"]
    assert len(weights) == len(STAGES) and all(after[path] == before[path] for path in weights)


@pytest.mark.parametrize("bars", ["true", "false"])
def test_quiet_prints_the_result_only(compress, tmp_path, caplog, bars):
    run = tmp_path / "run"
    settings = ("--set", f"training.disable_tqdm={bars}", "--stages", "reduce_layers")
    code, out, err = compress("--output_dir", run, "--quiet", *settings)
    assert (code, err, caplog.records) == (0, "", [])
    assert out == f"{(run / 'report.md').read_text(encoding='utf-8')}\nThe model: {run / 'model'}\n"


def test_a_folder_in_use_is_left_alone(compress, tmp_path):
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        code, _, err = compress("--output_dir", tmp_path / "run")
    assert code == 2 and "another run is using" in err


def test_what_another_run_has_just_made_is_not_deleted(finished, copy_of, compress, monkeypatch):
    run = copy_of("bert")
    lock = RunFolder.lock

    def lock_after_the_other(folder):
        shutil.rmtree(run)
        shutil.copytree(finished / "xlm-roberta", run)
        return lock(folder)

    monkeypatch.setattr(RunFolder, "lock", lock_after_the_other)
    assert compress("--output_dir", run, "--overwrite")[0] == 0
    weights = [f"{name}/model.safetensors" for name in (*DIRECTORIES[1:], "model")]
    assert all((run / name).stat().st_mtime_ns == (finished / "xlm-roberta" / name).stat().st_mtime_ns for name in weights)
