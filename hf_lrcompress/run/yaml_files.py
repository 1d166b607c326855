"""Finding and reading YAML: 1.2's scalars, no key twice, and no alias that stands for billions of values."""

import difflib
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from hf_lrcompress.messages import shown

MOST_VALUES = 10_000
"""Values of a configuration; an alias counts as what it stands for, so that a few lines cannot stand for billions."""


_CONFIGS = Path(__file__).parents[1] / "configs"
CONFIGURATIONS = {path.stem: path for path in sorted(_CONFIGS.glob("*.yaml"))}
"""The package's own configurations, by name."""
STUDIES = {path.stem: path for path in sorted((_CONFIGS / "studies").glob("*.yaml"))}
"""The package's own studies, by name."""


def find_configuration(name: str | Path) -> Path:
    """The file of a configuration: one of the package's own by its name, any other by its path.

    Raises:
        FileNotFoundError: If it is neither.
    """
    return _find("configuration", name, CONFIGURATIONS)


def find_study(name: str | Path) -> Path:
    """The file of a study, as [`find_configuration`]."""
    return _find("study", name, STUDIES)


def _find(kind: str, name: str | Path, own: Mapping[str, Path]) -> Path:
    path = own.get(str(name)) or Path(name)
    if path.is_file():
        return path
    close = difflib.get_close_matches(path.stem, own, n=1)
    hint = f"did you mean {close[0]}?" if close else f"give a YAML file, or one of {', '.join(own)}"
    raise FileNotFoundError(f"{kind} {name} does not exist; {hint}")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML 1.2 file: `5e-5` is a number and `no` is a string.

    Raises:
        ValueError: If it is not UTF-8 or no YAML mapping, or has a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    mapping = parse_yaml(text, str(path))
    if not isinstance(mapping, dict):
        raise ValueError(f"{path} must be a YAML mapping (key: value lines)")
    return mapping


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML 1.2 text; `where` is named in the error."""
    try:
        value = yaml.load(text, Loader=_CoreSchemaLoader)  # nosec B506  # made of SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    if sum(1 for _ in islice(values_in(value), MOST_VALUES + 1)) > MOST_VALUES:
        raise ValueError(f"{where} has more than {MOST_VALUES:,} values, aliases written out; give a smaller file")
    return value


def values_in(value: Any) -> Iterator[Any]:
    """A parsed value and all in it, each as often as it is meant."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, Mapping):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value


def override(mapping: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of `mapping` in which the dotted `key` has `value`."""
    if not isinstance(key, str):
        raise ValueError(f"{shown(key)} is no key of a configuration; give one such as training.alpha")
    head, _, rest = key.partition(".")
    if not rest:
        return dict(mapping) | {head: value}
    inner = mapping.get(head) or {}
    if not isinstance(inner, Mapping):
        raise ValueError(f"--set {key}: {head!r} is not a section")
    return dict(mapping) | {head: override(inner, rest, value)}


class _CoreSchemaLoader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2's core schema, and its rule that a key is there once: PyYAML takes the last."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":int", ":float", ":timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise yaml.YAMLError(f"key {key.value!r} in line {line} is also in line {lines[key.value]}; keep one")
                lines[key.value] = line
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """A whole number: `042` is 42, which PyYAML takes for octal; `40_000` may be written so."""
        text = self.construct_scalar(node)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)


_CoreSchemaLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_CoreSchemaLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_CoreSchemaLoader.add_constructor("tag:yaml.org,2002:int", _CoreSchemaLoader.construct_integer)
_CoreSchemaLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)|\.[0-9]+|[0-9]+\.[0-9]*|\.(?:inf|nan))$"),
    list("-+0123456789."),
)
