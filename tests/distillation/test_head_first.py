import copy

import pytest
import torch
from conftest import tiny_model
from tiny_trainers import history, make_trainer, random_rows
from transformers import TrainerCallback

from hf_lrcompress import reduce_layers

SETTINGS = {"alpha": 1.0, "head_steps": 3, "max_steps": 8, "warmup_steps": 2, "weight_decay": 0.1}


@pytest.fixture
def student():
    return reduce_layers(tiny_model("xlm-roberta"), [1, 3])


@pytest.fixture(scope="module")
def dataset():
    return random_rows(8)


class KeepWeights(TrainerCallback):
    """The weights and learning rates after each step."""

    def __init__(self):
        self.weights, self.rates = [], []

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append({group["encoder"]: group["lr"] for group in optimizer.param_groups if group["params"]})

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append({name: parameter.detach().clone() for name, parameter in model.named_parameters()})


def test_only_the_head_moves_at_first(student, dataset, tmp_path):
    before = copy.deepcopy(dict(student.named_parameters()))
    trainer, kept = make_trainer(student, None, dataset, tmp_path, **SETTINGS), KeepWeights()
    trainer.add_callback(kept)
    trainer.train()
    moved = [{name for name in before if not torch.equal(before[name], weights[name])} for weights in kept.weights]
    head = {name for name in before if name.startswith("lm_head.") and name != "lm_head.decoder.weight"}
    assert head and student.lm_head.decoder.weight is student.roberta.embeddings.word_embeddings.weight
    assert moved[0] == set()  # of the run's first step the warm-up makes nothing, as always
    assert moved[1] == moved[2] == head
    assert moved[3] == head  # the encoder's own warm-up begins
    assert moved[-1] > head and any("layer.0" in name for name in moved[4])


def test_the_encoder_follows_the_schedule_of_a_run_that_begins_later(student, dataset, tmp_path):
    trainer, kept = make_trainer(student, None, dataset, tmp_path, **SETTINGS), KeepWeights()
    trainer.add_callback(kept)
    trainer.train()
    encoder, head = ([rates[of_encoder] / 1e-3 for rates in kept.rates] for of_encoder in (True, False))
    assert encoder == pytest.approx([0, 0, 0, 0, 1 / 2, 1, 2 / 3, 1 / 3])  # 5 steps, 2 of them warm-up
    assert head == pytest.approx([0, 1 / 2, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize("step", [2, 5])
def test_a_resumed_run_is_the_uninterrupted_one(student, dataset, tmp_path, step):
    settings = SETTINGS | {"save_strategy": "steps", "save_steps": 1}
    whole = make_trainer(copy.deepcopy(student), None, dataset, tmp_path, **settings)
    whole.train()
    resumed = make_trainer(student, None, dataset, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert history(resumed, "loss") == history(whole, "loss")
    for mine, other in zip(student.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_projections_learn_with_the_head(dataset, tmp_path):
    teacher = tiny_model("bert")
    student = reduce_layers(teacher, [1, 3])
    before = copy.deepcopy(student.base_model.state_dict())
    losses = {"mlm": 1.0, "hidden_mse": 1.0}
    trainer = make_trainer(student, teacher, dataset, tmp_path, losses=losses, head_steps=4, max_steps=4)
    trainer.start_projections()
    start = copy.deepcopy(trainer.projections.state_dict())
    trainer.train()
    assert not torch.equal(trainer.projections[0].weight, start["0.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.base_model.state_dict().items())


def test_what_head_steps_cannot_do_is_refused(student, dataset, tmp_path):
    with pytest.raises(ValueError, match="head_steps=3, but XLMRobertaModel has no head"):
        losses = {"hidden_cosine": 1.0}
        make_trainer(student.base_model, tiny_model("xlm-roberta"), dataset, tmp_path, losses=losses, head_steps=3)
    trainer = make_trainer(copy.deepcopy(student), None, dataset, tmp_path, **SETTINGS)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="head_steps needs an optimizer that the Trainer makes"):
        trainer.train()
    trainer = make_trainer(
        student, None, dataset, tmp_path, **SETTINGS, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch"
    )
    with pytest.raises(ValueError, match="head_steps needs a schedule that depends on the step alone"):
        trainer.train()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"max_steps": 4, "head_steps": 4, "warmup_steps": 1},
            "head_steps=4, but the training has 4 steps: the encoder is never",
        ),
        ({"max_steps": 4, "head_steps": 0, "warmup_steps": 4}, "the warm-up is 4 steps, the whole training 4: the learning rate"),
        ({"max_steps": 4, "head_steps": 3, "warmup_steps": 3}, None),
    ],
)
def test_a_training_too_short_for_what_it_begins_with_says_so(student, dataset, tmp_path, caplog, settings, said):
    make_trainer(student, None, dataset, tmp_path, **SETTINGS | settings).train()
    assert [record.getMessage().startswith(said) for record in caplog.records] == [True] if said else not caplog.records
