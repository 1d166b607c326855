"""What sentence-transformers has beside an encoder (pooling, prompts, …): read from a teacher, written for a student."""

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
from safetensors.torch import load_file, save
from transformers.utils import cached_file

from hf_lrcompress.files import read_object
from hf_lrcompress.messages import is_unreachable, shown

logger = logging.getLogger(__name__)

MODULES_FILE = "modules.json"
SETTINGS_FILES = ("config_sentence_transformers.json", "sentence_bert_config.json")
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FITTED_KINDS = ("Transformer", "Pooling", "Dense", "Normalize")
POOLING_MODES = (["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"], ["mean"], ["cls"])
"""The one mode of a pooling, as sentence-transformers up to 5.6 and from 5.7 on has it."""
POOLING_SIZES = ("word_embedding_dimension", "embedding_dimension")
FOLDER_NAME = r"[\w-]*"
"""What a module's folder may be called: it lies inside the model's."""
ADVICE = "download or save the model again"


@dataclass(frozen=True)
class SentenceModule:
    """One of the modules that a text goes through.

    Args:
        path (`str`): Its folder inside the model's.
        type (`str`): Its class, as `modules.json` has it.
        config (`Mapping`, *optional*): Its settings; the encoder's own are elsewhere.
        weights (`Mapping[str, torch.Tensor]`, *optional*): Its weights, where it has some.
    """

    path: str
    type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its class without the place it is imported from."""
        return self.type.rpartition(".")[2]

    @property
    def type_for_all(self) -> str:
        """Its class as sentence-transformers 5 and 6 find it; 6 itself names a place that 5 has not."""
        own = self.type.startswith("sentence_transformers.")
        return f"sentence_transformers.models.{self.kind}" if own else self.type


@dataclass(frozen=True)
class SentenceModules:
    """All modules of a sentence-transformers model.

    Args:
        modules (`tuple[SentenceModule, ...]`): In order; the encoder is the first.
        settings (`Mapping[str, Any]`, *optional*): Contents of the settings files (prompts, maximum length) by name.
    """

    modules: tuple[SentenceModule, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_dense(self) -> bool:
        """Whether a module has weights that must fit the encoder's hidden size."""
        return any(module.kind == "Dense" for module in self.modules)

    @property
    def pooling(self) -> str:
        """`"cls"` where a sentence is its first token, otherwise `"mean"`."""
        return "cls" if any(_takes_first(module.config) for module in self.modules) else "mean"


def _takes_first(pooling: Mapping[str, Any]) -> bool:
    """Whether a pooling takes the first token; sentence-transformers up to 5.6 and from 5.7 on say it differently."""
    return pooling.get("pooling_mode") == "cls" or bool(pooling.get("pooling_mode_cls_token"))


def mean_pooling(hidden_size: int, prompts: Mapping[str, str] | None = None) -> SentenceModules:
    """Mean over tokens, then normalised: what a teacher without files of its own gets.

    Args:
        hidden_size (`int`): The encoder's.
        prompts (`Mapping[str, str]`, *optional*): What is put before a text, by the name of the prompt.
    """
    pooling = {"word_embedding_dimension": hidden_size, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    modules = (
        SentenceModule("", "sentence_transformers.models.Transformer"),
        SentenceModule("1_Pooling", "sentence_transformers.models.Pooling", pooling),
        SentenceModule("2_Normalize", "sentence_transformers.models.Normalize"),
    )
    settings = {SETTINGS_FILES[0]: {"prompts": dict(prompts)}} if prompts else {}
    return SentenceModules(modules, settings)


def read_modules(name_or_dir: str, revision: str | None = None) -> SentenceModules | None:
    """The modules of a sentence-transformers model; `None` if it is none.

    Args:
        name_or_dir (`str`): Hub id or directory.
        revision (`str`, *optional*): Git revision on the Hub.

    Raises:
        ValueError: If it has a module that cannot be fitted to another encoder, or texts are changed before its tokenizer.
    """
    listed = _read_json(name_or_dir, MODULES_FILE, revision)
    if listed is None:
        return None
    modules = []
    for entry in _checked_modules(listed, name_or_dir):
        module = SentenceModule(entry["path"], entry["type"])
        if module.kind not in FITTED_KINDS:
            unfit = f"a module {module.kind}, which cannot be fitted to a smaller encoder"
            raise ValueError(f"{name_or_dir} has {unfit}; only {', '.join(FITTED_KINDS)} can")
        modules.append(_with_files(module, name_or_dir, revision) if module.path else module)
    _check_pooling(modules, name_or_dir)
    settings = {name: _read_json(name_or_dir, name, revision) or {} for name in SETTINGS_FILES}
    _take_out_what_changes_texts(settings, name_or_dir)
    return SentenceModules(tuple(modules), {name: content for name, content in settings.items() if content})


def _take_out_what_changes_texts(settings: Mapping[str, dict[str, Any]], name_or_dir: str) -> None:
    """Of the settings files: students learn from texts as they are."""
    of_library, of_transformer = (settings[name] for name in SETTINGS_FILES)
    if prompt := of_library.pop("default_prompt_name", None):
        logger.warning("%s puts its prompt %r before every text; a student does where it is asked for", name_or_dir, prompt)
    if of_transformer.get("do_lower_case"):
        raise ValueError(f"{name_or_dir} has do_lower_case in {SETTINGS_FILES[1]}; set it to false, and let the tokenizer do it")


def _check_pooling(modules: list[SentenceModule], name_or_dir: str) -> None:
    """Refuse what is not the mean of the tokens or the first, which is what losses, similarities and [`fit_dense`] have."""
    modes = []
    for module in modules:
        if module.kind == "Pooling":
            modes += [key for key, value in module.config.items() if key.startswith("pooling_mode_") and value is True]
            modes += [value for key, value in module.config.items() if key == "pooling_mode"]
    if modes not in POOLING_MODES:
        named = ", ".join(map(str, modes)) or "nothing"
        raise ValueError(f"{name_or_dir} pools by {named}; only the mean of the tokens and the first of them can be copied")
    if [module.kind for module in modules].count("Dense") > 1:
        raise ValueError(f"{name_or_dir} has several Dense layers; only one can be fitted")


def module_files(modules: SentenceModules, hidden_size: int) -> dict[str, bytes]:
    """The files to put beside an encoder: content by path.

    Args:
        modules ([`SentenceModules`]): The modules; a Dense layer is fitted already, see [`fit_dense`].
        hidden_size (`int`): The encoder's.
    """
    listed = []
    files = {}
    for index, module in enumerate(modules.modules):
        listed.append({"idx": index, "name": str(index), "path": module.path, "type": module.type_for_all})
        config = dict(module.config)
        if module.kind == "Pooling":
            config |= {key: hidden_size for key in POOLING_SIZES if key in config}
        if config:
            files[f"{module.path}/{CONFIG_FILE}"] = _json(config)
        if module.weights:
            files[f"{module.path}/{WEIGHTS_FILE}"] = save(dict(module.weights))
    for name, content in modules.settings.items():
        files[name] = _json(content)
    return files | {MODULES_FILE: _json(listed)}


def module_folders(directory: Path) -> list[Path]:
    """The folders of modules beside an encoder; none where their list cannot be read, which [`read_modules`] refuses."""
    names: set[str] = set()
    with suppress(OSError, ValueError, TypeError, KeyError):
        listed = json.loads((directory / MODULES_FILE).read_text(encoding="utf-8"))
        names = {entry["path"] for entry in listed if re.fullmatch(FOLDER_NAME, entry["path"])}
    return [directory / name for name in sorted(names) if name and (directory / name).is_dir()]


def names_of_module_files(directory: Path) -> set[str]:
    """Paths of the files that [`module_files`] may have put beside an encoder."""
    folders = [folder.name for folder in module_folders(directory)]
    own = {f"{folder}/{name}" for folder in folders for name in (CONFIG_FILE, WEIGHTS_FILE)}
    return own | {MODULES_FILE, *SETTINGS_FILES}


def _checked_modules(listed: Any, name_or_dir: str) -> list[Mapping[str, str]]:
    """The entries of `modules.json`, once their folders are known to lie inside the model's: files are written to them."""
    advice = f"{name_or_dir}: {MODULES_FILE} must be a list of modules, each with a type and the path of a folder beside it"
    if not isinstance(listed, list):
        raise ValueError(advice)
    for entry in listed:
        texts = isinstance(entry, Mapping) and [entry.get("path"), entry.get("type")]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(advice)
        if not re.fullmatch(FOLDER_NAME, entry["path"]):
            raise ValueError(f"{advice}, got {shown(entry['path'])}")
    return listed


def _with_files(module: SentenceModule, name_or_dir: str, revision: str | None) -> SentenceModule:
    config = _read_json(name_or_dir, f"{module.path}/{CONFIG_FILE}", revision) or {}
    weights = _find(name_or_dir, f"{module.path}/{WEIGHTS_FILE}", revision) if module.kind == "Dense" else None
    if module.kind == "Dense" and weights is None:
        raise ValueError(f"{name_or_dir}: {module.path} has no {WEIGHTS_FILE}; save it again with a recent sentence-transformers")
    return replace(module, config=config, weights=load_file(weights) if weights else {})


def _find(name_or_dir: str, file: str, revision: str | None) -> str | None:
    """Where a file is; `None` where there is none, or where nobody can say."""
    path = None
    try:
        path = cached_file(name_or_dir, file, revision=revision, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        if not is_unreachable(error):
            raise
    if path is None and file == MODULES_FILE and not _is_known_to_lack(name_or_dir, file, revision):
        logger.warning("whether %s has a %s is not known, the Hub cannot be reached: mean pooling is taken", name_or_dir, file)
    return path


def _is_known_to_lack(name_or_dir: str, file: str, revision: str | None) -> bool:
    """Whether a directory has no such file, or the Hub has said so of a repository."""
    return Path(name_or_dir).is_dir() or try_to_load_from_cache(name_or_dir, file, revision=revision) is _CACHED_NO_EXIST


def _read_json(name_or_dir: str, file: str, revision: str | None) -> Any:
    path = _find(name_or_dir, file, revision)
    if path is None:
        return None
    if file != MODULES_FILE:
        return read_object(Path(path), ADVICE)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is damaged, it holds no JSON; {ADVICE}") from None


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
