"""What a checkpoint has, seen without loading it."""

import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
    has_file,
)

from hf_lrcompress.models.loading import damage_named, load_config
from hf_lrcompress.models.rebuilding import masked_lm_on_meta

WEIGHT_FILES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
"""In the order in which transformers looks for them."""


def has_masked_lm_head(name_or_dir: str, revision: str | None = None) -> bool:
    """Whether [`~loading.load_masked_lm`] would find the weights of the head; reads no weight, only their names.

    Args:
        name_or_dir (`str`): Hub id, whose weights are downloaded, or directory.
        revision (`str`, *optional*): Git revision on the Hub.

    Raises:
        ValueError: If transformers has no masked-LM class for the model type.
        OSError: If there are no weights.
    """
    model = masked_lm_on_meta(load_config(name_or_dir, revision))
    saved = _saved_names(name_or_dir, revision)
    names_of: dict[int, set[str]] = defaultdict(set)  # tied weights have several names, of which one is saved
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of[id(parameter)].add(name)
    encoder = f"{model.base_model_prefix}."
    head = [names for names in names_of.values() if not any(name.startswith(encoder) for name in names)]
    return all(names & saved for names in head)


def _saved_names(name_or_dir: str, revision: str | None) -> set[str]:
    """Names of the weights in a checkpoint. Those that TensorFlow named are renamed, as transformers does."""
    found = [file for file in WEIGHT_FILES if has_file(name_or_dir, file, revision=revision)]
    if not found:
        raise OSError(f"{name_or_dir} has none of {', '.join(WEIGHT_FILES)}; choose a model with weights")
    with damage_named(name_or_dir):
        names = _names_in(Path(cast(str, cached_file(name_or_dir, found[0], revision=revision))))
    return {name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias") for name in names}


def _names_in(path: Path) -> Iterable[str]:
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return file.keys()
    return torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
