"""Affine maps from a student's hidden states to its teacher's, which start as the least-squares maps.

They are part of the training and not of the student: parameters of it while it trains, in its checkpoints under a name of their
own, and in no saved model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

RIDGE = 1e-3
"""Added to the student's covariance, as a part of its mean variance, before it is inverted."""

TOKENS_PER_DIMENSION = 64
"""Tokens that a least-squares map is made from, for each dimension of the student."""

NAME = "distillation_projections"


class StateProjection(nn.Module):
    """An affine map from student states to teacher states, both taken from their means when the training began.

    Args:
        student_size (`int`): Hidden size of the student.
        teacher_size (`int`): Hidden size of the teacher.
    """

    student_mean: torch.Tensor
    teacher_mean: torch.Tensor
    teacher_variance: torch.Tensor

    def __init__(self, student_size: int, teacher_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(teacher_size, student_size))
        self.bias = nn.Parameter(torch.zeros(teacher_size))
        self.register_buffer("student_mean", torch.zeros(student_size))
        self.register_buffer("teacher_mean", torch.zeros(teacher_size))
        self.register_buffer("teacher_variance", torch.ones(()))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """What a student's states say of the teacher's, less the teacher's mean: `(…, student)` → `(…, teacher)`."""
        return F.linear((states - self.student_mean).to(self.weight.dtype), self.weight, self.bias)

    def centred(self, states: torch.Tensor) -> torch.Tensor:
        """The teacher's own states less their mean: the same shape, in fp32."""
        return states.float() - self.teacher_mean


class StateProjections(nn.ModuleList):
    """A [`StateProjection`] for each pair of hidden states that are compared.

    Args:
        student_states (`tuple[int, ...]`): Which hidden states of the student: 0 after the embeddings, i after layer i.
        teacher_states (`tuple[int, ...]`): The teacher's hidden state that each is compared with.
        student_size (`int`): Hidden size of the student.
        teacher_size (`int`): Hidden size of the teacher.
    """

    def __init__(
        self, student_states: tuple[int, ...], teacher_states: tuple[int, ...], student_size: int, teacher_size: int
    ) -> None:
        super().__init__(StateProjection(student_size, teacher_size) for _ in student_states)
        self.student_states = student_states
        self.teacher_states = teacher_states


def same_relative_depth(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """For each hidden state i of a student the teacher's at round(i · teacher's layers / student's layers)."""
    return tuple(round(i * teacher_layers / student_layers) for i in range(student_layers + 1))


@contextmanager
def part_of(student: PreTrainedModel, projections: StateProjections | None) -> Iterator[None]:
    """Make the projections parameters of the student, where optimisers, DDP and FSDP find them, but never save them with it."""
    if projections is None or getattr(student, NAME, None) is projections:
        yield
        return
    ignored: Any = student._keys_to_ignore_on_save
    names = {f"{NAME}.{name}" for name in projections.state_dict()}
    setattr(student, NAME, projections)
    unsaved: Any = names | set(ignored or ())
    student._keys_to_ignore_on_save = unsaved
    try:
        yield
    finally:
        delattr(student, NAME)
        student._keys_to_ignore_on_save = ignored


class StateMoments:
    """Means and covariances of student and teacher states side by side, added up batch by batch.

    Args:
        student_size (`int`): Hidden size of the student.
    """

    def __init__(self, student_size: int) -> None:
        self.student_size = student_size
        self.count = 0
        self.shift = torch.empty(0)  # near the mean, so that products of differences keep their digits

    def add(self, student: torch.Tensor, teacher: torch.Tensor) -> None:
        """Add states of the same tokens: shapes `(tokens, student's size)` and `(tokens, teacher's size)`."""
        both = torch.cat([student.float(), teacher.float()], dim=1)
        if not self.count:
            self.shift = both.mean(dim=0)
            self.sums = torch.zeros_like(self.shift)
            self.products = both.new_zeros(both.shape[1], both.shape[1])
        both -= self.shift
        self.count += len(both)
        self.sums += both.sum(dim=0)
        self.products += both.T @ both

    def least_squares(self, ridge: float = RIDGE) -> dict[str, torch.Tensor]:
        r"""The state of the [`StateProjection`] that predicts the teacher's states best.

        W = (C_ss + ridge · tr(C_ss)/d · I)⁻¹ C_st, with C_ss the covariance of the student's d dimensions and C_st that of the
        student's with the teacher's; the means are not shrunk. Solved in fp64 on the CPU.
        """
        d = self.student_size
        shift_to_mean = self.sums.cpu().double() / self.count
        covariance = self.products.cpu().double() / self.count - torch.outer(shift_to_mean, shift_to_mean)
        within = covariance[:d, :d]
        diagonal = (ridge * within.diagonal().mean()).clamp(min=1e-12) * torch.eye(d, dtype=torch.float64)
        weight = torch.linalg.solve(within + diagonal, covariance[:d, d:]).T
        mean = self.shift.cpu() + shift_to_mean
        return {
            "weight": weight.float().contiguous(),
            "bias": torch.zeros(len(weight)),
            "student_mean": mean[:d].float(),
            "teacher_mean": mean[d:].float(),
            "teacher_variance": covariance.diagonal()[d:].mean().float(),
        }


def least_squares_start(moments: Sequence[StateMoments]) -> dict[str, torch.Tensor]:
    """The state of [`StateProjections`] made of one [`StateMoments`] for each."""
    return {f"{i}.{name}": tensor for i, each in enumerate(moments) for name, tensor in each.least_squares().items()}
