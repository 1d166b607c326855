"""Whether there is room for a run, before it begins."""

from collections.abc import Collection, Sequence
from pathlib import Path

from hf_lrcompress.files import free_bytes
from hf_lrcompress.run.planning import PlannedStage
from hf_lrcompress.run.stage_files import stage_dirs

BYTES = 4
"""Of a parameter in fp32."""
IN_A_CHECKPOINT = 3
"""Weights and Adam's two moments."""
EXPORTED = 2 * (BYTES + 1)
"""Bytes of a parameter in fp32 and int8, in the stage's folder and in the final model's."""
AT_ONCE = 2
"""The new one is written before the older one is deleted."""


def needed_bytes(plan: Sequence[PlannedStage], complete: Collection[str] = ()) -> int:
    """Bytes that a run writes at most at once.

    They are those of the models of its stages, of the final model and its export, and of the largest training's checkpoints.

    Args:
        plan (`Sequence[PlannedStage]`): The teacher and every stage.
        complete (`Collection[str]`, *optional*): Directories of the stages that are there already.
    """
    to_do = [planned for planned in plan if planned.stage and planned.directory not in complete]
    models = sum(planned.parameters for planned in to_do if planned.makes_model)
    trained = max((planned.parameters for planned in to_do if planned.training_mb is not None), default=0)
    final = plan[-1].parameters if to_do else 0
    exported = sum(planned.parameters for planned in to_do if planned.stage and planned.stage.of_final_model)
    return BYTES * (models + final + AT_ONCE * IN_A_CHECKPOINT * trained) + EXPORTED * exported


def check_space(plan: Sequence[PlannedStage], complete: Collection[str], output_dir: Path) -> None:
    """Raise an `OSError` if there is less room than [`needed_bytes`] in a run's folder.

    Args:
        plan (`Sequence[PlannedStage]`): The teacher and every stage.
        complete (`Collection[str]`): Directories of the stages that are there and stay.
        output_dir (`Path`): The run folder; it need not exist.
    """
    needed = needed_bytes(plan, complete)
    begun = [path for path in stage_dirs(output_dir) if path.name not in complete]
    free = free_bytes(output_dir) + sum(map(_size, begun))  # what is there is written over, or deleted before
    if free < needed:
        raise OSError(
            f"the run writes about {needed / 1e6:,.0f} MB to {output_dir}, where {free / 1e6:,.0f} MB are free; "
            "make room or give another output_dir"
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
