"""What is refused of a teacher before anything is read."""

import json

import pytest
from conftest import tiny_model
from made_up_texts import make_texts
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.preparation import prepare
from hf_lrcompress.stages.inputs import RunInputs
from hf_lrcompress.texts.languages import Language

SPECIAL = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}


@pytest.fixture
def teacher(tmp_path):
    """A directory with a model of 101 rows and a tokenizer of four tokens."""
    tiny_model("bert").save_pretrained(tmp_path / "teacher")
    save_tokenizer(tmp_path / "teacher")
    (tmp_path / "text.txt").write_text("\n".join(make_texts(30, 1)), encoding="utf-8")
    return tmp_path / "teacher"


def save_tokenizer(directory, words=("a",), special=("unk_token", "pad_token", "mask_token")):
    vocab = {token: i for i, token in enumerate([*SPECIAL.values(), *words])}
    backend = Tokenizer(models.WordLevel(vocab, "[UNK]"))
    names = {name: SPECIAL[name] for name in special}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(directory)


def prepared(teacher, **settings):
    text = {"files": [str(teacher.parent / "text.txt")]}
    config = {"teacher": str(teacher), "train": text, "validation": text, "block_size": 32, "stages": ["reduce_layers"]}
    config |= {"reduce_layers": {"num_hidden_layers": 2}, "training": {"max_steps": 1}}
    return prepare(RunConfig.from_mapping(config | settings, Language.from_tag("sk")))


def test_more_tokens_than_embeddings(teacher):
    assert prepared(teacher)
    save_tokenizer(teacher, words=[f"word{i}" for i in range(100)])
    message = "teacher: the model has 101 rows, but its tokenizer 103 tokens; they do not belong together"
    with pytest.raises(ValueError, match=message):
        prepared(teacher)
    with pytest.raises(ValueError, match=message):
        ModelUnderTest("teacher", str(teacher)).load_tokenizer()


@pytest.mark.parametrize("missing", ["mask_token", "pad_token"])
def test_a_tokenizer_without_a_token_that_is_needed(teacher, missing):
    save_tokenizer(teacher, special=SPECIAL.keys() - {missing})
    with pytest.raises(ValueError, match=f"the tokenizer of .*teacher has no {missing}; name it in its tokenizer_config.json"):
        prepared(teacher)


def test_an_encoder_of_sentences_needs_no_mask_token(teacher):
    save_tokenizer(teacher, special=["unk_token", "pad_token"])
    assert prepared(teacher, objective="representation", training={"losses": {"hidden_mse": 1}, "max_steps": 1})


def test_a_teacher_without_a_tokenizer(teacher):
    for path in teacher.glob("*token*"):
        path.unlink()
    with pytest.raises(ValueError, match="^.*teacher has no tokenizer; save one beside the model"):
        prepared(teacher)


def test_pointers_of_git_lfs_are_named(teacher):
    (teacher / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="run git lfs pull"):
        prepared(teacher)


def test_block_size_and_config_are_compared(teacher):
    path = teacher / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"position_embedding_type": "relative_key"}))
    with pytest.raises(ValueError, match="position_embedding_type=relative_key"):
        prepared(teacher)


NEW_HEAD = {"adapt_teacher": {"new_head": True}}
LOGITS = {"new_head": True, "training": {"losses": {"mlm": 0.5, "logits_mse": 0.5}}}
HIDDEN = {"new_head": True, "training": {"losses": {"hidden_mse": 1}}}
UNTRAINED = "compare with the teacher's head, which is untrained"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": ["adapt_teacher", "reduce_layers"]}, None),
        ({"stages": ["reduce_layers", "adapt_teacher"]}, "reduce_layers: losses: logits_mse"),
        ({"adapt_teacher": LOGITS}, f"adapt_teacher: losses: logits_mse {UNTRAINED}"),
        ({"adapt_teacher": HIDDEN}, None),
        ({"reduce_layers": {"num_hidden_layers": 2, "distil_from": "teacher"}}, f"reduce_layers: losses: logits_mse {UNTRAINED}"),
        ({"stages": ["prune_ffn", "adapt_teacher"], "prune_ffn": {"intermediate_size": 9}}, "must be the first stage"),
        ({"objective": "representation", "stages": ["adapt_teacher"], "adapt_teacher": HIDDEN}, "new_head does nothing"),
    ],
)
def test_no_stage_learns_from_a_head_that_is_untrained(teacher, settings, message):
    settings = {"stages": ["adapt_teacher", "reduce_layers"], **NEW_HEAD} | settings
    if message is None:
        assert prepared(teacher, **settings).inputs.new_head
        return
    with pytest.raises(ValueError, match=message):
        run = prepared(teacher, **settings)
        run.stages["adapt_teacher"].check(run.inputs, run.models_before(len(run.plan) - 1, teacher))


WRONG = {
    "typo": ({"training": {"learning_rat": 1.0, "max_steps": 1}}, "reduce_layers: unknown training argument 'learning_rat'"),
    "rate": ({"training": {"learning_rate": float("inf"), "max_steps": 1}}, "learning_rate must be a finite number"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_training_arguments_are_found_before_the_text_is_counted(teacher, monkeypatch, case):
    settings, message = WRONG[case]
    monkeypatch.setattr(RunInputs, "token_counts", lambda *arguments: pytest.fail("counted"))
    with pytest.raises(ValueError, match=message):
        prepared(teacher, stages=["trim_vocab", "reduce_layers"], trim_vocab={"coverage": 0.9}, **settings)


def test_wrong_tasks_are_found_before_the_text_is_counted(teacher, monkeypatch):
    run = prepared(
        teacher,
        stages=["trim_vocab", "evaluate"],
        trim_vocab={"vocab_size": 4, "pad_to_multiple_of": 1},
        evaluate={"data": {"tc": str(teacher.parent / "nowhere")}},
    )
    monkeypatch.setattr(RunInputs, "token_counts", lambda *arguments: pytest.fail("counted"))
    with pytest.raises((ValueError, OSError), match="nowhere"):
        run.check_texts()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 2.0}, "^training: temperature 2.0 changes nothing, only logits_kl would read it; leave it out"),
        ({"losses": {"logits_mse": 1.0}, "relation_heads": 3}, "relation_heads 3 changes nothing, only relations would read it"),
        ({"hidden_layers": [0, 2, 4]}, "hidden_layers .* only hidden_cosine and hidden_mse and sentence_cosine and"),
        ({"losses": {"relations": 1.0}, "distillation_positions": "masked"}, "only logits_mse and logits_kl would read it"),
        (
            {"losses": {"relations": 1.0}, "mlm_probability": 0.3},
            "mlm_probability 0.3 changes nothing, none of the losses",
        ),
        (
            {"losses": {"logits_mse": 1.0}, "distillation_loss": "kl"},
            "changes nothing, none of the losses reads it",
        ),
    ],
)
def test_settings_that_no_loss_reads_are_refused(teacher, settings, message):
    with pytest.raises(ValueError, match=message):
        prepared(teacher, training={"max_steps": 1} | settings)
    own = {"num_hidden_layers": 2, "training": settings}
    with pytest.raises(ValueError, match="^reduce_layers: training: "):
        prepared(teacher, reduce_layers=own)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0},
        {"distillation_loss": "kl", "temperature": 2.0},
        {"alpha": 1.0, "distillation_loss": "kl", "temperature": 2.0},
        {"losses": {"logits_kl": 0.0, "mlm": 1.0}, "temperature": 2.0, "mlm_probability": 0.3},
    ],
)
def test_settings_that_one_loss_reads_are_taken(teacher, settings):
    """Also the usual value, and of an `alpha` that may be one of several."""
    assert prepared(teacher, training={"max_steps": 1} | settings)


def test_a_setting_of_the_run_may_be_for_one_stage(teacher):
    """Also where neurons are scored in between, with no training."""
    stages = {"stages": ["reduce_layers", "prune_ffn", "truncate_hidden"], "prune_ffn": {"intermediate_size": 20}}
    with_kl = {"num_hidden_layers": 2, "training": {"losses": {"logits_kl": 1.0}}}
    settings = stages | {"reduce_layers": with_kl, "truncate_hidden": {"hidden_size": 12}}
    assert prepared(teacher, training={"max_steps": 1, "temperature": 2.0}, **settings)
