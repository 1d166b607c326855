"""The losses to distil by, each a row: what it is made of, and what its sum is divided by.

A new loss is a pure function and a row in [`LOSSES`].
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from hf_lrcompress.distillation.feature_losses import (
    hidden_state_cosine,
    hidden_state_mse,
    mean_over_depths,
    mean_pooled,
    self_attention_relations,
)
from hf_lrcompress.distillation.losses import linear_cross_entropy, linear_kl, linear_mse, linear_predictions
from hf_lrcompress.distillation.observing import Observed
from hf_lrcompress.distillation.projections import StateProjections

COUNTED = ("masked_tokens", "tokens", "sentences")
"""What is counted in every batch, in this order."""


@dataclass(kw_only=True)
class Comparison:
    """A batch as student and teacher saw it.

    Args:
        student ([`Observed`]): What was kept of the student's run.
        teacher ([`Observed`], *optional*): What was kept of the teacher's.
        mask (`torch.BoolTensor` of shape `(batch, sequence)`): False at padding.
        labels (`torch.LongTensor` of shape `(batch, sequence)`, *optional*): -100 where no token is masked.
        positions (`torch.BoolTensor` of shape `(batch, sequence)`): The tokens whose logits are compared.
        student_head (`nn.Module`, *optional*): The student's output layer.
        teacher_head (`nn.Module`, *optional*): The teacher's.
        teacher_gram (`torch.Tensor` of shape `(hidden, hidden)`, *optional*): [`gram`] of the teacher's output weight.
        projections ([`StateProjections`], *optional*): From the student's hidden states to the teacher's.
        temperature (`float`, *optional*, defaults to 1.0): Divides the logits of `logits_kl`.
        relation_heads (`int`, *optional*, defaults to 1): Heads of `relations`.
        training (`bool`, *optional*, defaults to `True`): Whether gradients are needed.

    Attributes:
        output_weight (`torch.Tensor`): The student's output weight as the next loss should take it (see [`linear_mse`]).
        found (`torch.BoolTensor` of shape `(masked tokens,)`): Whether each was predicted; there after `mlm` in evaluation.
    """

    student: Observed
    mask: torch.Tensor
    positions: torch.Tensor
    teacher: Observed | None = None
    labels: torch.Tensor | None = None
    student_head: nn.Module | None = None
    teacher_head: nn.Module | None = None
    teacher_gram: torch.Tensor | None = None
    projections: StateProjections | None = None
    temperature: float = 1.0
    relation_heads: int = 1
    training: bool = True

    def __post_init__(self):
        self.output_weight = None if self.student_head is None else self.student_head.weight
        self.found: torch.Tensor | None = None

    @cached_property
    def predicted_states(self) -> list[torch.Tensor]:
        """At every depth the teacher's states as the student's predict them, centred: shape `(tokens, hidden)`."""
        return [project(states[self.mask]) for project, states in zip(self.projections, self.student.hidden_states, strict=True)]

    @cached_property
    def teacher_states(self) -> list[torch.Tensor]:
        """At every depth the teacher's states, centred: shape `(tokens, hidden)`."""
        pairs = zip(self.projections, self.teacher.hidden_states, strict=True)
        return [projection.centred(states[self.mask]) for projection, states in pairs]

    @cached_property
    def positions_by_unit(self) -> dict[str, torch.Tensor]:
        """Where the tokens of each unit stand: `torch.BoolTensor` of shape `(batch, sequence)`."""
        where = {"tokens": self.mask, "positions": self.positions}
        return where if self.labels is None else where | {"masked_tokens": self.labels != -100}


@dataclass(frozen=True)
class Loss:
    """A row of [`LOSSES`].

    Args:
        compute (`Callable`): [`Comparison`] → the losses of shape `(units,)`, or their sum.
        needs (`str`): What it needs of a model: `"features"`, `"hidden_states"` or `"attention"`.
        mean_over (`str`): What a unit is and the sum divided by: `"masked_tokens"`, `"tokens"`, `"sentences"`, or `"positions"`,
            the tokens that `distillation_positions` names.
        over_vocabulary (`bool`, *optional*, defaults to `False`): Whether the sum is divided by the vocabulary's size too.
        needs_teacher (`bool`, *optional*, defaults to `True`): Whether it compares with a teacher.
    """

    compute: Callable[[Comparison], torch.Tensor]
    needs: str
    mean_over: str
    over_vocabulary: bool = False
    needs_teacher: bool = True


def _logits_mse(pair: Comparison) -> torch.Tensor:
    student, teacher = pair.student_head, pair.teacher_head
    features = pair.student.features[pair.positions]
    targets = pair.teacher.features[pair.positions]
    losses, pair.output_weight = linear_mse(
        features, student.weight, student.bias, targets, teacher.weight, teacher.bias, pair.teacher_gram
    )
    return losses


def _logits_kl(pair: Comparison) -> torch.Tensor:
    student, teacher = pair.student_head, pair.teacher_head
    features = pair.student.features[pair.positions]
    targets = pair.teacher.features[pair.positions]
    return linear_kl(features, student.weight, student.bias, targets, teacher.weight, teacher.bias, pair.temperature)


def _masked_lm(pair: Comparison) -> torch.Tensor:
    masked = pair.positions_by_unit["masked_tokens"]
    inputs = pair.student.features[masked], pair.output_weight, pair.student_head.bias, pair.labels[masked]
    if pair.training:
        return linear_cross_entropy(*inputs)
    losses, pair.found = linear_predictions(*inputs)
    return losses


def _relations(pair: Comparison) -> torch.Tensor:
    return self_attention_relations(pair.student.attention, pair.teacher.attention, pair.mask, pair.relation_heads)


def _hidden_cosine(pair: Comparison) -> torch.Tensor:
    states = zip(pair.predicted_states, pair.teacher_states, strict=True)
    return mean_over_depths([hidden_state_cosine(student, teacher) for student, teacher in states])


def _hidden_mse(pair: Comparison) -> torch.Tensor:
    """Over the variance of the teacher's states: the share of it that the student does not explain."""
    states = zip(pair.predicted_states, pair.teacher_states, pair.projections, strict=True)
    return mean_over_depths([hidden_state_mse(student, teacher) / each.teacher_variance for student, teacher, each in states])


def _sentence_cosine(pair: Comparison) -> torch.Tensor:
    project = pair.projections[-1]
    student = project(mean_pooled(pair.student.hidden_states[-1], pair.mask))
    teacher = project.centred(mean_pooled(pair.teacher.hidden_states[-1], pair.mask))
    return hidden_state_cosine(student, teacher)


LOSSES = {
    # Before `mlm`, which takes its output weight.
    "logits_mse": Loss(_logits_mse, needs="features", mean_over="positions", over_vocabulary=True),
    "logits_kl": Loss(_logits_kl, needs="features", mean_over="positions"),
    "mlm": Loss(_masked_lm, needs="features", mean_over="masked_tokens", needs_teacher=False),
    "relations": Loss(_relations, needs="attention", mean_over="tokens"),
    "hidden_cosine": Loss(_hidden_cosine, needs="hidden_states", mean_over="tokens"),
    "hidden_mse": Loss(_hidden_mse, needs="hidden_states", mean_over="tokens"),
    "sentence_cosine": Loss(_sentence_cosine, needs="hidden_states", mean_over="sentences"),
}


def that_need(what: str, names: Iterable[str]) -> list[str]:
    """Those of the named losses that need `what` of a model."""
    return [name for name in names if LOSSES[name].needs == what]


def unit_of(name: str, distillation_positions: str) -> str:
    """One of [`COUNTED`]: what a loss is the mean over."""
    unit = LOSSES[name].mean_over
    if unit == "positions":
        return "masked_tokens" if distillation_positions == "masked" else "tokens"
    return unit
