"""Configs, and the code of model types that transformers does not have: run only where the user trusts it."""

from collections.abc import Mapping

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import CONFIG_NAME, cached_file, extract_commit_hash

from hf_lrcompress.models.architectures import write_keys_of_4

OWN_CODE_TAG = "custom_code"
"""The Hub's tag of models that bring their code."""


def load_config(name_or_dir: str, revision: str | None = None, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load a model's config.

    A model type that transformers has is loaded with the classes of transformers, whatever code the model brings. The classes
    of another one are the model's own, with `trust_remote_code`: from then on all Auto classes of this process know the type, and
    `save_pretrained` puts its code beside the weights.

    Args:
        name_or_dir (`str`): Hub id or directory.
        revision (`str`, *optional*): Git revision on the Hub, of weights and code.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether the model's own code may be run.

    Raises:
        ValueError: If transformers has no class for the model type, and the model brings none or may not run it.
        OSError: If the config cannot be read.
    """
    raw, _ = PretrainedConfig.get_config_dict(name_or_dir, revision=revision)
    model_type, auto_map = raw.get("model_type"), raw.get("auto_map") or {}
    if model_type not in CONFIG_MAPPING:
        unknown = f"transformers {transformers.__version__} has no class for model type {model_type!r}"
        if "AutoConfig" not in auto_map:
            raise ValueError(f"{name_or_dir}: {unknown}; choose another model, or install a transformers that has it")
        if not trust_remote_code:
            raise ValueError(
                f"{name_or_dir} needs code of its own, which is not run unless you trust it ({unknown}); "
                "read the code, then give --trust_remote_code"
            )
        _register(model_type, auto_map, name_or_dir, revision)
    return AutoConfig.from_pretrained(name_or_dir, revision=revision, trust_remote_code=False)


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
    config_class = get_class_from_dynamic_module(auto_map["AutoConfig"], name_or_dir, revision=revision)
    config_class.register_for_auto_class()
    AutoConfig.register(model_type, config_class)
    for name, reference in auto_map.items():
        if name.startswith("AutoModel"):
            model_class = get_class_from_dynamic_module(reference, name_or_dir, revision=revision)
            model_class.register_for_auto_class(name)
            getattr(transformers, name).register(config_class, model_class)


def load_masked_lm(name_or_dir: str, revision: str | None = None) -> PreTrainedModel:
    """Load a masked LM in fp32; every weight must be in the checkpoint.

    Raises:
        ValueError: If the checkpoint has no masked-LM head, or lacks other weights.
    """
    model, info = AutoModelForMaskedLM.from_pretrained(
        name_or_dir, revision=revision, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(
            f"{name_or_dir} lacks {len(missing)} weights of {type(model).__name__} (such as {missing[0]}); "
            "choose a checkpoint that was saved with its masked-LM head"
        )
    write_keys_of_4(model.config)
    detach_from_repository(model.config)
    return model


def hub_commit(hub_id: str, revision: str | None) -> str | None:
    """The commit of a model on the Hub. (A config of transformers 5 does not say which it was read from.)"""
    return extract_commit_hash(cached_file(hub_id, CONFIG_NAME, revision=revision), None)


def load_encoder(name_or_dir: str, revision: str | None = None) -> PreTrainedModel:
    """STAND-IN."""
    return AutoModel.from_pretrained(name_or_dir, revision=revision, dtype=torch.float32)


def load_tokenizer(name_or_dir: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """STAND-IN."""
    tokenizer = AutoTokenizer.from_pretrained(name_or_dir, revision=revision, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ValueError(f"{name_or_dir} has only a slow tokenizer; save it with a tokenizer.json first")
    return tokenizer


def model_identity(name_or_dir: str, revision: str | None = None):
    """STAND-IN."""
    from pathlib import Path

    from hf_lrcompress.files import file_hash

    if not Path(name_or_dir).is_dir():
        return [name_or_dir, hub_commit(name_or_dir, revision)]
    kinds = (".json", ".safetensors", ".bin", ".model", ".txt", ".py")
    files = sorted(path for path in Path(name_or_dir).iterdir() if path.suffix in kinds)
    return {path.name: file_hash(path) for path in files}
