"""Sizes for a budget, and what training takes: from the config of a teacher alone."""

from contextlib import suppress

import pytest
import torch
from conftest import tiny_config
from transformers import BertConfig, XLMRobertaConfig

from hf_lrcompress.__main__ import main
from hf_lrcompress.distillation.loss_table import compared_depths
from hf_lrcompress.distillation.training_memory import training_memory_mb
from hf_lrcompress.models.rebuilding import changed, encoder_on_meta, masked_lm_on_meta
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.size_target import meet_budget, parse_count
from hf_lrcompress.run.yaml_files import find_configuration, read_yaml
from hf_lrcompress.stages import STAGES
from hf_lrcompress.stages.trim_vocab import TrimVocab
from hf_lrcompress.texts.languages import Language

NAMES = ("reduce_layers", "prune_ffn", "truncate_hidden", "trim_vocab")

XLMR = XLMRobertaConfig(vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1)


def propose_sizes(config, budget, names=NAMES):
    return meet_budget(masked_lm_on_meta(config), budget, {name: STAGES[name]() for name in names})


@pytest.mark.parametrize("text, count", [("25M", 25_000_000), ("1.5m", 1_500_000), ("25_000_000", 25_000_000), ("900k", 900_000)])
def test_a_count_with_its_unit(text, count):
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "M", "25 apples", "-3M"])
def test_what_is_no_count(text):
    with pytest.raises(ValueError, match="no number of parameters; give it as 25M"):
        parse_count(text)


@pytest.mark.parametrize("millions", [250, 200, 100, 60, 45, 25, 18])
def test_sizes_meet_the_budget_by_the_papers_rules(millions):
    proposal = propose_sizes(XLMR, millions * 10**6)
    assert proposal.parameters <= millions * 10**6
    assert proposal.parameters == masked_lm_on_meta(changed(XLMR, **proposal.sizes)).num_parameters()
    assert "num_attention_heads" not in proposal.sizes and len(proposal.reasons) == len(proposal.sizes)
    assert proposal.sizes.get("intermediate_size", 2048) == 2048  # two thirds
    assert proposal.sizes.get("num_hidden_layers", 6) == 6 and proposal.sizes.get("vocab_size", 40_000) == 40_000
    assert proposal.sizes.get("hidden_size", 768) % 12 == 0


@pytest.mark.parametrize("millions", [60, 45, 25, 18])
def test_a_budget_is_used_up(millions):
    """With the next hidden size that the heads allow the model would be too large."""
    sizes = propose_sizes(XLMR, millions * 10**6).sizes
    wider = sizes | {"hidden_size": sizes["hidden_size"] + 12}
    assert masked_lm_on_meta(changed(XLMR, **wider)).num_parameters() > millions * 10**6


def test_smaller_sizes_of_the_configuration_are_what_is_cut_to():
    """With 40,000 tokens a small teacher would have next to no hidden size left."""
    teacher = encoder_on_meta(BertConfig(vocab_size=250_000, hidden_size=384, num_attention_heads=12, intermediate_size=1536))
    small = RunConfig.from_mapping(read_yaml(find_configuration("small-cpu")), Language.from_tag("sk")).stages
    proposal = meet_budget(teacher, 6_500_000, small)
    assert proposal.sizes == {"intermediate_size": 384, "vocab_size": 12_000, "hidden_size": 204}
    assert 6_250_000 < proposal.parameters <= 6_500_000
    assert proposal.reasons[0] == "intermediate_size 384: as the configuration has it, of 1536; what is kept is refitted"
    assert proposal.reasons[1] == "vocab_size 12000: the most frequent of 250,000; as the configuration has it"
    assert meet_budget(teacher, 25_000_000, {"trim_vocab": TrimVocab(vocab_size=5_000)}).sizes == {"vocab_size": 5_000}


def test_what_is_cut_is_distilled_also_where_the_hidden_size_can_stay():
    teacher = encoder_on_meta(BertConfig(vocab_size=250_000, hidden_size=384, num_attention_heads=12, intermediate_size=1536))
    small = RunConfig.from_mapping(read_yaml(find_configuration("small-cpu")), Language.from_tag("sk")).stages
    proposal = meet_budget(teacher, 25_000_000, small)
    assert proposal.sizes == {"intermediate_size": 384, "vocab_size": 12_000}
    assert list(proposal.stages) == ["trim_vocab", "prune_ffn", "truncate_hidden"]
    assert proposal.stages["truncate_hidden"].hidden_size == 384
    assert proposal.reasons[-1] == "truncate_hidden cuts nothing: it is there to train what the others have cut"
    assert "truncate_hidden" not in propose_sizes(XLMR, 80 * 10**6, NAMES).stages  # the half of the layers is distilled


def test_what_a_stage_is_compared_with_is_run():
    """Near the teacher's size no token is cut, and there is no `trim_vocab` to distil from or to score."""
    teacher = encoder_on_meta(BertConfig(vocab_size=250_000, hidden_size=384, num_attention_heads=12, intermediate_size=1536))
    mapping = read_yaml(find_configuration("small-cpu"))
    mapping |= {"stages": [*mapping["stages"], "evaluate"], "evaluate": {"models": ["teacher", "trim_vocab", "truncate_hidden"]}}
    small = RunConfig.from_mapping(mapping, Language.from_tag("sk")).stages
    made = meet_budget(teacher, 110_000_000, small).stages
    assert list(made) == ["prune_ffn", "truncate_hidden", "evaluate"]
    assert made["truncate_hidden"].distil_from == "teacher"
    assert made["evaluate"].models == ("teacher", "truncate_hidden")
    assert meet_budget(teacher, 25_000_000, small).stages["truncate_hidden"].distil_from == "trim_vocab"


def test_what_costs_least_is_cut_first():
    made = [list(propose_sizes(XLMR, millions * 10**6).sizes) for millions in (250, 230, 80, 40)]
    order = ["num_hidden_layers", "intermediate_size", "vocab_size", "hidden_size"]
    assert made == [order[:1], order[:2], order[:3], order]


def test_the_vocabulary_of_a_budget_is_a_multiple_where_one_is_asked_for():
    teacher = masked_lm_on_meta(XLMR)
    assert TrimVocab(vocab_size=12_000, pad_to_multiple_of=64).resized(teacher).config.vocab_size == 12_032
    stages = {name: STAGES[name]() for name in NAMES} | {"trim_vocab": TrimVocab(pad_to_multiple_of=48)}
    proposal = meet_budget(teacher, 80 * 10**6, stages)
    assert proposal.sizes["vocab_size"] == 40_032
    assert proposal.parameters == masked_lm_on_meta(changed(XLMR, **proposal.sizes)).num_parameters()


def test_a_stage_that_is_not_there_cuts_nothing():
    assert set(propose_sizes(XLMR, 100 * 10**6, ["trim_vocab", "reduce_layers"]).sizes) <= {"vocab_size", "num_hidden_layers"}


@pytest.mark.parametrize(
    "budget, message", [(300 * 10**6, "nothing to cut"), (10**6, "too small: the smallest model is [0-9,]+ .num_hidden_layers 6")]
)
def test_budgets_that_cannot_be_met(budget, message):
    with pytest.raises(ValueError, match=message):
        propose_sizes(XLMR, budget)


def test_modernbert_gets_half_of_its_layers():
    config = tiny_config("modernbert", num_hidden_layers=6, global_attn_every_n_layers=3, vocab_size=400)
    assert propose_sizes(config, masked_lm_on_meta(config).num_parameters() - 1).sizes == {"num_hidden_layers": 3}


def test_training_memory_grows_by_what_is_trained():
    small, large = (masked_lm_on_meta(BertConfig(vocab_size=30_000, num_hidden_layers=layers)) for layers in (6, 12))
    parameters = small.num_parameters()
    alone, distilled = (training_memory_mb(small, teacher, 8, 128) for teacher in (None, large))
    assert alone * 1e6 > 16 * parameters
    held = 4 * 8 * 128 * (8 * 768 + 2 * 3072)  # by a layer of the teacher
    assert (distilled - alone) * 1e6 == pytest.approx(4 * large.num_parameters() + held)
    compared = training_memory_mb(small, large, 8, 128, depths=7)
    assert (compared - distilled) * 1e6 == pytest.approx(4 * 8 * 128 * 7 * 4 * 768)
    assert training_memory_mb(small, None, 16, 128) > training_memory_mb(small, None, 8, 128)
    without_head = encoder_on_meta(small.config)
    assert training_memory_mb(without_head, None, 8, 128) * 1e6 < alone * 1e6 - 16 * (parameters - without_head.num_parameters())


@pytest.mark.parametrize(
    ("losses", "depths"), [(["mlm", "logits_mse"], 0), (["mlm", "sentence_cosine"], 1), (["hidden_mse", "sentence_cosine"], 7)]
)
def test_states_are_held_at_the_depths_that_are_compared(losses, depths):
    assert compared_depths(losses, num_hidden_layers=6) == depths


def test_activations_are_at_most_what_is_estimated_and_not_far_from_it():
    """Against the tensors that autograd saves, each storage once, without the parameters."""
    config = BertConfig(vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    model = type(masked_lm_on_meta(config))(config)
    own, saved = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.bert.encoder(torch.randn(4, 32, 64, requires_grad=True))
    measured = sum(size for address, (size, _) in saved.items() if address not in own) / 1e6
    estimate = training_memory_mb(model, None, 4, 32) - training_memory_mb(model, None, 0, 32)
    assert measured / 1.5 < estimate < 1.5 * measured


@pytest.mark.parametrize(
    "target, message",
    [
        (["--target_mb", "90", "--target_parameters", "25M"], "not allowed with argument"),
        (["--target_parameters", "many"], "error: 'many' is no number of parameters; give it as 25M or 25_000_000\n"),
    ],
)
def test_the_command_refuses_bad_targets_in_one_line(target, message, capsys):
    with suppress(SystemExit):
        assert main(["compress", "--lang", "sk", "--dry_run", *target]) == 2
    assert message in capsys.readouterr().err
