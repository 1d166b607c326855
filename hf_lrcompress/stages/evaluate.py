"""Stage: score the models of a run on downstream tasks. It makes no model."""

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from accelerate import PartialState

from hf_lrcompress.demo.texts import DEMO, save_demo_topics
from hf_lrcompress.evaluation.adapters import check_task_classes
from hf_lrcompress.evaluation.efficiency import measure_efficiency
from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.local_tasks import files_of
from hf_lrcompress.evaluation.scoring import Comparison, check_words_fit, load_tasks, score_factors, score_models
from hf_lrcompress.evaluation.settings import TaskTraining, check_differ, check_workers, chosen_seeds
from hf_lrcompress.evaluation.tables import UNDISTILLED
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.files import file_hash
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.stages.protocol import Stage, StageContext
from hf_lrcompress.texts.languages import Language

logger = logging.getLogger(__name__)

TEACHER = "teacher"
"""Name of the model that a run begins with, as it came."""


@dataclass(frozen=True)
class Evaluate(TaskTraining, Stage):
    """Settings of the evaluation: those of [`TaskTraining`], and these.

    Args:
        tasks (`tuple[str, ...]`, *optional*): Of `tc`, `sa`, `ner`, `pos`; none means those in `data`, or without any all that
            have data in the language on the Hub.
        data (`Mapping[str, str]`, *optional*): Folders with local data, by task.
        columns (`Mapping[str, Sequence]`, *optional*): Their columns of inputs and labels, by task, where they are not the usual.
        models (`tuple[str, ...]`, *optional*): Names of stages, or `teacher`; none means all before this one.
        undistilled (`bool`, *optional*, defaults to `False`): Score one model more, under this name: what the run's surgeries
            alone make of `adapt_teacher` (without that, of the teacher), with no training after them.
        seeds (`tuple[int, ...]`, *optional*): Seeds; a score is the mean over them. None means 42, 43 and 44, with `quick` 42.
        reduction_factors (`tuple[int, ...]`, *optional*): Score with adapters of these sizes too, and plot it.
        workers (`int`, *optional*, defaults to 1): Trainings at once, each in a process of its own.

    Raises:
        ValueError: If a value is out of range.
    """

    makes_model: ClassVar[bool] = False
    tasks: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Sequence[str | int]] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    undistilled: bool = False
    seeds: tuple[int, ...] = ()
    reduction_factors: tuple[int, ...] = ()
    workers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen_seeds(self.seeds, self.quick)
        check_workers(self.workers)
        self.check_factors(self.reduction_factors)

    def task_training(self) -> TaskTraining:
        """How models are trained on the tasks."""
        return TaskTraining(**{setting.name: getattr(self, setting.name) for setting in fields(TaskTraining)})

    def settings_that_matter(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """What is taken of seeds, epochs and learning rates, given or not; of local data the contents, which are inputs."""
        settings = super().settings_that_matter(training)
        for name in ("workers", "seeds", "quick", "epochs", "learning_rates"):
            del settings[name]
        settings["data"] = {}
        names = self.tasks or self.data or TASKS
        scored = [task for name, task in TASKS.items() if name in names]  # an unknown name is refused later
        task_training = self.task_training()
        settings["scored_seeds"] = chosen_seeds(self.seeds, self.quick)
        settings["task_epochs"] = {task.name: task_training.epochs_of(task) for task in scored}
        settings["task_rates"] = {task.name: task_training.rates_of(task) for task in scored}
        return settings

    def inputs(self, language: Language) -> Any:
        """Hashes of the local data; the language, where a task may come from the Hub."""
        hashes = {}
        for name, folder in self.data.items():
            files = files_of(Path(folder), TASKS[name]) if name in TASKS else []  # an unknown name is refused later
            hashes[name] = {path.name: file_hash(path) for path in files}
        from_hub = set(self.tasks or self.data or TASKS) - set(self.data)
        return hashes | ({"language": language.tag} if from_hub else {})

    def paths(self) -> list[str]:
        """The folders of local data."""
        return list(self.data.values())

    def resolved(self, language: Language) -> "Evaluate | None":
        """With the demo's topics, where they are asked for; `None` where the demo's text has no sections to tell apart."""
        if DEMO not in self.data.values():
            return self
        folder = save_demo_topics(language)
        if folder is None:
            logger.warning("the demo's text in %s has no sections to tell apart: not evaluated", language.name)
            return None
        topics = {task: str(folder) for task, source in self.data.items() if source == DEMO}
        return replace(self, data={**self.data, **topics})

    def check(self, inputs: RunInputs, models: Mapping[str, ModelSource]) -> None:
        """Refuse models that are not there or cannot be scored, tasks without data, and words that are mostly cut off."""
        self._select(models)
        check_task_classes(inputs.teacher_config)
        with PartialState().main_process_first():
            tasks, _ = load_tasks(self.tasks, self.data, inputs.language, self.columns)
        teacher = ModelUnderTest(TEACHER, inputs.teacher.path, inputs.teacher.revision)
        check_words_fit(tasks, [teacher], self.label_all_tokens)

    def run(self, context: StageContext) -> dict[str, Any]:
        """Score the models and measure their speed."""
        tested = self._select(context.models)
        if self.undistilled:
            tested += _undistilled(context)
        data, skipped = load_tasks(self.tasks, self.data, context.inputs.language, self.columns)
        predictions = context.stage_dir / "predictions"
        reference, original = compared_with(context.models)
        training = self.task_training()
        seeds = chosen_seeds(self.seeds, self.quick)
        record = context.at_checkpoint  # what is finished is kept, and so must be the time that it took
        comparison = Comparison(tested, data, training, seeds, predictions, reference, original, self.workers, record)
        scores = score_models(comparison)
        capacity = score_factors(comparison, self.reduction_factors)
        if not PartialState().is_main_process:
            return {}
        measured = {"scores": scores, "efficiency": measure_efficiency(tested), "skipped_tasks": skipped}
        if capacity:
            measured["capacity"] = capacity
        return measured

    def _select(self, models: Mapping[str, ModelSource]) -> list[ModelUnderTest]:
        for name in self.models:
            if name not in models:
                raise ValueError(f"models: {name!r} is no stage before evaluate; there are: {', '.join(models)}")
        check_differ("models", self.models)
        return [ModelUnderTest(name, models[name].path, models[name].revision) for name in self.models or models]


def compared_with(models: Collection[str]) -> tuple[str, str | None]:
    """What is compressed, which the models of a run are compared with; and the teacher as it came, where that is another.

    Args:
        models (`Collection[str]`): Names of the run's models.
    """
    return ("adapt_teacher", TEACHER) if "adapt_teacher" in models else (TEACHER, None)


def _undistilled(context: StageContext) -> list[ModelUnderTest]:
    """The student without distillation, made by the stages themselves; none if there is no stage after the adapted teacher."""
    target = context.stage_dir / UNDISTILLED
    partial = context.stage_dir / f"{UNDISTILLED}.partial"
    names = list(context.models)
    compressed, _ = compared_with(names)
    surgeries = names[names.index(compressed) + 1 :]
    if not surgeries:
        return []
    if not target.exists():
        parent = context.models[compressed]
        for name in surgeries:
            stage_dir = partial / name
            context.stages[name].run(replace(context, parent=parent, stage_dir=stage_dir, trains=False))
            parent = ModelSource(str(stage_dir))
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            Path(parent.path).replace(target)
            shutil.rmtree(partial)
        PartialState().wait_for_everyone()
    return [ModelUnderTest(UNDISTILLED, str(target))]
