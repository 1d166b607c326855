"""A model on a task: the trainings that it takes, the choice of its learning rate, and its row of the results."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.examples import Example, TaskData
from hf_lrcompress.evaluation.jobs import ScoringJob
from hf_lrcompress.evaluation.judging import is_at_baseline, missed_of_all
from hf_lrcompress.evaluation.metrics import score
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.files import fingerprint


@dataclass(frozen=True)
class Entry:
    """A model on a task.

    Args:
        model ([`ModelUnderTest`]): The model.
        data ([`TaskData`]): The task's data.
        identity (`str`): Hash of both.
        training ([`TaskTraining`]): Settings for this model, with any number of learning rates to choose from.
        seeds (`Sequence[int]`): Seeds; the learning rates are tried with the first.
        output_dir (`Path`): Folder of results and predictions.
    """

    model: ModelUnderTest
    data: TaskData
    identity: str
    training: TaskTraining
    seeds: Sequence[int]
    output_dir: Path

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates to choose from."""
        return self.training.rates_of(self.data.task)

    @property
    def ranked_rates(self) -> list[float]:
        """The learning rates, the best on validation first, by the first seed; the trials must be done."""
        if len(self.rates) == 1:
            return list(self.rates)
        return sorted(self.rates, key=lambda rate: -self.job(rate, self.seeds[0]).result()["validation"])

    @property
    def failed_rates(self) -> list[float]:
        """Those that rank before the best rate: trainings at them have failed. Where all have, all."""
        return list(takewhile(self._has_failed, self.ranked_rates))

    @property
    def best_rate(self) -> float:
        """The best on validation of those that have not failed with any seed; the best of all where all have."""
        return next((rate for rate in self.ranked_rates if not self._has_failed(rate)), self.ranked_rates[0])

    def _has_failed(self, rate: float) -> bool:
        """Whether a training that is done has learned nothing that validation shows (Mosbach et al. 2021, arXiv 2006.04884)."""
        done = [job.result() for job in (self.job(rate, seed) for seed in self.seeds) if job.is_done()]
        return any(is_at_baseline({"mean": result["validation"], "majority": self._validation_majority}) for result in done)

    @cached_property
    def _validation_majority(self) -> float:
        return majority_scores(self.data, self.data.validation)[self.data.task.metric]

    def job(self, learning_rate: float, seed: int) -> ScoringJob:
        """One training. It does not depend on the other learning rates, and may be there from a comparison without them.

        Args:
            learning_rate (`float`): The highest of the schedule.
            seed (`int`): Seeds everything random.
        """
        training = self.training.with_rate(learning_rate)
        settings = asdict(training) | {"epochs": training.epochs_of(self.data.task)}
        del settings["quick"]  # it has said its epochs
        rate = "" if learning_rate == self.data.task.learning_rate else f"-lr{float(learning_rate)}"
        name = f"{self.model.name.replace('/', '--')}-{self.data.task.name}{rate}-{seed}.json"
        return ScoringJob(
            model=self.model,
            data=self.data,
            training=training,
            seed=seed,
            path=self.output_dir / name,
            fingerprint=fingerprint(self.identity, settings),
        )

    def trials(self) -> list[ScoringJob]:
        """The trainings that the learning rate is chosen by: none where there is no choice."""
        rates = self.rates if len(self.rates) > 1 else ()
        return [self.job(rate, self.seeds[0]) for rate in rates]

    @property
    def cost_after_trials(self) -> int:
        """How long the trainings of the other seeds take, in the unit of [`ScoringJob.cost`]."""
        return self.job(self.rates[0], self.seeds[0]).cost * (len(self.seeds) - 1)

    def jobs(self) -> list[ScoringJob]:
        """A training a seed, at the best learning rate: the first is one of the trials.

        Once they are done another rate may be the best, because one of them has failed.
        """
        rate = self.best_rate
        return [self.job(rate, seed) for seed in self.seeds]

    def row(self) -> dict[str, Any]:
        """What the finished jobs have found.

        Returns:
            `dict`: `mean`, `std` (of the sample; 0 for one seed) and `values` of the score on test, `majority` (see
                [`majority_scores`]), as fractions; `missed`, see [`missed_of_all`]; `epochs`, `learning_rate`, the
                `learning_rates` it was chosen from, the `failed_rates` among these, and more.
        """
        task = self.data.task
        training = self.training
        results = [job.result() for job in self.jobs()]
        values = [result["scores"][task.metric] for result in results]
        majority = majority_scores(self.data, self.data.test)
        return {
            "model": self.model.name,
            "task": task.name,
            "dataset": self.data.source,
            "metric": task.metric,
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "values": values,
            "missed": missed_of_all(results),
            "majority": majority[task.metric],
            "seeds": list(self.seeds),
            "test_size": len(self.data.test),
            "train_overlap": self.data.train_overlap,
            "words_cut_off": results[0].get("words_cut_off"),
            "quick": training.quick,
            "epochs": training.epochs_of(task),
            "patience": training.patience,
            "tuning": training.tuning,
            "reduction_factor": training.reduction_factor,
            "learning_rate": self.best_rate,
            "learning_rates": list(self.rates),
            "failed_rates": self.failed_rates,
            "extra": {
                "accuracy": float(np.mean([result["scores"]["accuracy"] for result in results])),
                "majority_accuracy": majority["accuracy"],
            },
        }


def majority_scores(data: TaskData, examples: Sequence[Example]) -> dict[str, float]:
    """Scores of always predicting the most frequent label of `train`, for every text or every word.

    Args:
        data ([`TaskData`]): The task's data.
        examples (`Sequence[Example]`): What is predicted, such as its test split.
    """
    label = data.most_frequent_label
    gold = [example.labels for example in examples]
    predicted = [label if isinstance(labels, str) else [label] * len(labels) for labels in gold]
    return score(data.task.metric, predicted, gold)
