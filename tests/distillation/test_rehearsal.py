"""Training arguments that would fail, or train nothing, after hours of other work are found before it."""

import pytest

from hf_lrcompress.distillation.rehearsal import rehearse
from hf_lrcompress.stages.training_arguments import training_arguments

WRONG = [
    ({"learning_rate": float("nan")}, "learning_rate must be a finite number, got nan"),
    ({"learning_rate": float("inf")}, "learning_rate must be a finite number, got inf"),
    ({"num_train_epochs": float("inf")}, "num_train_epochs must be a finite number, got inf"),
    ({"learning_rate": -1.0}, "learning rate"),
    ({"adam_beta1": 2.0}, "beta"),
    ({"adam_epsilon": -1.0}, "epsilon"),
    ({"weight_decay": float("nan")}, "weight_decay must be a finite number, got nan"),
    ({"optim_args": "zzz"}, "the training cannot begin"),
    ({"dataloader_num_workers": -1}, "dataloader_num_workers must be 0 or more, got -1"),
    ({"max_grad_norm": -1.0}, "max_grad_norm must be 0 or more"),
    ({"lr_scheduler_kwargs": {"a": 1}}, "the training cannot begin.*'a'"),
    ({"save_strategy": "best"}, "save_strategy best needs metric_for_best_model"),
    ({"metric_for_best_model": "accuracy"}, "must be one of loss, mlm_accuracy, logits_mse_loss, mlm_loss, got 'accuracy'"),
    (
        {"metric_for_best_model": "eval_mlm_accuracy", "losses": {"relations": 1.0}},
        "must be one of loss, relations_loss, got 'eval_mlm_accuracy'",
    ),
    ({"num_train_epochs": -1.0}, "num_train_epochs is -1, so nothing would be trained"),
    ({"num_train_epochs": 0.0}, "nothing would be trained"),
    ({"report_to": "nosuch"}, "nosuch"),
    ({"max_steps": 5, "head_steps": 5}, "head_steps=5, but the training has 5 steps: the encoder is never trained; give fewer"),
    ({"save_only_model": True}, "save_only_model is no setting; a stage goes on from its checkpoints"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_arguments_that_fail_later_are_refused_now(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message) as refusal:
        rehearse(training_arguments(settings, str(tmp_path), 42))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_steps": 5, "num_train_epochs": 0.0},
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}},
        {"max_grad_norm": float("inf")},
        {"metric_for_best_model": "eval_mlm_accuracy"},
        {"metric_for_best_model": "logits_mse_loss"},
    ],
    ids=["none", "steps alone", "schedule", "no clipping", "accuracy", "a loss"],
)
def test_good_arguments_pass_and_leave_no_file(tmp_path, settings):
    rehearse(training_arguments(settings, str(tmp_path / "out"), 42))
    assert not list(tmp_path.iterdir())


def test_a_log_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    arguments = training_arguments({}, str(tmp_path), 42)
    arguments.report_to = ["tensorboard"]
    arguments.logging_dir = str(tmp_path / "file" / "logs")
    with pytest.raises(ValueError, match="logging_dir .* cannot be written to"):
        rehearse(arguments)
