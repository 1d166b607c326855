"""Checkpoints that are known to be whole: each is sealed with the hashes of its files when the last of them is written."""

import json
import logging
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_lrcompress.files import changed_file, check_records, hash_files, read_object, write_atomically

logger = logging.getLogger(__name__)

SEAL = "checkpoint.json"
"""Hashes of a checkpoint's files, written after all of them."""


class SealingTrainer(Trainer):
    """A Trainer that seals its checkpoints, and deletes older ones only once the new one is sealed.

    It trains no step more if the checkpoint that it is resumed from is that of the last step.
    """

    _resumed_step = 0

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's; `True` resumes the newest checkpoint that is whole, where the Trainer takes a half-written one.

        Raises:
            ValueError: If there is none.
        """
        if resume_from_checkpoint is True:
            newest = newest_whole(Path(self.args.output_dir or "."))
            if newest is None:
                raise ValueError(f"{self.args.output_dir} has no whole checkpoint; train from the beginning")
            resume_from_checkpoint = str(newest)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _inner_training_loop(
        self, batch_size: Any = None, args: Any = None, resume_from_checkpoint: Any = None, *others: Any, **named: Any
    ) -> Any:
        self._resumed_step = 0
        if resume_from_checkpoint:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            self._resumed_step = state.global_step
        return super()._inner_training_loop(batch_size, args, resume_from_checkpoint, *others, **named)

    def set_initial_training_values(self, *args: Any) -> tuple[Any, ...]:
        """As the Trainer has them, with no epoch where all is done: it looks for the last step only after another one."""
        epochs, *others, last_step = super().set_initial_training_values(*args)
        return (0 if self._resumed_step >= last_step else epochs, *others, last_step)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        limit = self.args.save_total_limit
        self.args.save_total_limit = None  # the Trainer would delete by the clock
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial))
            newest = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            seal(newest)
            delete_older(folder, newest, limit, kept=[self.state.best_model_checkpoint])


def seal(checkpoint: Path) -> None:
    """Record the hashes of a checkpoint that was written whole."""
    write_atomically(checkpoint / SEAL, json.dumps(hash_files(checkpoint, [SEAL]), indent=2) + "\n")


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint whose files are those that were sealed; what is passed over is said.

    Args:
        folder (`Path`): Where a training saves its checkpoints; it need not exist.

    Returns:
        `Path` or `None`: `None` if there is no whole one: the training begins anew.
    """
    for checkpoint in reversed(_by_step(folder)):
        damage = _damage(checkpoint)
        if damage is None:
            return checkpoint
        logger.warning("%s is passed over: %s", checkpoint, damage)
    return None


def delete_older(folder: Path, newest: Path, limit: int | None, kept: Collection[str | None] = ()) -> None:
    """Delete all but the newest checkpoints, by their steps whatever the clock says.

    Those of later steps than the newest are of another training in the same folder: they go first.

    Args:
        folder (`Path`): Where a training saves its checkpoints.
        newest (`Path`): The one that was just saved.
        limit (`int` or `None`): How many stay; without one, or with 0, all.
        kept (`Collection[str]`, *optional*): Checkpoints that stay in any case.
    """
    if not limit:
        return
    staying = {Path(path) for path in kept if path}
    ascending = _by_step(folder)
    of_this_training = ascending[: ascending.index(newest) + 1]
    of_another = ascending[len(of_this_training) :]
    for checkpoint in (of_another + of_this_training)[:-limit]:
        if checkpoint not in staying:
            shutil.rmtree(checkpoint)


def _by_step(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the oldest first."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    found = [path for path in folder.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(prefix)))


def _damage(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be resumed from."""
    if not (checkpoint / SEAL).is_file():
        return "it was not written whole"
    try:
        recorded = read_object(checkpoint / SEAL, "delete the checkpoint")
        check_records(recorded)
        changed = changed_file(checkpoint, recorded)
    except ValueError:
        return f"its {SEAL} is damaged"
    return f"its {changed} is missing or was changed" if changed else None
