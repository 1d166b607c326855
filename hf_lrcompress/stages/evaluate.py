"""Stage: score the models of a run on downstream tasks. It makes no model."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from accelerate import PartialState

from hf_lrcompress.demo.texts import DEMO, save_demo_topics
from hf_lrcompress.evaluation.adapters import check_task_classes
from hf_lrcompress.evaluation.efficiency import measure_efficiency
from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.scoring import load_tasks, score_factors, score_models
from hf_lrcompress.evaluation.tables import UNDISTILLED
from hf_lrcompress.evaluation.training import TaskTraining
from hf_lrcompress.files import file_hash
from hf_lrcompress.stages.protocol import ModelSource, RunInputs, Stage, StageTask
from hf_lrcompress.texts.languages import Language

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluate(Stage):
    """Settings of the evaluation.

    Args:
        tasks (`tuple[str, ...]`, *optional*): Of `tc`, `sa`, `ner`, `pos`; none means all that have data in the language.
        data (`Mapping[str, str]`, *optional*): Folders with local data, by task.
        models (`tuple[str, ...]`, *optional*): Names of stages, or `teacher`; none means all before this one.
        undistilled (`bool`, *optional*, defaults to `False`): Score one model more, under this name: what the run's surgeries
            alone make of `adapt_teacher` (without that, of the teacher), with no training after them.
        seeds (`tuple[int, ...]`, *optional*, defaults to `(42, 43, 44)`): A score is the mean over them.
        reduction_factors (`tuple[int, ...]`, *optional*): Score with adapters of these sizes too, and plot it.
        tuning, reduction_factor, small_reduction_factor, quick, epochs, patience, label_all_tokens: See [`TaskTraining`].

    Raises:
        ValueError: If a value is out of range.
    """

    makes_model: ClassVar[bool] = False
    tasks: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    undistilled: bool = False
    seeds: tuple[int, ...] = (42, 43, 44)
    reduction_factors: tuple[int, ...] = ()
    tuning: str = "seq_bn"
    reduction_factor: int = 16
    small_reduction_factor: int | None = None
    quick: bool = False
    epochs: int | None = None
    patience: int | None = None
    label_all_tokens: bool = False

    def __post_init__(self):
        if not self.seeds or not all(type(seed) is int for seed in self.seeds):
            raise ValueError(f"evaluate: seeds must be whole numbers, at least one, got {self.seeds!r}")
        self.task_training().check_factors(self.reduction_factors)

    def task_training(self) -> TaskTraining:
        """How models are trained on the tasks."""
        names = TaskTraining.__dataclass_fields__
        return TaskTraining(**{name: getattr(self, name) for name in names})

    def inputs(self) -> Any:
        return {
            name: {path.name: file_hash(path) for path in sorted(Path(folder).glob("*")) if path.is_file()}
            for name, folder in self.data.items()
        }

    def paths(self) -> list[str]:
        return list(self.data.values())

    def resolved(self, language: Language) -> "Evaluate | None":
        """With the demo's topics, where they are asked for; `None` where the demo's text has no sections to tell apart."""
        if DEMO not in self.data.values():
            return self
        folder = save_demo_topics(language)
        if folder is None:
            logger.warning("the demo's text in %s has no sections to tell apart: not evaluated", language.name)
            return None
        return replace(self, data={task: str(folder) if source == DEMO else source for task, source in self.data.items()})

    def check(self, inputs: RunInputs, models: Mapping[str, ModelSource]) -> None:
        self._select(models)
        check_task_classes(inputs.teacher_config)
        with PartialState().main_process_first():
            load_tasks(self.tasks, self.data, inputs.language)

    def run(self, task: StageTask) -> dict[str, Any]:
        tested = self._select(task.models) + (_undistilled(task) if self.undistilled else [])
        data, skipped = load_tasks(self.tasks, self.data, task.inputs.language)
        reference = _adapted(task)
        work = (tested, data, self.task_training(), self.seeds, task.stage_dir / "predictions", reference)
        scores = score_models(*work)
        capacity = score_factors(self.reduction_factors, *work)
        if not PartialState().is_main_process:
            return {}
        measured = {"scores": scores, "efficiency": measure_efficiency(tested), "skipped_tasks": skipped}
        return measured | ({"capacity": capacity} if capacity else {})

    def _select(self, models: Mapping[str, ModelSource]) -> list[ModelUnderTest]:
        for name in self.models:
            if name not in models:
                raise ValueError(f"models: {name!r} is no stage before evaluate; there are: {', '.join(models)}")
        return [ModelUnderTest(name, models[name].path, models[name].revision) for name in self.models or models]


def _adapted(task: StageTask) -> str:
    """What is compressed, and what the compressed models are compared with."""
    return "adapt_teacher" if "adapt_teacher" in task.models else "teacher"


def _undistilled(task: StageTask) -> list[ModelUnderTest]:
    """The student without distillation, made by the stages themselves; none if there is no stage after the adapted teacher."""
    target, partial = task.stage_dir / UNDISTILLED, task.stage_dir / f"{UNDISTILLED}.partial"
    names = list(task.models)
    surgeries = names[names.index(_adapted(task)) + 1 :]
    if not surgeries:
        return []
    if not target.exists():
        parent = task.models[_adapted(task)]
        for name in surgeries:
            stage_dir = partial / name
            task.stages[name].run(replace(task, parent=parent, stage_dir=stage_dir, trains=False))
            parent = ModelSource(str(stage_dir))
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            Path(parent.path).replace(target)
            shutil.rmtree(partial)
        PartialState().wait_for_everyone()
    return [ModelUnderTest(UNDISTILLED, str(target))]
