"""Studies on tiny models: what is shared, resumed and shown, what fails, and every kind of bad input."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from conftest import RECIPES
from filelock import FileLock
from made_up_texts import make_texts
from saved_teachers import save_teacher
from transformers import AutoTokenizer, TrainingArguments

from hf_lrcompress.__main__ import main
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.stage_record import StageRecord
from hf_lrcompress.run.yaml_files import STUDIES, find_configuration, override, read_yaml
from hf_lrcompress.stages.training_arguments import training_arguments
from hf_lrcompress.studies import running
from hf_lrcompress.studies.definition import read_study
from hf_lrcompress.studies.points import PlannedPoint, Point, make_points
from hf_lrcompress.studies.results import draw_study, render_study, result_of
from hf_lrcompress.studies.sharing import SHARED, shared_stages
from hf_lrcompress.texts.languages import Language

SLOVAK = Language.from_tag("sk")
CONFIG = {
    "block_size": 32,
    "stages": ["adapt_teacher", "reduce_layers"],
    "training": {"max_steps": 2, "per_device_train_batch_size": 4, "disable_tqdm": True, "eval_steps": 1},
    "reduce_layers": {"num_hidden_layers": 2},
}
ONE_SEED = {"scales": {"small": {"seeds": [1]}}}
STUDY = {
    "title": "How much?",
    "axis": "training.alpha",
    "grid": {"training.alpha": [0, 0.5]},
    "scales": {"small": {"seeds": [1, 2]}},
}


@pytest.fixture(autouse=True, scope="module")
def quick(own_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "POLL_SECONDS", 0.0)
        for name in ("stages.training.plot_training", "publishing.report.plot_stages"):
            patch.setattr(f"hf_lrcompress.{name}", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a teacher, texts and a configuration."""
    folder = tmp_path_factory.mktemp("inputs")
    save_teacher(folder / "teacher")
    for name, count in (("train", 120), ("validation", 20)):
        (folder / f"{name}.txt").write_text("\n".join(make_texts(count, count)), encoding="utf-8")
    texts = {name: {"files": [str(folder / f"{name}.txt")]} for name in ("train", "validation")}
    config = CONFIG | texts | {"teacher": str(folder / "teacher")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


class InThisProcess:
    """What `running` starts, without a new process; `pid` is nobody's."""

    started: list[str] = []

    def __init__(self, command, stderr, **settings):
        arguments = command[command.index("compress") :]
        self.started.append(os.path.basename(arguments[-1]))
        with contextlib.redirect_stderr(stderr):
            self.returncode = main(arguments)

    pid = None

    def poll(self):
        return self.returncode


@pytest.fixture
def in_this_process(monkeypatch):
    """The run folders of the points that are started, in order."""
    started = []
    monkeypatch.setattr(InThisProcess, "started", started)
    monkeypatch.setattr(running.subprocess, "Popen", InThisProcess)
    return started


@pytest.fixture
def study(inputs, tmp_path, capsys):
    """Run the command: `study("--workers", 2, changes={…})` → (exit code, what it printed, its errors)."""

    def run(*arguments, changes=None, folder=tmp_path / "study"):
        content = json.loads(json.dumps(STUDY | (changes or {})))
        for scale in content.get("scales") or ():
            content["scales"][scale].setdefault("config", str(inputs / "config.yaml"))
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        code = main(["study", str(tmp_path / "own.yaml"), "--lang", "sk", "--output_dir", str(folder), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def lines_of(folder):
    return [json.loads(line) for line in (folder / "points.jsonl").read_text(encoding="utf-8").splitlines()]


def test_points_share_what_they_have_in_common_and_are_not_run_again(study, in_this_process, tmp_path):
    code, out, errors = study()
    assert code == 0, errors
    assert in_this_process == ["alpha-0-seed1", "alpha-0-seed2", "alpha-0.5-seed1", "alpha-0.5-seed2"]
    lines = lines_of(tmp_path / "study")
    assert [(line["setting"], line["seed"]) for line in lines] == [
        ("alpha 0", 1), ("alpha 0", 2), ("alpha 0.5", 1), ("alpha 0.5", 2),
    ]  # fmt: skip
    assert [line["shared"].get("adapt_teacher") for line in lines] == [None, None, "alpha-0-seed1", "alpha-0-seed2"]
    runs = tmp_path / "study" / "runs"
    weights = [runs / f"alpha-{alpha}-seed1" / "01-adapt_teacher" / "model.safetensors" for alpha in ("0", "0.5")]
    assert weights[0].samefile(weights[1])
    for line in lines:
        assert [row["step"] for row in line["curve"]] == [0, 1, 2] and line["curve_of"] == "reduce_layers"
        assert all(0 <= row["mlm_accuracy"] <= 1 for row in line["curve"])
        directory = f"alpha-{line['changes']['training.alpha']}-seed{line['seed']}"
        report = json.loads((runs / directory / "report.json").read_text(encoding="utf-8"))
        assert [row["stage"] for row in report["stages"] if "evaluations" in row] == ["reduce_layers"]
        assert line["seconds"] > 0 and line["version"] and line["environment"]["torch"] and line["scale"] == "small"
        assert line["measures"].keys() == {"mlm_accuracy", "sentence_similarity", "token_similarity"}
    table = (tmp_path / "study" / "study.md").read_text(encoding="utf-8")
    assert table.startswith("# How much?") and table in out
    assert table.count("2 of 2") == 2 and table.count(" ± ") >= 6
    assert (tmp_path / "study" / "study.png").read_bytes().startswith(b"\x89PNG")

    in_this_process.clear()
    assert study()[0] == 0 and in_this_process == []
    assert study("--dry_run")[1].count("finished") == 4
    code, _, errors = study(changes={"grid": {"training.alpha": [0, 0.5, 1]}})
    assert (code, in_this_process) == (2, [])
    assert errors.count("\n") == 1 and "holds a study with another grid (without alpha 1, seed 1)" in errors
    code, _, errors = study("--overwrite", changes={"grid": {"training.alpha": [0.5, 1]}})
    assert code == 0, errors
    assert in_this_process == ["alpha-1-seed1", "alpha-1-seed2"]
    assert [line["setting"] for line in lines_of(tmp_path / "study")] == ["alpha 0.5"] * 2 + ["alpha 1"] * 2


def test_with_overwrite_only_what_settings_change_is_made_again(study, in_this_process, tmp_path):
    assert study(changes=ONE_SEED)[0] == 0
    teacher = tmp_path / "study" / "runs" / "alpha-0-seed1" / "01-adapt_teacher" / "model.safetensors"
    before = teacher.stat()
    more = ("--set", "reduce_layers.num_hidden_layers=1")
    code, _, errors = study(*more, changes=ONE_SEED)
    assert code == 2 and "alpha 0, seed 1 was made with other settings" in errors
    code, _, errors = study(*more, "--overwrite", changes=ONE_SEED)
    assert code == 0, errors
    assert len(in_this_process) == 4 and teacher.stat().st_ino == before.st_ino
    assert len({line["parameters"] for line in lines_of(tmp_path / "study")}) == 1


def test_a_study_takes_stages_from_another_one(study, in_this_process, tmp_path):
    assert study(changes=ONE_SEED)[0] == 0
    first = tmp_path / "study"
    losses = {"grid": {"training.distillation_loss": ["mse", "kl"]}, "axis": None} | ONE_SEED
    second = tmp_path / "losses"
    code, out, errors = study("--reuse", first, "--dry_run", changes=losses, folder=second)
    assert code == 0 and "to adapt_teacher: there" in out and " 4 " in out.splitlines()[-3], errors
    in_this_process.clear()
    code, _, errors = study("--reuse", first, changes=losses, folder=second)
    assert code == 0, errors
    assert in_this_process == ["distillation_loss-mse-seed1", "distillation_loss-kl-seed1"]
    assert [line["shared"]["adapt_teacher"] for line in lines_of(second)] == [
        "study/alpha-0-seed1", "distillation_loss-mse-seed1",
    ]  # fmt: skip
    weights = "01-adapt_teacher/model.safetensors"
    theirs = first / "runs" / "alpha-0-seed1" / weights
    assert (second / "runs" / "distillation_loss-kl-seed1" / weights).samefile(theirs)


def test_a_folder_to_reuse_must_be_a_study(study, tmp_path):
    code, _, errors = study("--reuse", tmp_path)
    assert code == 2 and errors.endswith(f"error: --reuse {tmp_path}: no study was made there; give the output_dir of one\n")
    assert not (tmp_path / "study").exists()


def test_a_point_that_was_renamed_has_its_result(study, in_this_process, tmp_path):
    named = {"points": {"old": {"training.alpha": 0.5}}, "grid": {}} | ONE_SEED
    assert study(changes=named)[0] == 0
    in_this_process.clear()
    changes = {"reduce_layers.training.alpha": 0.5}
    named |= {"points": {"new": changes}, "axis": "reduce_layers.training.alpha"}
    code, out, errors = study("--overwrite", changes=named)
    assert (code, in_this_process) == (0, []), errors
    assert "| new       | 1 of 1" in out
    (line,) = lines_of(tmp_path / "study")
    assert (line["setting"], line["changes"]) == ("new", changes)


def test_what_was_made_of_another_text_is_no_result(study, in_this_process, inputs, tmp_path, monkeypatch):
    """The text is changed after the study has begun."""
    text = inputs / "train.txt"
    before = text.read_text(encoding="utf-8")

    class Later(InThisProcess):
        def __init__(self, *arguments, **settings):
            text.write_text(before + "\nEšte jedna veta.\n", encoding="utf-8")
            super().__init__(*arguments, **settings)

    monkeypatch.setattr(running.subprocess, "Popen", Later)
    try:
        code, _, errors = study(changes=ONE_SEED)
    finally:
        text.write_text(before, encoding="utf-8")
    assert code == 1 and errors.count("error: alpha") == 2
    assert "the texts, the teacher or the package were changed meanwhile; start the study again" in errors
    assert not (tmp_path / "study" / "points.jsonl").exists()


def test_a_run_that_another_process_uses_is_left_alone(study, in_this_process, tmp_path):
    assert study(changes=ONE_SEED)[0] == 0
    run = tmp_path / "study" / "runs" / "alpha-0-seed1"
    with FileLock(run / ".lock"):
        code, _, errors = study("--overwrite", "--set", "reduce_layers.num_hidden_layers=1", changes=ONE_SEED)
    assert code == 2 and "another run is using" in errors and (run / "02-reduce_layers" / "model.safetensors").exists()


def test_a_study_that_was_killed_before_its_first_file_begins(study, in_this_process, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / ".lock").touch()
    (tmp_path / "study" / "study.json.partial").write_text("{")
    assert study(changes=ONE_SEED)[0] == 0


def test_a_point_that_fails_is_named_and_the_others_go_on(study, in_this_process, tmp_path):
    points = {"bad": {"training.alpha": 1, "training.learning_rate": 1e38}, "good": {"training.alpha": 1}}
    broken = {"points": points, "grid": {}} | ONE_SEED
    alone = ("--set", "stages=[reduce_layers]")
    code, out, errors = study(*alone, changes=broken)
    assert code == 1 and errors.count("error: bad, seed 1: ") == 1 and "Traceback" not in errors
    assert "error: 1 of 2 runs failed; the same command tries them again" in errors
    table = (tmp_path / "study" / "study.md").read_text(encoding="utf-8")
    assert "| bad       | 0 of 1" in table and "- failed: bad, seed 1: " in table and "1 of 1" in table
    assert [line["setting"] for line in lines_of(tmp_path / "study")] == ["good"]
    in_this_process.clear()
    assert study(*alone, changes=broken)[0] == 1 and in_this_process == ["bad-seed1"]


class Waiting:
    """A fake run that needs a while: it ends when it has been asked three times."""

    alive: list["Waiting"] = []
    most = 0
    devices: list[str | None] = []

    def __init__(self, command, env, **settings):
        self.asked = 0
        self.returncode = 1
        self.alive.append(self)
        type(self).most = max(self.most, len(self.alive))
        self.devices.append(env.get("CUDA_VISIBLE_DEVICES"))

    pid = None

    def poll(self):
        self.asked += 1
        if self.asked == 3:
            self.alive.remove(self)
        return 1 if self.asked >= 3 else None


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_so_many_workers_run_at_once_and_each_sees_one_gpu(study, monkeypatch, workers):
    """What a machine with two GPUs is asked; the points share nothing that one would have to wait for."""
    for name, value in (("alive", []), ("most", 0), ("devices", [])):
        monkeypatch.setattr(Waiting, name, value)
    monkeypatch.setattr(running.subprocess, "Popen", Waiting)
    monkeypatch.setattr("hf_lrcompress.workers._give_cores", lambda *arguments: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    seeds = {"grid": {"training.alpha": [1]}, "scales": {"small": {"seeds": [1, 2, 3, 4]}}}
    code, _, errors = study("--workers", workers, "--set", "stages=[reduce_layers]", changes=seeds)
    assert code == 1 and errors.count("error: alpha 1, seed") == 4, errors
    assert Waiting.most == workers and len(Waiting.devices) == 4
    assert set(Waiting.devices) == ({"0"} if workers == 1 else {"0", "1"})


def test_a_killed_process_is_a_failed_point(study, tmp_path, monkeypatch):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(running, "COMMAND", (sys.executable, "-c", code))
    ended, _, errors = study("--workers", 2)
    assert ended == 1 and errors.count(f"killed by signal {signal.SIGKILL:d}") >= 4
    assert "0 of 2" in (tmp_path / "study" / "study.md").read_text(encoding="utf-8")
    assert not (tmp_path / "study" / "points.jsonl").exists()


def test_on_ctrl_c_the_workers_are_ended(study, monkeypatch):
    started = []

    class Sleeping(subprocess.Popen):
        def __init__(self, command, **settings):
            super().__init__([sys.executable, "-c", "import time; time.sleep(60)"], **settings)
            started.append(self)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(running.subprocess, "Popen", Sleeping)
    monkeypatch.setattr(running.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        study("--workers", 2, changes=ONE_SEED)
    assert len(started) == 1  # the others wait for the teacher that it measures
    assert started[0].returncode == -signal.SIGTERM


def test_a_dry_run_says_what_is_shared_and_writes_nothing(study, tmp_path):
    code, out, errors = study("--dry_run")
    assert code == 0, errors
    assert not (tmp_path / "study").exists()
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "adapt_teacher, reduce_layers" in rows["alpha 0, seed 1"] and " 4 " in rows["alpha 0, seed 1"]
    assert "to adapt_teacher: alpha 0, seed 2" in rows["alpha 0.5, seed 2"] and " 2 " in rows["alpha 0.5, seed 2"]
    assert " 12 " in rows["all"] and f" {12 * 4 * 32:,} " in rows["all"] and "the least that training can take" in out


def test_documents_are_counted_by_their_own_length(study, inputs):
    code, out, errors = study("--dry_run", "--set", "examples=documents")
    assert code == 0, errors
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    tokens = int(rows["all"][-2].replace(",", ""))
    tokenizer = AutoTokenizer.from_pretrained(inputs / "teacher")
    lengths = [len(tokenizer(text).input_ids) for text in (inputs / "train.txt").read_text(encoding="utf-8").splitlines()]
    assert tokens == pytest.approx(12 * 4 * sum(lengths) / len(lengths), rel=0.01) and tokens < 12 * 4 * 32


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ([], {"grid": {}}, "scale small has no points: give names and changes"),
        ([], {"points": None, "grid": None}, "scale small has no points"),
        ([], {"scales": None}, "a study needs scales"),
        ([], {"titel": "x"}, "unknown key in "),
        ([], {"grid": {"training.alhpa": [0, 1]}, "axis": None}, "unknown training argument 'alhpa'; did you mean 'alpha'?"),
        ([], {"grid": {"reduce_layer.strategy": ["last"]}, "axis": None}, "'reduce_layer'; did you mean 'reduce_layers'?"),
        ([], {"grid": {"reduce_layers.stratgy": ["last"]}, "axis": None}, "did you mean 'strategy'?"),
        ([], {"grid": {"training.alpha": ["x"]}}, "must set the axis, training.alpha, to a number, got 'x'"),
        ([], {"points": {"a": {}}}, "point 'a' must set the axis"),
        ([], {"grid": {"training.logging_steps": [8, 9]}, "axis": None}, "are the same run: nothing that they change"),
        ([], {"grid": {"prune_ffn.intermediate_size": [8, 9]}, "axis": None}, "8: prune_ffn.intermediate_size changes nothing"),
        (
            ["--set", "prune_ffn.batch_size=4"],
            {},
            "--set prune_ffn.batch_size changes nothing, prune_ffn is not among the stages",
        ),
        (["--set", "seed=5"], {}, "--set seed changes nothing, a study has several; give them by --seeds"),
        (["--set", "training.alpha=1"], {}, "--set training.alpha changes nothing, every point of the study has its own"),
        ([], {"points": {"a b": {}, "a-b": {}}, "grid": {}, "axis": None}, "'a b' and 'a-b' would share a folder"),
        (
            ["--task_data", "tc=x"],
            {"points": {"a": {"evaluate": True}}, "grid": {}, "axis": None},
            "evaluate must be a section of key: value lines, got True",
        ),
        (["--task_data", "tc=x"], {"points": {"a": {"stages": [["x"]]}}, "grid": {}, "axis": None}, "stages"),
        (["--scale", "big"], {}, "the study has no scale 'big'; there are: small"),
        (["--seeds", "x"], {}, "--seeds x: give whole numbers separated by commas"),
        (["--workers", "0"], {}, "--workers must be 1 or more"),
        (["--set", "training.alpha"], {}, "give it as key=value"),
        (["--task_data", "tc"], {}, "give it as TASK=DIR"),
        (["--task_data", "topics=x"], {}, "unknown task 'topics'"),
        (["--train_file", "none.txt"], {}, "none.txt does not exist"),
    ],
)
def test_bad_studies_are_one_line(study, tmp_path, arguments, changes, message):
    code, _, errors = study(*arguments, changes=changes)
    last = errors.splitlines()[-1]  # a text may have been read into the cache before, with a bar
    assert code == 2 and last.startswith("error: ") and errors.count("error: ") == 1
    assert message in last and not (tmp_path / "study").exists()


def test_an_unknown_study_and_a_folder_of_something_else(study, tmp_path, capsys):
    assert main(["study", "alfa", "--lang", "sk"]) == 2
    assert capsys.readouterr().err == "error: study alfa does not exist; did you mean alpha?\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("x")
    code, _, errors = study(folder=tmp_path / "mine")
    assert code == 2 and "holds other files (such as diary.txt)" in errors


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_of_the_package_is_valid_at_every_scale(name):
    study = read_study(name)
    assert list(study.scales) == ["paper", "gpu", "cpu"]
    for scale in study.scales.values():
        mapping = read_yaml(find_configuration(scale.config))
        for key, value in scale.set.items():
            mapping = override(mapping, key, value)
        points = make_points(mapping, study.points_of(scale), scale.seeds, {}, SLOVAK)
        assert len({point.directory for point in points}) == len(study.points_of(scale)) * len(scale.seeds) >= 3
        for point in points:
            for stage in point.config.stages.values():
                training_arguments(stage.settings_that_matter(point.config.training)["training"], ".", 42)
            assert RunConfig.from_mapping(point.config.to_mapping(), SLOVAK) == point.config
        if "evaluate" in points[0].config.stages:
            assert points[0].config.stages["evaluate"].models == (list(points[0].config.stages)[-2],)


@pytest.mark.parametrize(
    ("stages", "made", "scored"),
    [
        (None, ["adapt_teacher", "reduce_layers", "prune_ffn", "truncate_hidden", "trim_vocab", "evaluate"], "trim_vocab"),
        (["reduce_layers", "export"], ["reduce_layers", "export", "evaluate"], "reduce_layers"),
    ],
)
def test_tasks_score_the_last_model_and_add_no_export(stages, made, scored):
    mapping = dict.fromkeys(("teacher", "train", "validation"), "demo") | ({"stages": stages} if stages else {})
    (point,) = make_points(mapping, {"only": {}}, [42], {"tc": "folder"}, SLOVAK)
    assert (list(point.config.stages), point.config.to_mapping()["evaluate"]["models"]) == (made, [scored])


def test_the_table_shows_only_what_can_be_compared():
    same = {"parameters": 5, "measures": {"mlm_accuracy": 0.5, "sentence_similarity": 0.9}, "scores": [], "seconds": 3}
    results = [same | {"setting": "a", "seed": 1, "masked_text": "x"}, same | {"setting": "b", "seed": 1, "masked_text": "y"}]
    text = render_study("Which?", ["a", "b", "c"], [1], results, {"c, seed 1": "no | room"})
    assert "masked-token accuracy" not in text and "Masked-token accuracies are left out" in text and "0.9000" in text
    assert "0 of 1" in text and "- failed: c, seed 1: no \\| room" in text
    results[1] = results[1] | {"masked_text": "x"}
    assert "masked-token accuracy" in render_study("Which?", ["a", "b"], [1], results, {})


@pytest.mark.parametrize(
    ("changes", "rows", "drawn"),
    [
        ({"reduce_layers.strategy": "last"}, {"mlm_accuracy": 0.5, "loss": 1}, "masked-token accuracy on validation"),
        ({"truncate_hidden.method": "svd"}, {"loss": 1, "hidden_mse_loss": 1}, "loss on validation"),
        ({"training.losses": {"hidden_mse": 2}}, {"loss": 1, "hidden_mse_loss": 1}, None),
        ({"truncate_hidden.distil_from": "teacher"}, {"loss": 1}, None),
    ],
)
def test_a_loss_is_drawn_only_where_it_is_the_same_for_all(monkeypatch, tmp_path, changes, rows, drawn):
    panels = []
    monkeypatch.setattr("hf_lrcompress.studies.results.plot_study", lambda title, given, path: panels.extend(given))
    measures = {"mlm_accuracy": 0.5} if "mlm_accuracy" in rows else {}
    result = {"setting": "a", "seed": 1, "masked_text": "x", "changes": changes, "measures": measures, "scores": []}
    draw_study(read_study("loss"), [1, 2], [result | {"curve": [{"step": 3} | rows]}], tmp_path / "study.png")
    assert [panel.measure for panel in panels] == ([drawn] if drawn else [])
    assert all(panel.lines == {"a (1 of 2 runs)": {3: [next(iter(rows.values()))]}} for panel in panels)


def result_with(changes, seed=1, curve=(), accuracy=0.5):
    rows = [{"step": step, "mlm_accuracy": value} for step, value in curve]
    measures = {"mlm_accuracy": accuracy}
    same = {"setting": "a", "masked_text": f"x{seed}", "measures": measures, "scores": []}
    return same | {"changes": changes, "seed": seed, "curve": rows}


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw results: `drawn(results, axis)` → the panels."""
    panels = []
    monkeypatch.setattr("hf_lrcompress.studies.results.plot_study", lambda title, given, path: panels.extend(given))

    def draw(results, axis=None):
        study = replace(read_study("alpha"), axis=axis, grid={axis or "training.alpha": [1]})
        draw_study(study, [1, 2], results, tmp_path / "study.png")
        return panels

    return draw


def test_a_mean_over_seeds_is_drawn_where_all_of_them_were_evaluated(drawn):
    curves = [{0: 0.8, 10: 0.7, 20: 0.9}, {0: 0.2, 20: 0.3}]
    results = [result_with({}, seed, curve.items()) for seed, curve in enumerate(curves, start=1)]
    (panel,) = drawn(results)
    assert panel.lines == {"a": {0: [0.8, 0.2], 20: [0.9, 0.3]}}


def test_every_task_has_a_panel_of_all_its_trainings(drawn):
    def scored(factor, seed, **values):
        scores = [{"task": task, "metric": "f1", "mean": sum(v) / len(v), "values": v} for task, v in values.items()]
        return result_with({"evaluate.reduction_factor": factor}, seed) | {"scores": scores}

    results = [
        scored(2, 1, tc=[0.5, 0.75], ner=[0.0]),
        scored(2, 2, tc=[1.0], pos=[0.5], ner=[0.25]),
        scored(8, 1, tc=[0.25], ner=[1.0]),
    ]
    topics, entities = drawn(results, "evaluate.reduction_factor")
    assert topics.measure == "TC, f1 × 100" and topics.lines == {"": {2: [50.0, 75.0, 100.0], 8: [25.0]}}
    assert entities.lines == {"": {2: [0.0, 25.0], 8: [100.0]}}  # not all have pos


def test_points_whose_keys_end_alike_are_lines_of_their_own(drawn):
    keys = ("adapt_teacher.training.max_steps", "reduce_layers.training.max_steps")
    results = [result_with({"training.alpha": 1, key: 100}, accuracy=value) for key, value in zip(keys, (0.9, 0.1), strict=True)]
    (panel,) = drawn(results, "training.alpha")
    assert panel.lines == {f"{keys[0]} 100": {1: [0.9]}, f"{keys[1]} 100": {1: [0.1]}}


def test_losses_that_a_whole_section_changes_are_not_compared(drawn):
    sections = [{"losses": {"hidden_mse": 1}}, {"losses": {"hidden_mse": 2}}]
    results = [result_with({"truncate_hidden.training": section}) for section in sections]
    for result in results:
        result["curve"] = [{"step": 0, "loss": 1.0}]
        result["measures"] = {}
    assert drawn(results) == []


def test_an_old_figure_goes_where_there_is_nothing_to_draw(drawn, tmp_path):
    (tmp_path / "study.png").write_bytes(b"of other points")
    drawn([])
    assert not (tmp_path / "study.png").exists()


def test_seconds_are_those_of_the_run_itself(tmp_path):
    """Of a run that has taken all from another, also a stage that makes no model."""
    for directory, seconds in (("00-teacher", 5.0), ("01-evaluate", 4000.0)):
        shared = {"seconds": seconds, SHARED: {"run": "other/run", "seconds": seconds}}
        StageRecord(directory[3:], "x", metrics=shared).write(tmp_path / directory)
    row = {"stage": "teacher", "parameters": 1, "masked_text": "x"}
    report = {"stages": [row], "total": {"seconds": 4007.0}, "settings": {}, "version": "", "environment": {}}
    planned = PlannedPoint(Point("a", 1, {}, None), {"00-teacher": "x", "01-evaluate": "y"})
    line = result_of(planned, report, shared_stages(tmp_path))
    assert line["seconds"] == 2.0 and line["shared"] == {"teacher": "other/run", "evaluate": "other/run"}


@pytest.mark.parametrize("folder", sorted((RECIPES / "studies" / "results").iterdir()), ids=lambda folder: folder.name)
def test_the_table_of_a_study_that_was_run_is_that_of_its_lines(folder):
    lines = (folder / "points.jsonl").read_text(encoding="utf-8").splitlines()
    results = [json.loads(line) for line in lines]
    settings = dict.fromkeys(result["setting"] for result in results)
    seeds = sorted({result["seed"] for result in results})
    rendered = render_study(read_study(folder.name).title, settings, seeds, results, {})
    assert (folder / "study.md").read_text(encoding="utf-8") == rendered
    page = (folder.parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"results/{folder.name}/study.md" in page and (folder / "study.png").is_file()
