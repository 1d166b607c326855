"""What a study will take: the trainings of its points, what is shared, and how long that is by an estimate."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hf_lrcompress.distillation.grouping import lengths_of
from hf_lrcompress.machine import computes_in_bf16
from hf_lrcompress.run.preparation import PreparedRun
from hf_lrcompress.run.stage_record import StageRecord
from hf_lrcompress.studies.points import PlannedPoint
from hf_lrcompress.tables import Columns, escaped, make_table

FORWARD_AND_BACKWARD = 6
FORWARD = 2
"""Floating point operations a token and parameter of a matrix."""
PROBE = 1024
"""Rows of the matrices that the machine's speed is measured with."""


@dataclass(frozen=True)
class Training:
    """What a stage trains.

    Args:
        steps (`int`): Optimiser steps.
        tokens (`int`): Tokens of all of them.
        operations (`float`): Floating point operations, roughly: of student and teacher, at every token.
    """

    steps: int
    tokens: int
    operations: float


def trainings_of(prepared: PreparedRun) -> dict[str, Training]:
    """What the stages of a run train, by the directory of the stage; reads and tokenises the training text."""
    inputs = prepared.inputs
    found = {}
    parameters = {planned.name: _multiplied(prepared, position) for position, planned in enumerate(prepared.plan)}
    for position, planned in enumerate(prepared.plan):
        arguments = planned.stage.arguments(inputs, ".") if planned.stage else None
        if planned.stage is None or arguments is None:
            continue
        batch = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
        steps = arguments.max_steps
        is_read = steps <= 0 or (inputs.examples == "documents" and not inputs.train.streaming)
        examples: Any = inputs.training_examples(inputs.train, inputs.tokenizer) if is_read else None
        if steps <= 0:
            steps = math.ceil(math.ceil(len(examples) / batch) * arguments.num_train_epochs)
        parent = prepared.plan[prepared.parent_of(position)].name
        teacher = planned.stage.teacher(parent, inputs) if arguments.needs_teacher else None
        each = FORWARD_AND_BACKWARD * parameters[planned.name] + FORWARD * (parameters[teacher] if teacher else 0)
        lengths = lengths_of(examples)  # of documents; blocks are all of one length, and of a stream nothing is known
        tokens = round(steps * batch * (inputs.block_size if lengths is None else lengths.float().mean().item()))
        found[planned.directory] = Training(steps, tokens, float(each * tokens))
    return found


def _multiplied(prepared: PreparedRun, position: int) -> int:
    """Parameters of a model that are multiplied with: not the embeddings, where no logits are made of them."""
    planned = prepared.plan[position]
    embeddings = planned.model_config.vocab_size * planned.model_config.hidden_size
    return planned.parameters - (embeddings if prepared.inputs.objective == "representation" else 0)


def describe(
    planned: Sequence[PlannedPoint], trainings: Mapping[str, Training], complete: Mapping[str, Path], finished: Iterable[str]
) -> str:
    """A row a point: the stages it makes, those it shares with others, its steps, tokens and time.

    Args:
        planned (`Sequence[PlannedPoint]`): The points.
        trainings (`Mapping[str, Training]`): What stages train, by fingerprint.
        complete (`Mapping[str, Path]`): The stages that are there already, by fingerprint.
        finished (`Iterable[str]`): Fingerprints of the points that are finished.
    """
    speed, source = _speed(trainings, complete)
    done = set(finished)
    made = dict.fromkeys(complete, "there")
    rows = []
    for point in planned:
        names = {fingerprint: directory.partition("-")[2] for directory, fingerprint in list(point.stages.items())[1:]}
        is_done = point.fingerprint in done
        own = [] if is_done else [stage for stage in names if stage not in made]
        work = [trainings[stage] for stage in own if stage in trainings]
        makers = {made[stage]: name for stage, name in names.items() if stage in made}  # the last of each
        row: dict[str, Any] = {"point": point.point.name}
        row["makes"] = "finished" if is_done else ", ".join(names[stage] for stage in own)
        row["shares"] = ", ".join(f"to {name}: {maker}" for maker, name in makers.items())
        row["steps"] = sum(training.steps for training in work)
        row["tokens"] = sum(training.tokens for training in work)
        row["minutes"] = sum(training.operations for training in work) / speed / 60
        rows.append(row)
        made |= dict.fromkeys(own, point.point.name)
    total: dict[str, Any] = {key: sum(row[key] for row in rows) for key in ("steps", "tokens", "minutes")}
    return f"{make_table([*rows, {'point': 'all', **total}], COLUMNS, 'simple', '')}\n\n{source}"


COLUMNS: Columns = {
    "point": ("point", escaped),
    "makes": ("makes", str),
    "shares": ("shares", str),
    "steps": ("steps", "{:,d}".format),
    "tokens": ("tokens", "{:,d}".format),
    "minutes": ("minutes", "{:,.1f}".format),
}


def _speed(trainings: Mapping[str, Training], complete: Mapping[str, Path]) -> tuple[float, str]:
    """Operations a second, and where that is from: trainings of this study, or else what the machine can do."""
    records = {key: StageRecord.read(complete[key]) for key in trainings if key in complete}
    seconds = {key: record.metrics.get("seconds", 0.0) for key, record in records.items() if record}
    if sum(seconds.values()) > 0:
        speed = sum(trainings[key].operations for key in seconds) / sum(seconds.values())
        return speed, "Minutes of training by the trainings of this study that are done; scoring on tasks is not counted."
    speed = _matrix_speed()
    least = f"{speed / 1e9:,.0f} GFLOP/s in products of matrices"
    return speed, f"Minutes are the least that training can take here, at {least}; scoring on tasks is not counted."


def _matrix_speed() -> float:
    """Operations a second in products of matrices on this machine's device, in its training precision: the best of five."""
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    dtype = torch.bfloat16 if computes_in_bf16() else torch.float32
    matrix = torch.ones(PROBE, PROBE, device=device, dtype=dtype)
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        (matrix @ matrix).sum().item()
        best = min(best, time.perf_counter() - began)
    return 2 * PROBE**3 / best
