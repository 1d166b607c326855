"""The file `config.json` of a model: what no model can be made of is refused before a class is built from it."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from transformers import PretrainedConfig
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import CONFIG_NAME, cached_file

from hf_lrcompress.messages import is_unreachable, one_line, shown

MODEL_FILES = (".json", ".safetensors", ".bin", ".model", ".txt", ".py")
"""Endings of the files that config, weights, tokenizer and own code of a model are in."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the small file begins that Git has in place of a large one."""

ADAPTER_FILE = "adapter_config.json"
"""What peft has beside its weights."""

IF_IT_IS_THERE: dict[str, Any] = {
    "_raise_exceptions_for_gated_repo": False,
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
}

NOWHERE = re.compile("not a valid model identifier|Repo id must|Incorrect path_or_model_id")
"""What the libraries say of a model that is neither a directory nor on the Hub."""

LARGEST_NUMBER = 10_000_000
"""Of a config: above it no size, count or length of an encoder lies."""

LARGEST_COUNTS = {
    "num_hidden_layers": 200,
    "n_layers": 200,
    "num_layers": 200,
    "num_hidden_groups": 200,
    "inner_group_num": 200,
    "num_labels": 100_000,
}
"""The same for keys by which a class makes layers or names one after the other."""

IMPLEMENTATION = re.compile(r"_implementation(_internal)?$")
"""Keys that say which code computes attention; transformers takes a name with a slash for a repository with code to fetch."""

SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")

RUNTIME_SETTINGS: Mapping[str, Any] = {
    "return_dict": True,
    "output_hidden_states": False,
    "output_attentions": False,
    "chunk_size_feed_forward": 0,
    "torchscript": False,
    "_attn_implementation": None,
}
"""Keys that say how a model is called, not what it computes, and the values by which the stages call it."""


def read_config_file(name_or_dir: str, revision: str | None = None) -> dict[str, Any]:
    """The keys of a model's config file.

    Args:
        name_or_dir (`str`): Hub id or directory.
        revision (`str`, *optional*): Git revision on the Hub.

    Raises:
        ValueError: If a file is a pointer of Git LFS or no file at all, the directory is a Trainer's with checkpoints, it holds
            an adapter, heads are pruned, weights are quantised, a key names code to fetch or lets code run, or a value is not
            finite or larger than any model's.
        OSError: If the config cannot be read; a `ConnectionError` if the Hub cannot be reached.
    """
    directory = Path(name_or_dir)
    if directory.is_dir():
        _check_directory(directory)
    raw: Any = None
    try:
        adapter = cached_file(name_or_dir, ADAPTER_FILE, revision=revision, **IF_IT_IS_THERE)
        if not adapter:
            raw, _ = PretrainedConfig.get_config_dict(name_or_dir, revision=revision)
    except (TypeError, RecursionError):  # transformers 4, where the file holds something else; nested too deeply
        adapter = None
    except (OSError, HFValidationError) as error:  # the latter in transformers 4, of a path that is no name of the Hub's
        raise _no_model(name_or_dir, error) from error
    if adapter:  # with peft installed transformers would take the weights of the model that it names, whichever that is
        raise ValueError(f"{name_or_dir} holds an adapter ({ADAPTER_FILE}); merge it into its model, and leave that file out")
    if not isinstance(raw, dict):
        raise ValueError(f"{name_or_dir}: {CONFIG_NAME} must hold keys and values in braces")
    if raw.get("pruned_heads"):
        raise ValueError(f"{name_or_dir} lacks attention heads (pruned_heads in {CONFIG_NAME}); choose a model with all of them")
    if raw.get("quantization_config"):
        raise ValueError(f"{name_or_dir} is quantised (quantization_config in {CONFIG_NAME}); choose the model it was made of")
    for key, value in _entries(raw):
        _check_entry(key, value, f"{name_or_dir}: {key} in {CONFIG_NAME}")
    for key, value in raw.items():
        try:
            json.dumps(value, allow_nan=False, default=str)
        except ValueError:
            raise ValueError(f"{name_or_dir}: {key} in {CONFIG_NAME} is {value}; give it a finite number") from None
        if key.endswith("_eps") and isinstance(value, int | float) and value < 0:
            raise ValueError(f"{name_or_dir}: {key} in {CONFIG_NAME} is {value}; it must be above 0")
    return raw


def _no_model(name_or_dir: str, error: OSError | HFValidationError) -> OSError:
    """What to say of a config that cannot be read: which model has it, and what to do."""
    if Path(name_or_dir).exists():
        return OSError(f"{name_or_dir} holds no model: {one_line(error)}")
    if is_unreachable(error):
        return ConnectionError(f"the Hugging Face Hub cannot be reached to load {name_or_dir}, and there is no such directory")
    if "gated" in str(error).lower():
        page = f"https://huggingface.co/{name_or_dir}"
        return PermissionError(f"{name_or_dir} is gated: ask for access at {page}, then log in with hf auth login")
    if not NOWHERE.search(str(error)):  # the model is there, but not its revision, or its file is damaged
        return OSError(f"{name_or_dir}: {one_line(error)}")
    nowhere = f"there is no model {name_or_dir!r}, neither as a directory nor on the Hugging Face Hub"
    return FileNotFoundError(f"{nowhere} (if it is private: hf auth login)")


def check_sizes(config: PretrainedConfig, name_or_dir: str) -> None:
    """Raise a `ValueError` if a size of a config is no whole number from 1."""
    for key in SIZES:
        size = getattr(config, key, None)
        if size is not None and (type(size) is not int or size < 1):
            raise ValueError(f"{name_or_dir}: {key} in {CONFIG_NAME} must be a whole number, 1 or more, not {size!r}")


def use_runtime_settings(config: PretrainedConfig) -> None:
    """Set [`RUNTIME_SETTINGS`] in a config, in place, where it has others."""
    for key, value in RUNTIME_SETTINGS.items():
        if getattr(config, key, value) != value:
            setattr(config, key, value)


def _entries(raw: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a config with its value, at any depth."""
    waiting = [raw]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_entry(key: str, value: Any, where: str) -> None:
    """Refuse what would have code fetched and run, and a number by which a class would be built for hours."""
    if IMPLEMENTATION.search(key):
        for name in value.values() if isinstance(value, dict) else [value]:
            if name is not None and not re.fullmatch(r"\w+", str(name)):
                raise ValueError(f"{where} names code to fetch, {shown(name)}, which is never done; take the key out")
    if key == "trust_remote_code" and value:  # some classes of transformers 4 would believe it
        raise ValueError(f"{where} is for the user to say, not for a model; take the key out")
    most = LARGEST_COUNTS.get(key, LARGEST_NUMBER)
    if type(value) is int and value > most:
        raise ValueError(f"{where} is {shown(value)}, more than any model has ({most:,}); take the config of the weights")


def _check_directory(directory: Path) -> None:
    for path in [*directory.glob("*"), *directory.glob("*/*")]:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is no file, but a pipe or a device; delete it, or give a folder with a model only")
    for path in sorted(directory.iterdir()):
        if path.suffix in MODEL_FILES and path.is_file() and _begins_with(path, LFS_POINTER):
            raise ValueError(f"{path} is a Git LFS pointer, not the file itself; run git lfs pull in {directory}")
    checkpoints = [path.parent for path in directory.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{CONFIG_NAME}")]
    if checkpoints and not (directory / CONFIG_NAME).is_file():
        newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
        raise ValueError(f"{directory} is the folder of a Trainer, with no model but its checkpoints; name one, such as {newest}")
    if not any((directory / name).is_file() for name in (CONFIG_NAME, ADAPTER_FILE)):
        inside = directory / "model"
        meant = f"did you mean {inside}?" if (inside / CONFIG_NAME).is_file() else "give the folder of one"
        raise FileNotFoundError(f"{directory} holds no model ({CONFIG_NAME}); {meant}")


def _begins_with(path: Path, content: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(content)) == content
