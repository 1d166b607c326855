"""The student's forward pass that returns losses.

The losses must be made inside the student's wrapped forward: that is where DDP watches which parameters are used, and where FSDP
and DeepSpeed have gathered them.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.loss_table import LOSSES, OF_ROWS, Comparison, that_need, unit_of
from hf_lrcompress.distillation.losses import gram
from hf_lrcompress.distillation.observing import Wanted, observe
from hf_lrcompress.distillation.projections import StateProjections


def wanted_of_student(args: DistillationConfig, projections: StateProjections | None) -> Wanted:
    """What the losses need of the student; relations are those of its last layer."""
    return Wanted(
        features=bool(that_need("features", args.loss_weights)),
        hidden_states=projections.student_states if projections else (),
        attention_layer=-1 if that_need("attention", args.loss_weights) else None,
    )


def wanted_of_teacher(args: DistillationConfig, projections: StateProjections | None) -> Wanted:
    """What the losses need of the teacher."""
    return Wanted(
        features=bool(that_need("features", args.compared)),
        hidden_states=projections.teacher_states if projections else (),
        attention_layer=args.relation_layer if that_need("attention", args.compared) else None,
    )


@dataclass(frozen=True)
class LossesOfTraining:
    """What one training's losses are made with. It goes into every call of the student's forward, and nothing of it stays there.

    Args:
        args ([`DistillationConfig`]): The losses and their settings.
        wanted ([`Wanted`]): What they need of the student.
        projections ([`StateProjections`], *optional*): Between the hidden states that are compared.
        relation_heads (`int`): Heads that `relations` splits queries, keys and values into.
        teacher_gram (`torch.Tensor`, *optional*): Of the teacher's output layer, see [`gram`].
    """

    args: DistillationConfig
    wanted: Wanted
    projections: StateProjections | None
    relation_heads: int
    teacher_gram: torch.Tensor | None

    @classmethod
    def between(
        cls,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        projections: StateProjections | None,
        args: DistillationConfig,
    ) -> "LossesOfTraining":
        """Those of a student and its teacher."""
        teacher_gram = None
        if teacher is not None and "logits_mse" in args.loss_weights:
            teacher_gram = gram(teacher.get_output_embeddings().weight)
        return cls(
            args=args,
            wanted=wanted_of_student(args, projections),
            projections=projections,
            relation_heads=args.relation_heads or student.config.num_attention_heads,
            teacher_gram=teacher_gram,
        )

    def compute(self, student: PreTrainedModel, batch: Mapping[str, Any], **inputs: torch.Tensor) -> torch.Tensor:
        """Run the student and compare.

        Args:
            student ([`~transformers.PreTrainedModel`]): The student.
            batch (`Mapping`): `labels` (-100 where no token is masked), `mask` (False at padding), both of shape
                `(batch, sequence)`, and `teacher`, what was observed of it.
            inputs (`torch.Tensor`): What the student's forward takes.

        Returns:
            `torch.Tensor`: In training mode of shape `(losses,)`: each of `args.loss_weights`, summed over its units. In eval
                mode of shape `(batch, losses)`, the same for each row; with `mlm` among them a last column has how many of the
                row's masked tokens were predicted.
        """
        on_masked = self.args.distillation_positions == "masked"
        projections: Any = self.projections
        pair = Comparison(
            **batch,
            student=observe(student, self.wanted, **inputs),
            positions=batch["labels"] != -100 if on_masked else batch["mask"],
            training=student.training,
            projections=projections or (),
            temperature=self.args.temperature,
            sentence_pooling=self.args.sentence_pooling,
            relation_heads=self.relation_heads,
            teacher_gram=self.teacher_gram,
        )
        losses = {name: LOSSES[name].compute(pair) for name in self.args.loss_weights}
        if student.training:
            return torch.stack([values.sum() for values in losses.values()])
        units = {name: unit_of(name, self.args.distillation_positions) for name in losses}
        columns = [_row_sums(values, units[name], pair) for name, values in losses.items()]
        if pair.found is not None:
            columns.append(_row_sums(pair.found.float(), "masked_tokens", pair))
        return torch.stack(columns, dim=1)


def accept_losses(student: PreTrainedModel) -> None:
    """Let the student's forward take `losses` and `batch`, with which it returns what [`LossesOfTraining.compute`] does.

    Without them it is the forward of its class. It keeps nothing of the training: copies of the student have their own weights,
    and several trainings can share one student.
    """
    if hasattr(inspect.unwrap(student.forward), "accepts_losses"):  # perhaps within accelerate's wrapper
        return

    def forward(
        self: PreTrainedModel,
        *positional: Any,
        losses: LossesOfTraining | None = None,
        batch: Mapping[str, Any] | None = None,
        **inputs: torch.Tensor,
    ) -> Any:
        if losses is None or batch is None:
            return type(self).forward(self, *positional, **inputs)
        return losses.compute(self, batch, **inputs)

    taught: Any = student
    taught.forward = MethodType(forward, student)
    function: Any = forward
    function.accepts_losses = True
    function.__signature__ = inspect.signature(type(student).forward)  # the Trainer drops data columns by it


def _row_sums(values: torch.Tensor, unit: str, pair: Comparison) -> torch.Tensor:
    """Sums of the values of each row's units: `(units,)` → `(batch,)`."""
    if unit in OF_ROWS:
        return values
    rows = pair.positions_by_unit[unit].nonzero()[:, 0]
    return values.new_zeros(len(pair.mask)).index_add(0, rows, values)
