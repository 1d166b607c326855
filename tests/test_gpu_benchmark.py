"""The benchmark `gpu` at a size that takes a second, without a GPU."""

import argparse
import json
import sys
from dataclasses import asdict
from unittest.mock import Mock

import pytest
import torch

from hf_lrcompress.benchmarks import gpu, gpu_steps
from hf_lrcompress.benchmarks.gpu_steps import SHAPES, Work


def measured_here(work):
    measure = {"matmul": gpu_steps.matmul, "reference": gpu_steps.reference}.get(work.step, gpu_steps.ours)
    return {name: asdict(work)[name] for name in ("model", "step", "precision", "batch_size")} | measure(work)


def options(*given):
    parser = argparse.ArgumentParser()
    gpu.add_arguments(parser)
    return parser.parse_args(["--models", "tiny", "--batches", "2", "4", "--steps", "1", "--loader_workers", "0", *given])


def test_rows_are_compared_with_the_authors_step(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_measure", measured_here)
    result = gpu.run(options("--profile", str(tmp_path / "profile.txt")))
    work = [(row["step"], row["precision"], row["batch_size"]) for row in result["rows"]]
    assert work[:2] == [("reference", "fp32", 4), ("reference", "bf16", 4)]
    assert work[2:] == [("ours", "bf16", 2), ("ours", "bf16", 4), ("ours", "fp32", 2)]
    first = result["rows"][0]
    rate = 1e12 * result["measured matmul TFLOP/s in bf16"]
    for row in result["rows"]:
        assert row["speed_ratio"] == pytest.approx(row["tokens_per_second"] / first["tokens_per_second"])
        seconds = row["batch_size"] * SHAPES["tiny"].length / row["tokens_per_second"]
        assert row["share of the rate"] == pytest.approx(SHAPES["tiny"].flop(row["batch_size"]) / seconds / rate)
    assert len(gpu.summary(result)) == 2
    assert "aten::addmm" in (tmp_path / "profile.txt").read_text()


def test_the_arithmetic_of_a_step_is_that_of_its_products():
    shape = SHAPES["xlm-r-base"]
    one, two = (shape.flop(batch) for batch in (1, 2))
    assert 2 * one - two == pytest.approx(4 * 2 * 250_002 * 768**2)  # what does not grow with the batch
    layer_weights = 12 * 768**2  # four of attention, two of 768 × 3,072
    encoders = (12 + 3 * 6) * (2 * layer_weights + 4 * 512 * 768)
    cross_entropy = 0.15 * 6 * 250_002 * 768
    assert (two - one) / 512 == pytest.approx(encoders + cross_entropy)


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    def measured_by(command):
        batch = Work(**json.loads(command[-1])).batch_size
        return gpu_steps.OUT_OF_MEMORY if batch > 4 else {"tokens_per_second": 1.0}

    monkeypatch.setattr(gpu, "measured_by", measured_by)
    assert gpu._measure(Work("tiny", "ours", "bf16", 16))["batch_size"] == 4


@pytest.mark.parametrize("error", [MemoryError("batches of 16"), torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_measurement_says_that_the_memory_is_too_small(monkeypatch, capsys, error):
    monkeypatch.setattr(gpu_steps, "ours", Mock(side_effect=error))
    monkeypatch.setattr(sys, "argv", ["", json.dumps(asdict(Work("tiny", "ours", "bf16", 16)))])
    gpu_steps.main()
    assert json.loads(capsys.readouterr().out) == gpu_steps.OUT_OF_MEMORY


def test_a_measurement_that_fails_does_not_lose_the_others(monkeypatch):
    def measured(work):
        if work.step == "ours compiled":
            raise OSError("the measurement failed: no compiler")
        return {name: asdict(work)[name] for name in gpu.SHOWN} | {"tokens_per_second": 2.0, "flop_per_second": 1.0}

    monkeypatch.setattr(gpu, "_measure", measured)
    rows = gpu.run(options("--compile"))["rows"]
    assert [row.get("failed") for row in rows] == [None] * 4 + ["the measurement failed: no compiler", None]
