"""Sizes for a budget of parameters: what to cut from a teacher, in the order in which the paper found that it costs least."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from hf_lrcompress.models.architectures import architecture_of, intermediate_size_of
from hf_lrcompress.models.rebuilding import (
    changed,
    hidden_multiple,
    masked_lm_on_meta,
    with_hidden_size,
    with_intermediate_size,
    with_layers,
)
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.planning import load_teacher_config, resolve_demo
from hf_lrcompress.surgery.layer_reduction import fitting_layers, select_layers

VOCAB_SIZE = 40_000
HIDDEN_SHARES = (3 / 4, 0.6, 0.4, 0.3, 0.2)
STAGE_OF = {
    "num_hidden_layers": "reduce_layers",
    "intermediate_size": "prune_ffn",
    "vocab_size": "trim_vocab",
    "hidden_size": "truncate_hidden",
}
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class Proposal:
    """Sizes that meet a budget.

    Args:
        sizes (`Mapping[str, int]`): Keys of the config and their new values; what is not in it stays as it is.
        parameters (`int`): Of the masked LM with those sizes.
        reasons (`tuple[str, ...]`): Why, a line a size.
    """

    sizes: Mapping[str, int]
    parameters: int
    reasons: tuple[str, ...]


def parse_count(text: str) -> int:
    """A number of parameters, such as `25M` or `25_000_000`.

    Raises:
        ValueError: If it is none.
    """
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)([KMB]?)", text.strip(), re.IGNORECASE)
    count = int(float(match[1].replace("_", "")) * UNITS[match[2].upper()]) if match else 0
    if not count:
        raise ValueError(f"{text!r} is no number of parameters; give it as 25M or 25_000_000")
    return count


def propose_sizes(config: PretrainedConfig, budget: int, stages: Collection[str]) -> Proposal:
    """Choose sizes for a masked LM of at most `budget` parameters.

    Cuts are taken one after the other until the budget is met: half of the layers, the feed-forward network to two thirds (fewer
    neurons degrade), 40,000 tokens, then the hidden size, which costs most. Attention heads are never removed.

    Args:
        config ([`~transformers.PretrainedConfig`]): Of the teacher.
        budget (`int`): Parameters.
        stages (`Collection[str]`): The stages of the run: what has no stage is not cut.

    Raises:
        ValueError: If the teacher is no larger than the budget, or the smallest model by these rules is larger.
    """
    parameters = masked_lm_on_meta(config).num_parameters()
    if parameters <= budget:
        raise ValueError(f"the teacher has {parameters:,} parameters, no more than the target of {budget:,}: nothing to cut")
    sizes, reasons = {}, {}
    for key, size, smaller, reason in _cuts(config, stages):
        config, sizes[key], reasons[key] = smaller, size, reason
        parameters = masked_lm_on_meta(config).num_parameters()
        if parameters <= budget:
            return Proposal(sizes, parameters, tuple(f"{key} {sizes[key]}: {reason}" for key, reason in reasons.items()))
    made = ", ".join(f"{key} {size}" for key, size in sizes.items()) or "nothing can be cut"
    raise ValueError(f"the target of {budget:,} parameters is too small: the smallest model is {parameters:,} ({made})")


def _cuts(config: PretrainedConfig, stages: Collection[str]) -> Iterator[tuple[str, int, PretrainedConfig, str]]:
    """A size, its value, the config with it and those before, and why."""
    layers, neurons, hidden_size = config.num_hidden_layers, intermediate_size_of(config), config.hidden_size
    if "reduce_layers" in stages and layers > 1 and not architecture_of(config).shared_layers:
        config = with_layers(config, layers // 2)
        yield "num_hidden_layers", layers // 2, config, f"half of {layers}; with distillation it costs least for what it saves"
    if "prune_ffn" in stages:
        kept = -(-2 * neurons // 3)
        config = with_intermediate_size(config, kept)
        yield "intermediate_size", kept, config, f"two thirds of {neurons}; fewer degrade, and so do fewer heads"
    if "trim_vocab" in stages and config.vocab_size > VOCAB_SIZE:
        old, config = config.vocab_size, changed(config, vocab_size=VOCAB_SIZE)
        yield "vocab_size", VOCAB_SIZE, config, f"the most frequent of {old:,}; no measurable loss, fewer do not generalise"
    if "truncate_hidden" in stages:
        for share in HIDDEN_SHARES:
            size = _allowed_hidden_size(config, share * hidden_size)
            if size < config.hidden_size:
                config = with_hidden_size(config, size)
                yield "hidden_size", size, config, f"{size / hidden_size:.0%} of {hidden_size}; it costs most, so it is cut last"


def _allowed_hidden_size(config: PretrainedConfig, wanted: float) -> int:
    """The size nearest to the one wanted that the class can be built with."""
    step = hidden_multiple(config)
    embedding_sizes = {getattr(config, key, None) for key in architecture_of(config).same_as_hidden} - {config.hidden_size}
    sizes = [size for size in range(step, config.hidden_size + 1, step) if size not in embedding_sizes]
    return min(sizes, key=lambda size: abs(size - wanted))


def with_target(config: RunConfig, budget: int) -> tuple[RunConfig, Proposal]:
    """A run whose last model has at most `budget` parameters; stages that it does not need are left out.

    Raises:
        ValueError: As [`propose_sizes`], or as [`load_teacher_config`], or if `trim_vocab.min_count` is set.
        OSError: If the teacher cannot be read.
    """
    if getattr(config.stages.get("trim_vocab"), "min_count", None):
        raise ValueError("trim_vocab.min_count and a target both decide the vocabulary's size; leave one out")
    teacher = load_teacher_config(resolve_demo(config))
    proposal = propose_sizes(teacher, budget, config.stages)
    stages = dict(config.stages)
    for key, name in STAGE_OF.items():
        if key in proposal.sizes:
            stages[name] = replace(stages[name], **{key: proposal.sizes[key]})
        else:
            stages.pop(name, None)
    if "num_hidden_layers" in proposal.sizes:
        reduce = stages["reduce_layers"]
        wanted = select_layers(teacher.num_hidden_layers, reduce.num_hidden_layers, reduce.strategy)
        fitting = fitting_layers(masked_lm_on_meta(teacher), wanted)
        stages["reduce_layers"] = replace(reduce, keep_layers=() if fitting == wanted else tuple(fitting))
    return replace(config, stages=stages), proposal
