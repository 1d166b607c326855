"""What a person sees while models are scored: which training runs, its epoch and score, and how long all of them will take."""

import logging
import time
from datetime import timedelta
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10


class Progress(TrainerCallback):
    """Counts the epochs of trainings that follow each other. A line a training, and one an epoch if that takes long.

    The time left follows from that of the texts so far; a smaller model will need less.

    Args:
        trainings (`int`): How many there are.
        texts (`int`): How many texts all of them learn from, an epoch's again in the next.
    """

    def __init__(self, trainings: int, texts: int) -> None:
        self.trainings = trainings
        self.texts = texts
        self._begun = 0
        self._before = 0
        self._texts_of_training = 0
        self._name = ""
        self._metric = ""
        self._started = time.monotonic()
        self._last_line = self._started

    def begin(self, name: str, metric: str, texts: int) -> None:
        """Say that a training begins: the one before it has ended, though perhaps early.

        Args:
            name (`str`): Model, task and seed.
            metric (`str`): What an epoch is judged by.
            texts (`int`): How many texts it learns from, in all epochs.
        """
        self._before += self._texts_of_training
        self._texts_of_training = texts
        self._begun += 1
        self._name = f"{self._begun} of {self.trainings}: {name}"
        self._metric = metric
        self._say(0.0, "begins")

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say which epoch is done and how good the model is on validation, unless the last line was just now."""
        if time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            epoch = round(state.epoch or 0)
            score = 100 * kwargs["metrics"][f"eval_{self._metric}"]
            self._say(epoch / args.num_train_epochs, f"epoch {epoch} of {args.num_train_epochs:g} ({score:.1f} on validation)")

    def _say(self, share: float, what: str) -> None:
        """A line, where a share of the training is done."""
        self._last_line = time.monotonic()
        done = self._before + share * self._texts_of_training
        left = ""
        if done:
            seconds = (self._last_line - self._started) * (self.texts - done) / done
            left = f", about {timedelta(seconds=round(seconds))} left"
        logger.info("%s, %s%s", self._name, what, left)
