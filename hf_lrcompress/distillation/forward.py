"""The student's forward pass that returns losses.

The losses must be made inside the student's wrapped forward: that is where DDP watches which parameters are used, and where FSDP
and DeepSpeed have gathered them.
"""

import inspect
from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.loss_table import LOSSES, Comparison, that_need, unit_of
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
    compared = [name for name in args.loss_weights if LOSSES[name].needs_teacher]
    return Wanted(
        features=bool(that_need("features", compared)),
        hidden_states=projections.teacher_states if projections else (),
        attention_layer=args.relation_layer if that_need("attention", compared) else None,
    )


def return_losses(
    student: PreTrainedModel, teacher: PreTrainedModel | None, projections: StateProjections | None, args: DistillationConfig
) -> None:
    """Teach the student's forward the argument `distillation`, with which it returns losses instead of logits.

    `distillation` holds `labels` (-100 where no token is masked), `mask` (False at padding), both of shape `(batch, sequence)`,
    and `teacher`, what was observed of it. In training mode the result is of shape `(losses,)`:
    each of `args.loss_weights`, summed over its units. In eval mode it is of shape `(batch, losses)`, the same for each row; with
    `mlm` among them a last column has how many of the row's masked tokens were predicted.
    """
    plain_forward = student.forward
    wanted = wanted_of_student(args, projections)
    settings: dict[str, Any] = {
        "projections": projections or (),
        "temperature": args.temperature,
        "sentence_pooling": args.sentence_pooling,
        "relation_heads": args.relation_heads or student.config.num_attention_heads,
    }
    if teacher is not None and "logits_mse" in args.loss_weights:
        settings["teacher_gram"] = gram(teacher.get_output_embeddings().weight)

    def forward(
        self: PreTrainedModel, *positional: Any, distillation: dict[str, Any] | None = None, **inputs: torch.Tensor
    ) -> Any:
        if distillation is None:
            return plain_forward(*positional, **inputs)
        on_masked = args.distillation_positions == "masked"
        pair = Comparison(
            **distillation,
            **settings,
            student=observe(self, wanted, **inputs),
            positions=distillation["labels"] != -100 if on_masked else distillation["mask"],
            training=self.training,
        )
        losses = {name: LOSSES[name].compute(pair) for name in args.loss_weights}
        if self.training:
            return torch.stack([values.sum() for values in losses.values()])
        columns = [_row_sums(values, unit_of(name, args.distillation_positions), pair) for name, values in losses.items()]
        if pair.found is not None:
            columns.append(_row_sums(pair.found.float(), "masked_tokens", pair))
        return torch.stack(columns, dim=1)

    taught: Any = student
    taught.forward = MethodType(forward, student)
    taught.forward.__func__.__signature__ = inspect.signature(type(student).forward)  # the Trainer drops data columns by it


def _row_sums(values: torch.Tensor, unit: str, pair: Comparison) -> torch.Tensor:
    """Sums of the values of each row's units: `(units,)` → `(batch,)`."""
    if unit == "sentences":
        return values
    rows = pair.positions_by_unit[unit].nonzero()[:, 0]
    return values.new_zeros(len(pair.mask)).index_add(0, rows, values)
