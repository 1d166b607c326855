"""Tiny models of every supported family, with randomised biases and norms (a zero bias hides a wrong row)."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from hf_lrcompress.architectures import ARCHITECTURES

MODEL_TYPES = [name for architecture in ARCHITECTURES for name in architecture.model_types]
SIZES = {
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 36,
    "max_position_embeddings": 40,
}


def tiny_config(model_type: str, **changes) -> PretrainedConfig:
    return AutoConfig.for_model(model_type, **SIZES | changes)


def randomise(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.2 if parameter.ndim == 1 else 0.5 / parameter.shape[-1] ** 0.5
            parameter.normal_(std=scale, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter += 1
    return model


def tiny_model(model_type: str, seed: int = 0, **changes) -> PreTrainedModel:
    """A masked LM in eval mode."""
    return randomise(AutoModelForMaskedLM.from_config(tiny_config(model_type, **changes)), seed).eval()


@pytest.fixture(autouse=True)
def own_precision(monkeypatch):
    """TrainingArguments with bf16 leave their precision in the environment for all that come after."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")


@pytest.fixture(params=MODEL_TYPES)
def model_type(request) -> str:
    return request.param


@pytest.fixture
def model(model_type) -> PreTrainedModel:
    return tiny_model(model_type)


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    """Two sequences, the second padded at the end."""
    ids = torch.randint(5, 101, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def real_data() -> Path:
    """The folder of real data; the test is skipped where there is none."""
    if "LRCOMPRESS_DATA" not in os.environ:
        pytest.skip("LRCOMPRESS_DATA, the folder of real data, is not set")
    return Path(os.environ["LRCOMPRESS_DATA"])


def logits_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits at the tokens that are not padding."""
    with torch.no_grad():
        return model(**inputs).logits[inputs["attention_mask"].bool()]
