import re
from dataclasses import replace
from pathlib import Path

import pytest

from hf_lrcompress.evaluation.settings import chosen_seeds
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.files import fingerprint
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.yaml_files import CONFIGURATIONS, find_configuration, override, parse_yaml, read_yaml
from hf_lrcompress.stages.adapt_teacher import AdaptTeacher
from hf_lrcompress.stages.evaluate import Evaluate
from hf_lrcompress.stages.reduce_layers import ReduceLayers
from hf_lrcompress.stages.training_arguments import training_arguments
from hf_lrcompress.stages.trim_vocab import TrimVocab
from hf_lrcompress.texts.languages import Language

CONFIGS = list(CONFIGURATIONS.values())
SLOVAK = Language.from_tag("sk")
MINIMAL = {"teacher": "some/model", "train": {"files": ["a.txt"]}, "validation": {"files": ["b.txt"]}}


def config(**changes):
    return RunConfig.from_mapping(MINIMAL | changes, SLOVAK)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("tag", ["sk", "mt", "sw"])
def test_every_recipe_is_valid_and_survives_a_round_trip(path, tag, tmp_path):
    language = Language.from_tag(tag)
    first = RunConfig.from_mapping(read_yaml(path), language)
    assert RunConfig.from_mapping(first.to_mapping(), language) == first
    for stage in first.stages.values():
        training_arguments(dict(first.training) | dict(getattr(stage, "training", {})), str(tmp_path), first.seed)


def test_a_stage_has_its_own_losses_or_those_of_the_run():
    run = {"alpha": 0.5, "learning_rate": 1.0}
    assert ReduceLayers(training={"losses": {"mlm": 1}}).merged(run) == {"learning_rate": 1.0, "losses": {"mlm": 1}}
    assert ReduceLayers(training={"alpha": 1}).merged({"losses": {"mlm": 1}}) == {"alpha": 1}
    assert ReduceLayers().merged(run) == run
    assert AdaptTeacher().merged({"losses": {"hidden_cosine": 1}, "learning_rate": 1.0}) == {"alpha": 1.0, "learning_rate": 1.0}


def test_only_the_named_places_are_replaced():
    text = "{glotcc} {0.__class__} {tag.x} {} {{tag}} {other}"
    assert SLOVAK.named_in(text) == "slk-Latn {0.__class__} {tag.x} {} {sk} {other}"
    assert SLOVAK.named_in(5) == 5
    with pytest.raises(ValueError, match="must be a Hub id"):
        config(train={"path": "a/{0.__class__}"})


@pytest.mark.parametrize(
    ("license", "message"),
    [
        ("Apache 2.0", "the Hub knows no licence 'Apache 2.0'; did you mean 'apache-2.0'?"),
        ("nonsense", "licence 'nonsense'; name it as https://huggingface.co/docs/hub/repositories-licenses does"),
        (" ", "no licence ' '"),
        ("", "no licence ''"),
        ("x" * 300, f"no licence '{'x' * 40}'; name it"),
    ],
)
def test_licences_that_the_hub_does_not_know(license, message):
    assert config(license="cc-by-4.0").license == "cc-by-4.0"
    with pytest.raises(ValueError, match=re.escape(message)):
        config(license=license)


def test_the_default_is_the_papers():
    paper = RunConfig.from_mapping(read_yaml(CONFIGS[0].with_name("paper-xlmr.yaml")), Language.from_tag("sw"))
    assert paper.teacher == "FacebookAI/xlm-roberta-base"
    assert (paper.train.path, paper.train.name, paper.train.column) == ("cis-lmu/GlotCC-V1", "swh-Latn", "content")
    assert (paper.validation.name, paper.validation.split) == ("swh_Latn", "dev")
    assert list(paper.stages) == ["adapt_teacher", "reduce_layers", "prune_ffn", "truncate_hidden", "trim_vocab", "evaluate"]
    evaluate = paper.stages["evaluate"]
    assert evaluate.label_all_tokens and chosen_seeds(evaluate.seeds, evaluate.quick) == (42, 43, 44)
    args = training_arguments(paper.training, ".", 42)
    assert (args.alpha, args.learning_rate, args.num_train_epochs, args.mlm_probability) == (0.5, 5e-5, 10, 0.15)
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, paper.block_size) == (4, 2, 512)
    assert paper.stages["reduce_layers"] == ReduceLayers(6, "stride")
    mbert = RunConfig.from_mapping(read_yaml(CONFIGS[0].with_name("paper-mbert.yaml")), SLOVAK)
    assert mbert.stages["reduce_layers"].strategy == "last"


def test_yaml_is_1_2():
    text = "a: 5e-5\nb: no\nc: true\nd: 1.5\ne: 12\nf: 1e3\nh: 2024-01-01\ni: -.5\nj: ''\nk: null"
    assert parse_yaml(text, "text") == {
        "a": 5e-5, "b": "no", "c": True, "d": 1.5, "e": 12, "f": 1000.0, "h": "2024-01-01", "i": -0.5, "j": "", "k": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("042", 42),
        ("08", 8),
        ("-7", -7),
        ("+7", 7),
        ("40_000", 40_000),
        ("0o17", 15),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("1_", "1_"),
        ("1__0", "1__0"),
        ("0b11", "0b11"),
    ],
)
def test_a_leading_zero_makes_no_other_number(text, value):
    """In YAML 1.1 042 is 34, 1:30 is 90 and 0b11 is 3."""
    assert parse_yaml(text, "text") == value


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"training": {5: 3}}, "training has a key 5"),
        ({"trim_vocab": {"also": {2023: {"files": ["a.txt"], "weight": 1}}}}, "trim_vocab: also has a key 2023"),
        ({"evaluate": {"data": {1: "x"}}}, "evaluate: data has a key 1"),
    ],
)
def test_keys_that_are_numbers_are_named(settings, place):
    with pytest.raises(ValueError, match=f"{place}, which is no text; put it in quotes"):
        config(**settings)


def test_a_typo_in_a_stage_that_is_not_run_is_one():
    with pytest.raises(ValueError, match="unknown key in prune_ffn: 'intermediate'; did you mean 'intermediate_size'"):
        config(stages=["trim_vocab"], prune_ffn={"intermediate": 5})


def test_the_texts_beside_the_training_text_are_known_by_their_names(tmp_path):
    """Two that swap their weights are other settings; in another order they are the same."""
    for name in ("x", "y"):
        (tmp_path / f"{name}.txt").write_text(name * 3, encoding="utf-8")
    texts = [{"files": [str(tmp_path / f"{name}.txt")]} for name in ("x", "y")]

    def read_by(also):
        stage = config(stages=["trim_vocab"], trim_vocab={"also": also}).stages["trim_vocab"]
        return fingerprint(stage.settings_that_matter({}), stage.inputs(SLOVAK))

    one = read_by({"en": texts[0] | {"weight": 0.1}, "cs": texts[1] | {"weight": 5}})
    assert one == read_by({"cs": texts[1] | {"weight": 5}, "en": texts[0] | {"weight": 0.1}})
    assert one != read_by({"cs": texts[0] | {"weight": 5}, "en": texts[1] | {"weight": 0.1}})


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("seed: 1\nteacher: x\nseed: 2", "seed", (3, 1)),
        ("training:\n  bf16: true\n  bf16: false", "bf16", (3, 2)),
        ("{a: 1, a: 1}", "a", (1, 1)),
    ],
)
def test_a_key_that_is_there_twice_is_refused(text, key, lines, tmp_path):
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"c\.yaml .*key '{key}' in line {lines[0]} is also in line {lines[1]}; keep one"):
        read_yaml(tmp_path / "c.yaml")
    assert parse_yaml("a: {x: 1}\nb: {x: 1}", "text") == {"a": {"x": 1}, "b": {"x": 1}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"techer": "x"}, "unknown key in the configuration: 'techer'; did you mean 'teacher'"),
        ({"reduce_layers": {"num_layers": 3}}, "unknown key in reduce_layers: 'num_layers'; did you mean 'num_hidden_layers'"),
        ({"reduce_layers": {"num_hidden_layers": "six"}}, "reduce_layers: num_hidden_layers must be a whole number, got 'six'"),
        ({"reduce_layers": {"num_hidden_layers": True}}, "num_hidden_layers must be a whole number, got True"),
        ({"reduce_layers": 6}, "reduce_layers must be a section"),
        ({"stages": ["evaluate"]}, "stages: there is none that makes a model; for the teacher itself: hf-lrcompress evaluate"),
        ({"stages": ["reduce_layer"]}, "unknown stage: 'reduce_layer'; did you mean 'reduce_layers'"),
        ({"stages": []}, "stages must be a list of different stage names"),
        ({"stages": ["prune_ffn", "prune_ffn"]}, "stages must be a list of different stage names"),
        ({"train": {"path": "x/y", "colunm": "text"}}, "unknown key in train: 'colunm'; did you mean 'column'"),
        ({"train": {}}, "train: a text source needs either files or path"),
        ({"validation": {"files": ["a.txt"], "max_documents": 0}}, "validation: max_documents must be 1 or more"),
        ({"block_size": "big"}, "block_size must be a whole number"),
        ({"teacher": 5}, "teacher must be text, got 5"),
        ({"trim_vocab": {"min_count": 1.5}}, "trim_vocab: min_count must be a whole number or null, got 1.5"),
        (
            {"trim_vocab": {"coverage": 0}},
            "coverage must be more than 0 and at most 1, got 0.0; give a share such as 0.999",
        ),
        ({"trim_vocab": {"coverage": 99.9}}, "trim_vocab: coverage must be more than 0 and at most 1, got 99.9"),
        ({"trim_vocab": {"coverage": "most"}}, "trim_vocab: coverage must be a number or null, got 'most'"),
        ({"trim_vocab": {"coverage": 1, "min_count": 5}}, "trim_vocab: give exactly one of vocab_size, min_count and coverage"),
        ({"trim_vocab": {"pad_to_multiple_of": 0}}, "trim_vocab: pad_to_multiple_of must be 1 or more, got 0"),
        ({"trim_vocab": {"also": 3}}, "trim_vocab: also must be a section, got 3"),
        ({"trim_vocab": {"keep": "a"}}, "trim_vocab: keep must be a list, got 'a'"),
        ({"trim_vocab": {"keep": [5]}}, "trim_vocab: keep must be text, got 5"),
        ({"prune_ffn": {"cut_rank": 1}}, "unknown key in prune_ffn: 'cut_rank'"),
        ({"train": {"files": [5]}}, "train: files must be text, got 5"),
        ({"stages": [["trim_vocab"]]}, "stages must be a list of different stage names, got "),
        ({"stages": [5]}, "stages must be a list of different stage names, got "),
        ({"evaluate": {"data": {"tc": 5}}}, "evaluate: data.tc must be text, got 5"),
        ({"evaluate": {"columns": {"tc": 5}}}, "evaluate: columns.tc must be a list, got 5"),
        ({"evaluate": {"seeds": ["a"]}}, "evaluate: seeds must be a whole number, got 'a'"),
        ({"evaluate": {"seeds": [-1]}}, "seeds must be whole numbers from 0 to 4294967295, got -1"),
        ({"evaluate": {"seeds": [2**32]}}, "seeds must be whole numbers from 0 to 4294967295, got 4294967296"),
        ({"evaluate": {"learning_rates": [10**400]}}, "evaluate: learning_rates is larger than any number"),
        ({"train": {"files": ["\udcff.txt"]}}, r"the name '\\udcff.txt' is not UTF-8; give the file or folder another name"),
        ({"x" * 10**6: 5}, "unknown key in the configuration: 'x+ … x+'; there are: "),
        ({"objective": "x" * 10**6}, "objective must be masked_lm or representation, got 'x+ … x+'"),
        ({"seed": "x" * 10**6}, "the configuration: seed must be a whole number, got 'x+ … x+'"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        config(**changes)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_all_mistakes_of_a_configuration_are_named_at_once():
    settings = {"teacher": 5, "techer": "x", "train": {}, "objective": 1, "stages": ["prune_ffn", "trim_vocab"]}
    settings |= {"prune_ffn": {"a": 1, "intermediate_size": "b"}, "trim_vocab": {"min_count": 0}}
    with pytest.raises(ValueError, match=r"^8 mistakes: \(1\) the configuration has no 'validation' \(2\) unknown key") as error:
        RunConfig.from_mapping(settings, SLOVAK)
    for part in (
        "'techer'",
        "files or path",
        "key in prune_ffn: 'a'",
        "intermediate_size must be",
        "min_count",
        "teacher must be",
    ):
        assert part in str(error.value)


def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match="has no 'train'"):
        RunConfig.from_mapping({"teacher": "x"}, SLOVAK)


def test_override_sets_a_dotted_key_and_leaves_the_rest():
    before = {"a": {"b": 1, "c": 2}}
    assert override(before, "a.b", 5) == {"a": {"b": 5, "c": 2}}
    assert override(before, "d.e.f", 1) == {"a": {"b": 1, "c": 2}, "d": {"e": {"f": 1}}}
    assert before == {"a": {"b": 1, "c": 2}}
    with pytest.raises(ValueError, match="'b' is not a section"):
        override(before, "a.b.c", 1)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("paper-xlm", "did you mean paper-xlmr?"),
        ("recipes/configs/dem.yaml", "did you mean demo?"),
        ("x", "give a YAML file, or one of best, demo, fast"),
    ],
)
def test_a_configuration_that_is_not_there_is_named_with_the_nearest(name, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        find_configuration(name)
    assert str(error.value).startswith(f"configuration {name} does not exist; {hint}")


def test_a_name_is_the_packages_own_and_a_path_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("teacher: mine", encoding="utf-8")
    assert find_configuration("demo") == CONFIGURATIONS["demo"] and find_configuration("./demo").read_text() == "teacher: mine"


def test_a_configuration_that_is_not_utf_8_is_named(tmp_path):
    file = tmp_path / "latin.yaml"
    file.write_bytes("# väzba\nseed: 1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"^{file} is not UTF-8 text; save it as UTF-8$"):
        read_yaml(file)


def test_files_that_are_no_configuration_are_refused(tmp_path):
    for text, message in (("a: [1", "is not valid YAML"), ("just text", "must be a YAML mapping")):
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message) as error:
            read_yaml(tmp_path / "bad.yaml")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1}, "unknown training argument 'learning_rat'"),
        ({"output_dir": "x"}, "training: output_dir is no setting; a stage trains in its own folder"),
        ({"seed": 1}, "training: seed is no setting; give seed at the top of the configuration, or --set seed=42"),
        ({"alpha": 2.0}, "alpha must be from 0"),
        ({"bf16": "no"}, "bf16 must be true or false, got 'no'"),
        ({"max_steps": 1e3}, "max_steps must be a whole number"),
        ({"data_seed": "abc"}, "data_seed must be a whole number, got 'abc'"),
        ({"optim_args": -1}, "optim_args must be text, got -1"),
        ({"neftune_noise_alpha": "abc"}, "neftune_noise_alpha must be a number, got 'abc'"),
        ({"accelerator_config": 9}, "accelerator_config must be text or a mapping, got 9"),
        ({"learning_rate": "fast"}, "learning_rate must be a number"),
        ({"per_device_train_batch_size": 0}, "must be 1 or more"),
        ({"per_device_eval_batch_size": 0}, "per_device_eval_batch_size must be 1 or more, got 0"),
    ],
)
def test_wrong_training_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        training_arguments(settings, ".", 42)


@pytest.mark.parametrize(
    ("settings", "batch"),
    [
        ({}, 8),
        ({"per_device_train_batch_size": 64}, 64),
        ({"per_device_train_batch_size": 64, "per_device_eval_batch_size": 4}, 4),
    ],
)
def test_evaluations_have_batches_as_large_as_training(settings, batch):
    assert training_arguments(settings, ".", 42).per_device_eval_batch_size == batch


@pytest.mark.parametrize("where", ["teacher", "train.path", "training.run_name", "license"])
def test_an_access_token_is_refused_and_not_repeated(where):
    token = "hf_" + "aBcD1234" * 4
    with pytest.raises(ValueError, match="access token.*hf auth login") as refusal:
        RunConfig.from_mapping(override(MINIMAL, where, token), SLOVAK)
    assert token not in str(refusal.value)


@pytest.mark.parametrize("key", ["hub_token", "push_to_hub_token", "hub_model_id", "push_to_hub"])
def test_trainings_publish_nothing(key):
    with pytest.raises(ValueError, match=f"{key} is no setting; publish with --push_to_hub") as refusal:
        training_arguments({key: "secret"}, "out", 42)
    assert "secret" not in str(refusal.value)


NINE_LEVELS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize("text", [NINE_LEVELS, "a: &a [*a]", "a: &a {b: *a}"], ids=["nine levels", "in itself", "mapping"])
def test_aliases_that_stand_for_billions_are_refused_at_once(text):
    with pytest.raises(ValueError, match="more than 10,000 values"):
        parse_yaml(text, "a.yaml")


def test_deep_nesting_is_refused_in_one_line():
    with pytest.raises(ValueError, match="deep.yaml is not valid YAML"):
        parse_yaml("[" * 5000, "deep.yaml")


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="1 is no key of a configuration; give one such as training.alpha"):
        override({}, 1, 2)


def test_seeds_that_are_taken_decide_whether_scores_are_made_again():
    settings = [Evaluate(**given).settings_that_matter({}) for given in ({}, {"seeds": (42, 43, 44)}, {"quick": True})]
    assert settings[0] == settings[1] != settings[2]
    quick_with_three = Evaluate(quick=True, seeds=(42, 43, 44)).settings_that_matter({})
    assert quick_with_three != settings[2]
    assert Evaluate(quick=True, seeds=(42,)).settings_that_matter({}) == settings[2]


def test_epochs_and_rates_that_are_taken_decide_whether_scores_are_made_again(monkeypatch):
    given = {"tasks": ("ner",), "seeds": (42,)}
    quick = Evaluate(**given, quick=True).settings_that_matter({})
    assert quick == Evaluate(**given, epochs=20, learning_rates=(5e-4,)).settings_that_matter({})
    assert Evaluate(**given).settings_that_matter({}) == Evaluate(**given, learning_rates=(3e-4,)).settings_that_matter({})
    for other in ({}, {"epochs": 20}, {"quick": True, "learning_rates": (1e-3,)}, {"quick": True, "epochs": 4}):
        assert Evaluate(**given, **other).settings_that_matter({}) != quick
    monkeypatch.setitem(TASKS, "ner", replace(TASKS["ner"], quick_epochs=4))  # as an older version had it
    assert Evaluate(**given, quick=True).settings_that_matter({}) != quick


def test_what_is_moved_is_not_computed_again(tmp_path):
    def settings(place):
        texts = {"cs": {"files": [str(tmp_path / place / "cs.txt")], "weight": 0.5}}
        stages = (Evaluate(data={"tc": str(tmp_path / place / "topics")}), TrimVocab(also=texts))
        return [stage.settings_that_matter({}) for stage in stages]

    assert settings("here") == settings("there")
    assert settings("here")[0]["data"] == {} == Evaluate().settings_that_matter({})["data"]  # as without any: it was there before
    assert "here" not in str(settings("here"))
    for split in ("train", "dev", "test"):
        path = tmp_path / "topics" / f"sk-{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}\n", encoding="utf-8")
    evaluate = Evaluate(data={"tc": str(tmp_path / "topics")})
    read = evaluate.inputs(SLOVAK)
    (tmp_path / "topics" / "NOTES").write_text("not read", encoding="utf-8")
    assert evaluate.inputs(SLOVAK) == read and len(read["tc"]) == 3
    (tmp_path / "topics" / "labels.txt").write_text("a\nb\n", encoding="utf-8")
    assert len(evaluate.inputs(SLOVAK)["tc"]) == 4
    other_weight = TrimVocab(also={"cs": {"files": ["cs.txt"], "weight": 1}}).settings_that_matter({})
    assert other_weight != settings("here")[1]
