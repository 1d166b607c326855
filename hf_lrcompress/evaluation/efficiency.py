"""Speed on the CPU of several models, side by side."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.models.architectures import most_tokens
from hf_lrcompress.models.checkpoints import has_masked_lm_head
from hf_lrcompress.models.loading import load_config, load_encoder
from hf_lrcompress.models.rebuilding import encoder_on_meta, masked_lm_on_meta

LENGTH = 128
BATCHES = (1, 32)
ROUNDS = 5


def measure_efficiency(models: Sequence[ModelUnderTest]) -> list[dict[str, Any]]:
    """Latency, in fp32 on the CPU, of encoders without a head: the median of rounds in which every model has its turn.

    Args:
        models (`Sequence[ModelUnderTest]`): The first is what the others are compared with.

    Returns:
        `list[dict]`: For each model `parameters` and `size_mb` (fp32; with the masked-LM head, where all have one),
        `latency_ms_batch_1` and `latency_ms_batch_32` (128 tokens a text, or as many as the model has positions),
        `tokens_per_second` (batch 32), `speedup` (of the latter latency against the first model); `tokens` of a text, `threads`.
    """
    encoders = [load_encoder(model.path, model.revision).eval() for model in models]
    with torch.inference_mode():
        seconds = {batch: median_seconds([partial(_run, encoder, batch) for encoder in encoders]) for batch in BATCHES}
    counted = masked_lm_on_meta if all(has_masked_lm_head(model.path, model.revision) for model in models) else encoder_on_meta
    rows = []
    for index, model in enumerate(models):
        config = load_config(model.path, model.revision)
        parameters = counted(config).num_parameters()
        rows.append(
            {
                "model": model.name,
                "parameters": parameters,
                "size_mb": parameters * 4 / 1e6,
                "latency_ms_batch_1": 1000 * seconds[1][index],
                "latency_ms_batch_32": 1000 * seconds[32][index],
                "tokens_per_second": 32 * _length(config) / seconds[32][index],
                "speedup": seconds[32][0] / seconds[32][index],
                "tokens": _length(config),
                "threads": torch.get_num_threads(),
            }
        )
    return rows


def speed_notes(efficiency: Sequence[Mapping[str, Any]]) -> list[str]:
    """How speeds were measured: a line, or none where older code has not recorded it.

    Args:
        efficiency (`Sequence[Mapping]`): Rows of [`measure_efficiency`].
    """
    tokens = {str(row["tokens"]) for row in efficiency if "tokens" in row}
    if not tokens:
        return []
    return [f"Milliseconds are those of texts of {' or '.join(sorted(tokens))} tokens, {timed_with(efficiency[0]['threads'])}."]


def timed_with(threads: int) -> str:
    """How [`median_seconds`] measures, in words."""
    of_cpu = f"{threads} threads" if threads > 1 else "one thread"
    return f"with {of_cpu} of a CPU, the median of rounds in which all have their turn"


def median_seconds(
    calls: Sequence[Callable[[], object]], rounds: int = ROUNDS, clock: Callable[[], Any] = time.perf_counter
) -> list[Any]:
    """Seconds that each of several calls takes: the median of rounds in which every one has its turn, after one to warm up.

    Args:
        calls (`Sequence[Callable]`): What to measure, side by side.
        rounds (`int`): Turns of every call that count.
        clock (`Callable`): What time it is; by several clocks, if it returns several numbers.
    """
    measured = [[_seconds(call, clock) for call in calls] for _ in range(rounds + 1)]
    return np.median(measured[1:], axis=0).tolist()


def _seconds(call: Callable[[], object], clock: Callable[[], Any]) -> np.ndarray:
    started = clock()
    call()
    return np.subtract(clock(), started)


def _run(encoder: PreTrainedModel, batch: int) -> None:
    ids = torch.full((batch, _length(encoder.config)), encoder.config.vocab_size // 2)
    encoder(input_ids=ids, attention_mask=torch.ones_like(ids))


def _length(config: PretrainedConfig) -> int:
    """Tokens of a text."""
    return min(LENGTH, most_tokens(config))
