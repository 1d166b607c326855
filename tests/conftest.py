"""Tiny models of every supported family, with randomised biases and norms (a zero bias hides a wrong row)."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import gc
import logging
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from hf_lrcompress import machine
from hf_lrcompress.models.architectures import ARCHITECTURES
from hf_lrcompress.workers import start_worker

FIND_SPEC = machine.find_spec
machine.find_spec = lambda name: None  # no energy but in its own tests: a meter takes longer to start than a tiny stage to run

RECIPES = Path(__file__).parent.parent / "recipes"

BEGUN_FIRST = (
    "test_killed_runs.py",
    "test_two_processes.py",
    "test_side_by_side.py",
    "test_quality_benchmark.py",
    "test_hub.py",
    "test_recipes.py",
    "test_corpus_counts.py",
    "test_scoring.py",
    "test_versions.py",
)
"""Files that take half a minute and more: begun last, one would keep one worker while the others have nothing left to do."""

SIZES = {
    "vocab_size": 101,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 36,
    "max_position_embeddings": 40,
}
MDEBERTA = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
DROPOUT = {"attention_dropout": 0.1, "mlp_dropout": 0.1}
SPECIAL_NAMES = ("pad", "bos", "eos", "cls", "sep", "mask")
SPECIAL = {f"{name}_token_id": i for i, name in enumerate(SPECIAL_NAMES)}
KEYS_OF_THEIR_OWN = {
    "albert": {"embedding_size": 16, "hidden_dropout_prob": 0.1},
    "deberta-v2": MDEBERTA,
    "distilbert": {"hidden_dim": 36, "dropout": 0.1},
    "electra": {"embedding_size": 16},
    "eurobert": {"num_key_value_heads": 1, "attention_dropout": 0.1, "mlp_bias": True, **SPECIAL},
    "modernbert": {
        "local_attention": 6,
        "global_attn_every_n_layers": 2,
        "global_rope_theta": 500.0,
        "local_rope_theta": 50.0,
        "norm_bias": True,
        **DROPOUT,
        **SPECIAL,
    },
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 20, "hidden_dropout_prob": 0.1},
}
VARIANTS = {
    "deberta-v2 convolution": {
        **MDEBERTA,
        "conv_kernel_size": 3,
        "attention_head_size": 8,
        "share_att_key": False,
        "position_biased_input": True,
        "type_vocab_size": 2,
    },
    "electra base": {"embedding_size": 24},
    "modernbert untied": {**KEYS_OF_THEIR_OWN["modernbert"], "tie_word_embeddings": False, "attention_bias": True},
}
"""What a row must be right about besides what its tiny model shows. The first word is the model type."""

SHARED_LAYERS = {"albert"}
COUNTS_FROM_PADDING = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"}
KEPT_LAYERS = {"modernbert": [0, 3], "deberta-v2": [0, 2]}
"""Where layers differ; elsewhere the first can go."""

ROWS = [name for row in ARCHITECTURES for name in row.model_types if name in CONFIG_MAPPING]
MODEL_TYPES = [*ROWS, *VARIANTS]
UNLIKE = ("bert", "albert", "deberta-v2", "modernbert", "xlm-roberta")
"""Families unlike each other: they are always walked through what takes seconds a family, the others by `make test-long`."""
EVERY_FAMILY = [
    family if family in UNLIKE else pytest.param(family, marks=pytest.mark.long)
    for family in ROWS
    if family not in ("roberta", "camembert")  # XLM-R by other names
]


def tiny_config(model_type: str, **changes) -> PretrainedConfig:
    own = VARIANTS.get(model_type) or KEYS_OF_THEIR_OWN.get(model_type, {})
    return AutoConfig.for_model(model_type.split()[0], **SIZES | own | changes)


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


def keep_two_layers(model: PreTrainedModel) -> list[int]:
    return KEPT_LAYERS.get(model.config.model_type, [1, 3])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items) -> None:
    items.sort(key=lambda item: item.path.name not in BEGUN_FIRST)


def pytest_collection_finish() -> None:
    """Every training collects garbage, and would look through all that was imported each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def started(monkeypatch):
    """The processes that an evaluation starts."""
    processes = []

    def start(*arguments, **settings):
        processes.append(start_worker(*arguments, **settings))
        return processes[-1]

    monkeypatch.setattr("hf_lrcompress.evaluation.jobs.start_worker", start)
    return processes


@pytest.fixture(scope="session")
def metric_modules(tmp_path_factory):
    """Where the library `evaluate` copies metrics to: one place a process, for it imports them as parts of one package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """TrainingArguments with bf16 leave their precision in the environment, also for fixtures and processes that come after."""
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache of `datasets` for the tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(autouse=True)
def own_log_level():
    """A command says how much is logged, in this process too."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


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
