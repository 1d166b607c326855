"""Where a model comes from: its config, weights, fast tokenizer, and code of its own where the user trusts it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EINVAL
from json import JSONDecodeError
from pickle import UnpicklingError  # nosec B403  # the error alone
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import (
    CONFIG_NAME,
)

from hf_lrcompress.messages import one_line, shown
from hf_lrcompress.models.architectures import write_transformers_4_keys
from hf_lrcompress.models.config_file import check_sizes, read_config_file, use_runtime_settings
from hf_lrcompress.models.rebuilding import drop_pooler
from hf_lrcompress.models.weights import check_weights, in_encoder

OWN_CODE_TAG = "custom_code"
"""The Hub's tag of models that bring their code."""
DAMAGE = (SafetensorError, LookupError, TypeError, AttributeError, UnicodeError, JSONDecodeError, UnpicklingError, EOFError)
"""What transformers raises at weights, or an index of them, that it cannot read."""
SAID_OF_DAMAGE = ("PytorchStreamReader", "Unable to load weights")
"""What torch and transformers 4 say of it in errors that may mean something else."""


def load_config(name_or_dir: str, revision: str | None = None, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load a model's config.

    A model type that transformers has is loaded with the classes of transformers, whatever code the model brings. The classes
    of another one are the model's own, with `trust_remote_code`: from then on all Auto classes of this process know the type, and
    `save_pretrained` puts its code beside the weights. Keys that only say how a model is called have no effect.

    Args:
        name_or_dir (`str`): Hub id or directory.
        revision (`str`, *optional*): Git revision on the Hub, of weights and code.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether the model's own code may be run.

    Raises:
        ValueError: If transformers has no class for the model type, and the model brings none or may not run it; if no model can
            be made of the config.
        OSError: If the config cannot be read.
    """
    raw = read_config_file(name_or_dir, revision)
    model_type: Any = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        auto_map = raw["auto_map"] if isinstance(raw.get("auto_map"), dict) else {}
        unknown = f"transformers {transformers.__version__} has no class for model type {shown(model_type)}"
        if "AutoConfig" not in auto_map:
            raise ValueError(f"{name_or_dir}: {unknown}; choose another model, or install a transformers that has it")
        if not trust_remote_code:
            raise ValueError(
                f"{name_or_dir} needs code of its own, which is not run unless you trust it ({unknown}); "
                "read the code, then give --trust_remote_code"
            )
        _register(model_type, auto_map, name_or_dir, revision)
    try:
        config = AutoConfig.from_pretrained(name_or_dir, revision=revision, trust_remote_code=False)
    except (AttributeError, TypeError, StrictDataclassError) as error:
        raise ValueError(f"{name_or_dir}: {CONFIG_NAME} has a value that cannot be: {error}") from error
    check_sizes(config, name_or_dir)
    use_runtime_settings(config)
    return config


def has_own_code(config: PretrainedConfig) -> bool:
    """Whether a config's class is the model's own, not one of transformers."""
    return not type(config).__module__.startswith("transformers.models.")


def detach_from_repository(config: PretrainedConfig) -> None:
    """Let a config name the code that `save_pretrained` puts beside it, in place: not the repository it was loaded from.

    With a class of transformers it names none.
    """
    auto_map = vars(config).pop("auto_map", None)
    if auto_map and has_own_code(config):
        config.auto_map = {name: reference.rpartition("--")[2] for name, reference in auto_map.items()}


def _register(model_type: str, auto_map: Mapping[str, str], name_or_dir: str, revision: str | None) -> None:
    """Tell the Auto classes which classes a model brings."""
    config_class: Any = get_class_from_dynamic_module(auto_map["AutoConfig"], name_or_dir, revision=revision)
    config_class.register_for_auto_class()
    AutoConfig.register(model_type, config_class)
    for name, reference in auto_map.items():
        if name.startswith("AutoModel"):
            model_class: Any = get_class_from_dynamic_module(reference, name_or_dir, revision=revision)
            model_class.register_for_auto_class(name)
            getattr(transformers, name).register(config_class, model_class)


def load_masked_lm(name_or_dir: str, revision: str | None = None, new_head_seed: int | None = None) -> PreTrainedModel:
    """Load a masked LM in fp32; every weight must be in the checkpoint.

    Args:
        name_or_dir (`str`): Hub id or directory.
        revision (`str`, *optional*): Git revision on the Hub.
        new_head_seed (`int`, *optional*): Draw the head from this seed, for a checkpoint that has none.

    Raises:
        ValueError: If the checkpoint has no masked-LM head, or has one in spite of a seed; if it lacks other weights, or they are
            not those of its config.
    """
    with torch.random.fork_rng(devices=[]):
        if new_head_seed is not None:
            torch.manual_seed(new_head_seed)
        model, missing = _load(AutoModelForMaskedLM, name_or_dir, revision)
    of_encoder = [name for name in missing if in_encoder(model, name)]
    if new_head_seed is None and missing and not of_encoder:
        raise ValueError(
            f"{_lacks(model, missing, name_or_dir)}; choose a checkpoint that was saved with its masked-LM head, train a new one "
            "(adapt_teacher.new_head: true), or set objective: representation, which needs none"
        )
    _check_complete(model, of_encoder, name_or_dir)
    if new_head_seed is not None and not missing:
        raise ValueError(f"{name_or_dir} has its masked-LM head, so it needs no new_head; leave that out")
    return model


def load_encoder(name_or_dir: str, revision: str | None = None) -> PreTrainedModel:
    """Load an encoder in fp32, without a head and without a pooler; every weight must be in the checkpoint.

    Args:
        name_or_dir (`str`): Hub id or directory, of a checkpoint with or without a head.
        revision (`str`, *optional*): Git revision on the Hub.

    Raises:
        ValueError: If the checkpoint lacks weights of the encoder, or they are not those of its config.
    """
    model, missing = _load(AutoModel, name_or_dir, revision)
    drop_pooler(model)
    _check_complete(model, [name for name in missing if not name.startswith("pooler.")], name_or_dir)
    return model


def _load(auto_class: Any, name_or_dir: str, revision: str | None) -> tuple[PreTrainedModel, list[str]]:
    """A model in fp32, and the names of the weights that its checkpoint lacks."""
    config = load_config(name_or_dir, revision)
    try:
        with damage_named(name_or_dir):
            model, info = auto_class.from_pretrained(
                name_or_dir, config=config, revision=revision, dtype=torch.float32, output_loading_info=True
            )
    except RuntimeError as error:
        if "mismatch" not in str(error) and "alloc" not in str(error):
            raise
        raise ValueError(
            f"{name_or_dir}: the weights have other sizes than {CONFIG_NAME} says, or there is too little memory for them; "
            "take both from one checkpoint"
        ) from error
    check_weights(model, info["unexpected_keys"], name_or_dir)
    write_transformers_4_keys(model.config)
    detach_from_repository(model.config)
    return model, sorted(info["missing_keys"])


@contextmanager
def damage_named(name_or_dir: str) -> Iterator[None]:
    """Raise a `ValueError` that names a model for what the block raises at damaged weights, or a damaged index of them."""
    try:
        yield
    except (*DAMAGE, RuntimeError, OSError) as error:
        is_damage = getattr(error, "errno", None) == EINVAL or any(words in str(error) for words in SAID_OF_DAMAGE)
        if isinstance(error, RuntimeError | OSError) and not is_damage:
            raise
        said = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"the weights of {name_or_dir} are damaged ({said}); download or save them again") from error


def _check_complete(model: PreTrainedModel, missing: list[str], name_or_dir: str) -> None:
    if missing:
        raise ValueError(f"{_lacks(model, missing, name_or_dir)}; choose a complete checkpoint")


def _lacks(model: PreTrainedModel, missing: list[str], name_or_dir: str) -> str:
    return f"{name_or_dir} lacks {len(missing)} weights of {type(model).__name__} (such as {missing[0]})"
