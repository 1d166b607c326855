"""The plan of a run: what every stage will make, known before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.distillation.checks import check_student_and_teacher
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.loss_table import compared_depths, that_need
from hf_lrcompress.distillation.rehearsal import rehearse
from hf_lrcompress.distillation.training_memory import training_memory_mb
from hf_lrcompress.files import fingerprint
from hf_lrcompress.machine import peak_memory_mb
from hf_lrcompress.messages import named
from hf_lrcompress.models.architectures import intermediate_size_of
from hf_lrcompress.models.rebuilding import resized_on_meta
from hf_lrcompress.run.stage_record import StageRecord
from hf_lrcompress.run.unused_settings import check_settings_are_read
from hf_lrcompress.stages import Stage
from hf_lrcompress.stages.inputs import RunInputs


@dataclass(frozen=True)
class PlannedStage:
    """A stage and what its model will be. The first of a plan has no stage: it is the teacher as it comes.

    Args:
        name (`str`): Name of the stage, or `"teacher"`.
        directory (`str`): Its directory in the run folder.
        stage ([`Stage`] or `None`): Its settings.
        model_config ([`~transformers.PretrainedConfig`]): The config of its model, or of the model before it.
        parameters (`int`): Parameters of that model.
        fingerprint (`str`): Hash of everything its result depends on.
        training_mb (`float`, *optional*): Estimate of the memory that its training adds in MB, where it trains.
    """

    name: str
    directory: str
    stage: Stage | None
    model_config: PretrainedConfig
    parameters: int
    fingerprint: str
    training_mb: float | None = None

    @property
    def makes_model(self) -> bool:
        """Whether there is a model in its directory, or for the teacher elsewhere."""
        return self.stage is None or self.stage.makes_model

    @property
    def record(self) -> StageRecord:
        """The record the stage begins with."""
        return StageRecord(self.name, self.fingerprint)


def check_training_arguments(inputs: RunInputs, stages: Mapping[str, Stage]) -> None:
    """Refuse training arguments that no training can begin with; no text is read.

    Args:
        inputs ([`RunInputs`]): What the run starts from.
        stages (`Mapping[str, Stage]`): The stages in order.

    Raises:
        ValueError: If a stage's are unknown, out of range or without an effect.
    """
    for name, stage in stages.items():
        with named(name):
            arguments = stage.arguments(inputs, output_dir=".")
            if arguments:
                rehearse(arguments)
            if arguments and inputs.train.streaming and arguments.max_steps <= 0:
                raise ValueError("streamed text has no end; say how long to train, such as training.max_steps=10000")
    check_settings_are_read(inputs, stages)


def make_plan(inputs: RunInputs, stages: Mapping[str, Stage], teacher: PreTrainedModel) -> list[PlannedStage]:
    """Work out every stage's sizes and fingerprint; computes nothing large.

    Args:
        inputs ([`RunInputs`]): What the run starts from.
        stages (`Mapping[str, Stage]`): The stages in order, resolved and sized, with training arguments that were checked.
        teacher ([`~transformers.PreTrainedModel`]): The teacher's class on the meta device.

    Raises:
        ValueError: If a stage does not fit what comes before it.
    """
    unusual = ["streamed"] if inputs.train.streaming else []  # its order is the file's
    unusual += [inputs.sentence_pooling] if inputs.sentence_pooling != "mean" else []  # a file of the teacher says it
    read = fingerprint(*inputs.text_hashes.values(), inputs.block_size, inputs.seed, inputs.objective, inputs.examples, *unusual)
    parent = inputs.teacher_identity
    measured = fingerprint(parent, read)
    plan = [PlannedStage("teacher", "00-teacher", None, teacher.config, teacher.num_parameters(), measured)]
    model = teacher
    made_so_far = {"teacher": teacher}
    for index, (name, stage) in enumerate(stages.items(), start=1):
        with named(name):
            made = stage.resized(model)
            memory = _check_training(stage, inputs, made, model, _teacher_of(stage, inputs, made_so_far))
        further = [part for part in [stage.inputs(inputs.language)] if part]
        own = fingerprint(parent, read, name, stage.settings_that_matter(inputs.training), *further)
        plan.append(PlannedStage(name, f"{index:02d}-{name}", stage, made.config, made.num_parameters(), own, memory))
        model = made
        if stage.makes_model:
            parent = own
            made_so_far[name] = made
    return plan


def _teacher_of(stage: Stage, inputs: RunInputs, made_so_far: Mapping[str, PreTrainedModel]) -> PreTrainedModel | None:
    """The model that a stage's own is trained against; the last of `made_so_far` is its parent."""
    *_, parent = made_so_far
    name = stage.teacher(parent, inputs)
    if name is None:
        return None
    if name not in made_so_far:
        raise ValueError(f"distil_from: {name!r} is no earlier stage; there are: {', '.join(('parent', *made_so_far))}")
    if name == "teacher" and inputs.new_head:
        _check_untrained_head(stage.arguments(inputs, output_dir="."))
    return made_so_far[name]


def _check_untrained_head(arguments: DistillationConfig | None) -> None:
    """Refuse losses that compare with the logits of a head that is new."""
    names = that_need("features", arguments.compared) if arguments else []
    if names:
        raise ValueError(f"losses: {', '.join(names)} compare with the teacher's head, which is untrained; leave them out")


def _check_training(
    stage: Stage, inputs: RunInputs, student: PreTrainedModel, parent: PreTrainedModel, teacher: PreTrainedModel | None
) -> float | None:
    """Estimated memory of a stage's training in MB, once it is known to be possible; models on the meta device."""
    arguments = stage.arguments(inputs, output_dir=".")
    if arguments is None:
        return None
    trained = resized_on_meta(student, student.config)  # a stage that changes no size is given its parent itself
    check_student_and_teacher(trained, teacher.eval() if teacher else None, None, None, arguments)
    kept = 0.0 if parent is student or parent is teacher else 4 * parent.num_parameters() / 1e6  # what was cut is still there
    compared = compared_depths(arguments.loss_weights, student.config.num_hidden_layers)
    return kept + training_memory_mb(student, teacher, arguments.per_device_train_batch_size, inputs.block_size, compared)


def summary(plan: Sequence[PlannedStage]) -> list[dict[str, Any]]:
    """One row a stage: its sizes, parameters, megabytes (fp32), reduction against the teacher and memory while it trains.

    That is what training adds to what this process has taken so far for libraries, tokenizers and texts. Where a GPU computes
    it is the GPU's, as in the report.
    """
    taken = peak_memory_mb()
    return [
        {
            "stage": planned.name,
            "layers": planned.model_config.num_hidden_layers,
            "intermediate": intermediate_size_of(planned.model_config),
            "hidden": planned.model_config.hidden_size,
            "vocabulary": planned.model_config.vocab_size,
            "parameters": planned.parameters,
            "size_mb": planned.parameters * 4 / 1e6,
            "reduction_percent": 100 * (1 - planned.parameters / plan[0].parameters),
            "training_mb": None if planned.training_mb is None else taken + planned.training_mb,
        }
        for planned in plan
    ]
