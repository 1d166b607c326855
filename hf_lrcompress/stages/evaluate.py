"""Stage: score the models of a run on downstream tasks. It makes no model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from accelerate import PartialState

from hf_lrcompress.evaluation.efficiency import measure_efficiency
from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.scoring import load_tasks, score_models
from hf_lrcompress.evaluation.training import TaskTraining
from hf_lrcompress.languages import Language
from hf_lrcompress.run_folder import file_hash
from hf_lrcompress.stages.stage import Stage, StageTask


@dataclass(frozen=True)
class Evaluate(Stage):
    """Settings of the evaluation.

    Args:
        tasks (`tuple[str, ...]`, *optional*): Of `tc`, `sa`, `ner`, `pos`; none means all that have data in the language.
        data (`Mapping[str, str]`, *optional*): Folders with local data, by task.
        models (`tuple[str, ...]`, *optional*): Names of stages, or `teacher`; none means all before this one.
        seeds (`tuple[int, ...]`, *optional*, defaults to `(42, 43, 44)`): A score is the mean over them.
        tuning, reduction_factor, quick, epochs, patience, label_all_tokens: See [`TaskTraining`].

    Raises:
        ValueError: If a value is out of range.
    """

    makes_model: ClassVar[bool] = False
    tasks: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (42, 43, 44)
    tuning: str = "seq_bn"
    reduction_factor: int = 16
    quick: bool = False
    epochs: int | None = None
    patience: int | None = None
    label_all_tokens: bool = False

    def __post_init__(self):
        if not self.seeds or not all(type(seed) is int for seed in self.seeds):
            raise ValueError(f"evaluate: seeds must be whole numbers, at least one, got {self.seeds!r}")
        self.task_training()

    def task_training(self) -> TaskTraining:
        """How models are trained on the tasks."""
        names = TaskTraining.__dataclass_fields__
        return TaskTraining(**{name: getattr(self, name) for name in names})

    def inputs(self) -> Any:
        return {
            name: {path.name: file_hash(path) for path in sorted(Path(folder).glob("*")) if path.is_file()}
            for name, folder in self.data.items()
        }

    def check(self, language: Language, models: Mapping[str, tuple[str, str | None]]) -> None:
        self._select(models)
        with PartialState().main_process_first():
            load_tasks(self.tasks, self.data, language)

    def run(self, task: StageTask) -> dict[str, Any]:
        tested = self._select(task.models)
        data, skipped = load_tasks(self.tasks, self.data, task.language)
        reference = "adapt_teacher" if "adapt_teacher" in task.models else "teacher"
        training = self.task_training()
        scores = score_models(tested, data, training, self.seeds, task.stage_dir / "predictions", reference)
        if not PartialState().is_main_process:
            return {}
        return {"scores": scores, "efficiency": measure_efficiency(tested), "skipped_tasks": skipped}

    def _select(self, models: Mapping[str, tuple[str, str | None]]) -> list[ModelUnderTest]:
        for name in self.models:
            if name not in models:
                raise ValueError(f"models: {name!r} is no stage before evaluate; there are: {', '.join(models)}")
        return [ModelUnderTest(name, *models[name]) for name in self.models or models]
