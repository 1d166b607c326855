"""Speed on the CPU of several models, side by side."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hf_lrcompress.evaluation.encoding import ModelUnderTest
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
        `list[dict]`: For each model `parameters` and `size_mb` (fp32; with the masked-LM head, where it has one),
        `latency_ms_batch_1` and `latency_ms_batch_32` (128 tokens a text), `tokens_per_second` (batch 32), `speedup` (of that
        against the first model).
    """
    encoders = [load_encoder(model.path, model.revision).eval() for model in models]
    seconds = {batch: _median_seconds(encoders, batch) for batch in BATCHES}
    rows = []
    for index, model in enumerate(models):
        config = load_config(model.path, model.revision)
        has_head = has_masked_lm_head(model.path, model.revision)
        parameters = (masked_lm_on_meta(config) if has_head else encoder_on_meta(config)).num_parameters()
        rows.append(
            {
                "model": model.name,
                "parameters": parameters,
                "size_mb": parameters * 4 / 1e6,
                "latency_ms_batch_1": 1000 * seconds[1][index],
                "latency_ms_batch_32": 1000 * seconds[32][index],
                "tokens_per_second": 32 * LENGTH / seconds[32][index],
                "speedup": seconds[32][0] / seconds[32][index],
            }
        )
    return rows


def _median_seconds(encoders: Sequence[PreTrainedModel], batch: int) -> list[float]:
    measured = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            measured.append([_seconds(encoder, batch) for encoder in encoders])
    return list(np.median(measured[1:], axis=0))  # the first round warms up


def _seconds(encoder: PreTrainedModel, batch: int) -> float:
    length = min(LENGTH, encoder.config.max_position_embeddings - 2)
    ids = torch.full((batch, length), encoder.config.vocab_size // 2)
    started = time.perf_counter()
    encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    return time.perf_counter() - started
