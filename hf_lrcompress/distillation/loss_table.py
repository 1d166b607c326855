"""The losses to distil by, each a row: what it is made of, and what its sum is divided by.

A new loss is a pure function and a row in [`LOSSES`].
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from hf_lrcompress.distillation.cross_entropy import linear_cross_entropy
from hf_lrcompress.distillation.feature_losses import (
    FEWEST_COMPARED,
    hidden_state_cosine,
    hidden_state_mse,
    mean_over_depths,
    pooled,
    self_attention_relations,
    similarity_disagreement,
)
from hf_lrcompress.distillation.kl_divergence import linear_kl
from hf_lrcompress.distillation.losses import linear_mse, linear_predictions
from hf_lrcompress.distillation.observing import Observed
from hf_lrcompress.distillation.projections import StateProjection

OF_ROWS = ("sentences", "compared_sentences")
COUNTED = ("masked_tokens", "tokens", *OF_ROWS)
"""What is counted in every batch, in this order; sentences are compared in batches of [`FEWEST_COMPARED`] or more."""


@dataclass(kw_only=True)
class Comparison:
    """A batch as student and teacher saw it.

    Args:
        student ([`Observed`]): What was kept of the student's run.
        teacher ([`Observed`]): What was kept of the teacher's; nothing where there is none.
        mask (`torch.BoolTensor` of shape `(batch, sequence)`): False at padding.
        labels (`torch.LongTensor` of shape `(batch, sequence)`): -100 where no token is masked.
        positions (`torch.BoolTensor` of shape `(batch, sequence)`): The tokens whose logits are compared.
        teacher_gram (`torch.Tensor` of shape `(features, features)`, *optional*): [`gram`] of the teacher's output weight.
        projections (`Sequence` of [`StateProjection`], *optional*): From the student's hidden states to the teacher's.
        temperature (`float`, *optional*, defaults to 1.0): Divides the logits of `logits_kl`.
        relation_heads (`int`, *optional*, defaults to 1): Heads of `relations`.
        sentence_pooling (`str`, *optional*, defaults to `"mean"`): How [`pooled`] makes a sentence's vector.
        training (`bool`, *optional*, defaults to `True`): Whether gradients are needed.

    Attributes:
        output_weight (`torch.Tensor`): The student's output weight as the next loss should take it (see [`linear_mse`]).
        found (`torch.BoolTensor` of shape `(masked tokens,)`): Whether each was predicted; there after `mlm` in evaluation.
    """

    student: Observed
    teacher: Observed
    mask: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    teacher_gram: torch.Tensor | None = None
    projections: Sequence[StateProjection] = ()
    temperature: float = 1.0
    relation_heads: int = 1
    sentence_pooling: str = "mean"
    training: bool = True

    def __post_init__(self) -> None:
        self.output_weight = self.student.output_weight
        self.found: torch.Tensor | None = None
        self._rows: dict[str, torch.Tensor] = {}

    @cached_property
    def predicted_states(self) -> list[torch.Tensor]:
        """At every depth the teacher's states as the student's predict them, centred: shape `(tokens, hidden)`."""
        pairs = zip(self.projections, self.student.hidden_states, strict=True)
        return [project(_rows_of(states, self.rows("tokens"))) for project, states in pairs]

    @cached_property
    def teacher_states(self) -> list[torch.Tensor]:
        """At every depth the teacher's states, centred: shape `(tokens, hidden)`."""
        pairs = zip(self.projections, self.teacher.hidden_states, strict=True)
        return [projection.centred(_rows_of(states, self.rows("tokens"))) for projection, states in pairs]

    @cached_property
    def sentence_states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The student's and the teacher's pooled last states: each of shape `(batch, hidden)`."""
        student = pooled(self.student.hidden_states[-1], self.mask, self.sentence_pooling)
        teacher = pooled(self.teacher.hidden_states[-1], self.mask, self.sentence_pooling)
        return student, teacher

    @cached_property
    def positions_by_unit(self) -> dict[str, torch.Tensor]:
        """Where the tokens of each unit stand: `torch.BoolTensor` of shape `(batch, sequence)`."""
        return {"masked_tokens": self.labels != -100, "tokens": self.mask, "positions": self.positions}

    def rows(self, unit: str) -> torch.Tensor:
        """The same for one unit as indices, found once for all that is taken there: `torch.LongTensor` of shape `(units,)`."""
        if unit not in self._rows:
            self._rows[unit] = self.positions_by_unit[unit].flatten().nonzero()[:, 0]
        return self._rows[unit]


@dataclass(frozen=True)
class Loss:
    """A row of [`LOSSES`].

    Args:
        compute (`Callable`): [`Comparison`] → the losses of shape `(units,)`, or their sum.
        needs (`str`): What it needs of a model: `"features"`, `"hidden_states"` or `"attention"`.
        mean_over (`str`): What a unit is and the sum divided by: one of [`COUNTED`], or `"positions"`, the
            tokens that `distillation_positions` names.
        over_vocabulary (`bool`, *optional*, defaults to `False`): Whether the sum is divided by the vocabulary's size too.
        needs_teacher (`bool`, *optional*, defaults to `True`): Whether it compares with a teacher.
        last_state_only (`bool`, *optional*, defaults to `False`): Of hidden states it compares the last one only.
        projects (`bool`, *optional*, defaults to `True`): Whether hidden states are projected to the teacher's size.
        least_sentences (`int`, *optional*, defaults to 1): Sentences that a batch needs: more than 1 where it compares them.
        settings (`tuple[str, ...]`, *optional*): The arguments of a [`DistillationConfig`] that it reads.
    """

    compute: Callable[[Comparison], torch.Tensor]
    needs: str
    mean_over: str
    over_vocabulary: bool = False
    needs_teacher: bool = True
    last_state_only: bool = False
    projects: bool = True
    least_sentences: int = 1
    settings: tuple[str, ...] = ()


def _rows_of(states: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Some tokens' vectors: `(batch, sequence, size)` → `(tokens, size)`."""
    return states.flatten(0, 1).index_select(0, rows)


def _logits_of(pair: Comparison, seen: Observed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """What a model's logits are made of where they are compared: features, weight and bias."""
    return _rows_of(seen.features, pair.rows("positions")), seen.output_weight, seen.output_bias


def _logits_mse(pair: Comparison) -> torch.Tensor:
    student = _logits_of(pair, pair.student)
    teacher = _logits_of(pair, pair.teacher)
    losses, pair.output_weight = linear_mse(*student, *teacher, pair.teacher_gram)
    return losses


def _logits_kl(pair: Comparison) -> torch.Tensor:
    student = _logits_of(pair, pair.student)
    teacher = _logits_of(pair, pair.teacher)
    return linear_kl(*student, *teacher, pair.temperature)


def _masked_lm(pair: Comparison) -> torch.Tensor:
    masked = pair.rows("masked_tokens")
    features = _rows_of(pair.student.features, masked)
    labels = pair.labels.flatten().index_select(0, masked)
    if pair.training:
        return linear_cross_entropy(features, pair.output_weight, pair.student.output_bias, labels)
    losses, pair.found = linear_predictions(features, pair.output_weight, pair.student.output_bias, labels)
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
    student, teacher = pair.sentence_states
    return hidden_state_cosine(project(student), project.centred(teacher))


def _sentence_similarity(pair: Comparison) -> torch.Tensor:
    return similarity_disagreement(*pair.sentence_states)


LOSSES = {
    # Before `mlm`, which takes its output weight.
    "logits_mse": Loss(
        _logits_mse, needs="features", mean_over="positions", over_vocabulary=True, settings=("distillation_positions",)
    ),
    "logits_kl": Loss(_logits_kl, needs="features", mean_over="positions", settings=("distillation_positions", "temperature")),
    "mlm": Loss(_masked_lm, needs="features", mean_over="masked_tokens", needs_teacher=False),
    "relations": Loss(_relations, needs="attention", mean_over="tokens", settings=("relation_heads", "relation_layer")),
    "hidden_cosine": Loss(_hidden_cosine, needs="hidden_states", mean_over="tokens", settings=("hidden_layers",)),
    "hidden_mse": Loss(_hidden_mse, needs="hidden_states", mean_over="tokens", settings=("hidden_layers",)),
    "sentence_cosine": Loss(
        _sentence_cosine,
        needs="hidden_states",
        mean_over="sentences",
        last_state_only=True,
        settings=("hidden_layers", "sentence_pooling"),
    ),
    "sentence_similarity": Loss(
        _sentence_similarity,
        needs="hidden_states",
        mean_over="compared_sentences",
        last_state_only=True,
        projects=False,
        least_sentences=FEWEST_COMPARED,
        settings=("hidden_layers", "sentence_pooling"),
    ),
}

READ_BY_LOSSES = frozenset(setting for loss in LOSSES.values() for setting in loss.settings)
"""The arguments of a [`DistillationConfig`] that are there for single losses."""


def that_read(setting: str) -> list[str]:
    """The losses that read an argument of a [`DistillationConfig`]."""
    return [name for name, loss in LOSSES.items() if setting in loss.settings]


def that_need(what: str, names: Iterable[str]) -> list[str]:
    """Those of the named losses that need `what` of a model."""
    return [name for name in names if LOSSES[name].needs == what]


def compared_depths(names: Iterable[str], num_hidden_layers: int) -> int:
    """At how many depths the named losses compare hidden states: at the embeddings and all layers, at the last, or at none."""
    last_only = [LOSSES[name].last_state_only for name in that_need("hidden_states", names)]
    if not last_only:
        return 0
    return 1 if all(last_only) else num_hidden_layers + 1


def that_compare_sentences(names: Iterable[str]) -> list[str]:
    """Those of the named losses that compare the sentences of a batch with each other."""
    return [name for name in names if LOSSES[name].least_sentences > 1]


def unit_of(name: str, distillation_positions: str) -> str:
    """One of [`COUNTED`]: what a loss is the mean over."""
    unit = LOSSES[name].mean_over
    if unit == "positions":
        return "masked_tokens" if distillation_positions == "masked" else "tokens"
    return unit
