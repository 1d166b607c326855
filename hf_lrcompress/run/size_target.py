"""Sizes for a budget of parameters: what to cut from a teacher, in the order in which the paper found that it costs least."""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.messages import shown
from hf_lrcompress.models.rebuilding import resized_on_meta
from hf_lrcompress.stages import Stage
from hf_lrcompress.stages.evaluate import TEACHER, Evaluate
from hf_lrcompress.stages.protocol import Cut
from hf_lrcompress.stages.training import DistillingStage

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class Proposal:
    """Sizes that meet a budget.

    Args:
        sizes (`Mapping[str, int]`): Keys of the config and their new values; what is not in it stays as it is.
        stages (`Mapping[str, Stage]`): The stages with those sizes; a stage that has nothing to cut is left out, but for the
            last that distils where otherwise none would: what is cut needs it.
        parameters (`int`): Parameters of the model with those sizes.
        reasons (`tuple[str, ...]`): Why, a line a size.
    """

    sizes: Mapping[str, int]
    stages: Mapping[str, Stage]
    parameters: int
    reasons: tuple[str, ...]


def parse_count(text: str) -> int:
    """A number of parameters, such as `25M` or `25_000_000`.

    Raises:
        ValueError: If it is none.
    """
    match = re.fullmatch(r"(\d[\d_]{,20}(?:\.\d{1,9})?)([KMB]?)", text.strip(), re.IGNORECASE)
    count = int(float(match[1].replace("_", "")) * UNITS[match[2].upper()]) if match else 0
    if not count:
        raise ValueError(f"{shown(text)} is no number of parameters; give it as 25M or 25_000_000")
    return count


def parameters_of(megabytes: float) -> int:
    """The most parameters whose fp32 weights have so many megabytes.

    Raises:
        ValueError: If they are none, or not finite.
    """
    if not 0 < megabytes < math.inf:
        raise ValueError(f"{megabytes} is no number of megabytes; give one above 0, such as 100")
    return int(megabytes * 1e6 / 4)


def meet_budget(teacher: PreTrainedModel, budget: int, stages: Mapping[str, Stage]) -> Proposal:
    """Choose sizes for a model of at most `budget` parameters.

    Cuts are taken one after the other until the budget is met: half of the layers, the feed-forward network to two thirds (fewer
    neurons degrade), 40,000 tokens, then the hidden size, which costs most. Attention heads are never removed. Where the
    configuration has fewer tokens, or refits fewer neurons, these are cut to.

    Args:
        teacher ([`~transformers.PreTrainedModel`]): The teacher, which may be on the meta device.
        budget (`int`): Parameters.
        stages (`Mapping[str, Stage]`): The stages of the run: what has no stage is not cut.

    Raises:
        ValueError: If the teacher is no larger than the budget, the smallest model by these rules is larger, or a
            stage leaves its size to something else.
    """
    for stage in stages.values():
        stage.check_budget()
    parameters = teacher.num_parameters()
    if parameters <= budget:
        raise ValueError(f"the teacher has {parameters:,} parameters, no more than the target of {budget:,}: nothing to cut")
    taken: dict[str, Cut] = {}
    for name, cut in _cuts(teacher.config, stages):
        taken[name] = cut
        parameters = resized_on_meta(teacher, cut.config).num_parameters()
        if parameters <= budget:
            return _proposal(teacher, taken, parameters, stages)
    made = ", ".join(f"{cut.key} {cut.size}" for cut in taken.values()) or "nothing can be cut"
    raise ValueError(f"the target of {budget:,} parameters is too small: the smallest model is {parameters:,} ({made})")


def _cuts(config: PretrainedConfig, stages: Mapping[str, Stage]) -> Iterator[tuple[str, Cut]]:
    """The cuts of all stages, with the name of the stage: the next of each starts from the config of the one before."""
    ranked = [(stage.cut_rank, name) for name, stage in stages.items() if stage.cut_rank is not None]
    for _, name in sorted(ranked):
        for cut in stages[name].cuts(config):
            config = cut.config
            yield name, cut


def _proposal(teacher: PreTrainedModel, taken: Mapping[str, Cut], parameters: int, stages: Mapping[str, Stage]) -> Proposal:
    sizes = {cut.key: cut.size for cut in taken.values()}
    reasons = [f"{cut.key} {cut.size}: {cut.reason}" for cut in taken.values()]
    distilling = {name: stage for name, stage in stages.items() if isinstance(stage, DistillingStage) and stage.distil}
    needed = None if distilling.keys() & taken else next(reversed(distilling), None)
    sized = {}
    for name, stage in stages.items():
        if name in taken:
            sized[name] = stage.with_size(taken[name].size, teacher)
        elif name == needed:
            sized[name] = distilling[name].uncut(teacher.config)
            reasons.append(f"{name} cuts nothing: it is there to train what the others have cut")
        elif stage.cut_rank is None:
            sized[name] = stage
    of_those = {name: _naming_those(stage, list(stages), sized) for name, stage in sized.items()}
    return Proposal(sizes, of_those, parameters, tuple(reasons))


def _naming_those(stage: Stage, order: Sequence[str], staying: Collection[str]) -> Stage:
    """A stage that names only stages which are run: in the place of one that is left out the nearest before, or the teacher."""
    if isinstance(stage, Evaluate):
        return replace(stage, models=tuple(name for name in stage.models if name in (TEACHER, *staying)))
    for key in ("distil_from", "score_against"):
        name = getattr(stage, key, None)
        if name in order and name not in staying:
            before = [each for each in order[: order.index(name)] if each in staying]
            stage = replace(stage, **{key: before[-1] if before else TEACHER})
    return stage
