"""The configuration of a run: YAML in, frozen dataclasses out."""

import difflib
import types
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hf_lrcompress.demo.texts import DEMO
from hf_lrcompress.messages import check_settings, named, noted, refuse, shown
from hf_lrcompress.models.identity import directory_name
from hf_lrcompress.run.licences import check_license_name
from hf_lrcompress.run.yaml_files import values_in
from hf_lrcompress.stages import DEFAULT_STAGES, STAGES, Stage
from hf_lrcompress.stages.inputs import EXAMPLES, OBJECTIVES
from hf_lrcompress.texts.corpus import CorpusSource
from hf_lrcompress.texts.languages import Language

KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list",
    Sequence: "a list",
    types.NoneType: "null",
}
"""What a user calls the types of values."""

PLAIN_KEYS = ("teacher", "teacher_revision", "objective", "examples", "block_size", "seed", "license", "trust_remote_code")


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes.

    Args:
        language ([`Language`]): The target language.
        teacher (`str`): Hub id or directory of a multilingual encoder, or `"demo"`; for masked LM with its head.
        train, validation ([`CorpusSource`] or `"demo"`): The texts.
        stages (`Mapping[str, Stage]`): The stages to run and their settings, in order.
        training (`Mapping`): Training arguments of all stages.
        objective (`str`, *optional*, defaults to `"masked_lm"`): Or `"representation"`, without a head: for e5, LaBSE, gte.
        examples (`str`, *optional*, defaults to `"blocks"`):
            What a training example is: `"blocks"` of `block_size` tokens that documents are packed into, or `"documents"` as they
            are, cut off at `block_size` tokens, for encoders of sentences.
        teacher_revision (`str`, *optional*): Git revision of the teacher on the Hub.
        block_size (`int`, *optional*, defaults to 512): Tokens of a training example.
        seed (`int`, *optional*, defaults to 42): Seeds everything that is random.
        license (`str`, *optional*): Licence of the model that is made, as the Hub names it (`"mit"`); by default the teacher's.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run the teacher's code, if transformers has none.
        further_languages (`tuple[Language, ...]`, *optional*): Languages whose texts are in `trim_vocab.also`.
    """

    language: Language
    teacher: str
    train: CorpusSource | str
    validation: CorpusSource | str
    stages: Mapping[str, Stage]
    training: Mapping[str, Any]
    objective: str = "masked_lm"
    examples: str = "blocks"
    teacher_revision: str | None = None
    block_size: int = 512
    seed: int = 42
    license: str | None = None
    trust_remote_code: bool = False
    further_languages: tuple[Language, ...] = ()

    def __post_init__(self) -> None:
        for key, allowed in (("objective", OBJECTIVES), ("examples", EXAMPLES)):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key} must be {' or '.join(allowed)}, got {shown(getattr(self, key))}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}, got {self.seed}")
        if self.license is not None:
            check_license_name(self.license)

    @classmethod
    def from_mapping(
        cls, mapping: Mapping[str, Any], language: Language, further_languages: tuple[Language, ...] = ()
    ) -> "RunConfig":
        """Build from a parsed YAML file.

        Raises:
            ValueError: If a key is unknown or missing, a value has the wrong type, or a setting is an access token; all that is
                wrong is named at once.
        """
        check_settings(values_in(mapping))
        known = {field.name for field in fields(cls)} - {"language", "further_languages"} | set(STAGES)
        found = [f"the configuration has no {key!r}" for key in ("teacher", "train", "validation") if key not in mapping]
        with noted(found):
            _check_keys(mapping, known, "the configuration")
        config: dict[str, Any] = {key: mapping[key] for key in PLAIN_KEYS if key in mapping}
        config |= {"language": language, "further_languages": further_languages}
        config |= {"stages": {}, "training": mapping.get("training") or {}}
        for key in ("train", "validation"):
            config[key] = DEMO
            with noted(found):
                config[key] = _source(mapping.get(key, DEMO), key, language)
        names = mapping.get("stages", list(DEFAULT_STAGES))
        with noted(found):
            _check_stages(names)
            for name in names:
                with noted(found):
                    config["stages"][name] = build(STAGES[name], mapping.get(name) or {}, name)
            for name in sorted(mapping.keys() & (STAGES.keys() - set(names))):
                with noted(found):
                    build(STAGES[name], mapping[name] or {}, name)  # though it is not run, a typo in it is one
        with noted(found):
            run = build(cls, {"teacher": DEMO} | config, "the configuration")
        refuse(found)
        return run

    def to_mapping(self) -> dict[str, Any]:
        """The configuration as YAML would have it: [`RunConfig.from_mapping`] of it is equal to this one."""
        plain = {
            "teacher": self.teacher,
            "teacher_revision": self.teacher_revision,
            "objective": self.objective,
            "examples": self.examples,
            "train": _unbuilt(self.train),
            "validation": _unbuilt(self.validation),
            "block_size": self.block_size,
            "seed": self.seed,
            "license": self.license,
            "trust_remote_code": self.trust_remote_code,
            "stages": list(self.stages),
            "training": dict(self.training),
        }
        return plain | {name: _unbuilt(stage) for name, stage in self.stages.items()}

    @cached_property  # what is a directory when the run is planned stays one in its report
    def base_model(self) -> str | None:
        """The teacher's Hub id, which may have no `ORG/`; `None` if the teacher is a directory."""
        if self.teacher == DEMO:
            return "intfloat/multilingual-e5-small"
        return None if Path(self.teacher).is_dir() else self.teacher

    @property
    def teacher_name(self) -> str:
        """The teacher as a report names it: its Hub id, or the name of its directory."""
        return self.base_model or directory_name(Path(self.teacher))

    @property
    def languages(self) -> dict[str, Any]:
        """The languages as a report has them; no stage depends on them where texts are files."""
        return {"language": self.language.tag, "further_languages": [language.tag for language in self.further_languages]}

    @property
    def machine_written(self) -> bool:
        """Whether the text is the demo's, so that no score means anything."""
        return DEMO in (self.train, self.validation)


def build(cls: type, mapping: Mapping[str, Any], where: str) -> Any:
    """Make a dataclass from a mapping, with unknown keys and wrong types refused, all that there are."""
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{where} must be a section of key: value lines, got {shown(mapping)}")
    types_of = get_type_hints(cls)
    hints = {field.name: types_of[field.name] for field in fields(cls)}
    found: list[str] = []
    with noted(found):
        _check_keys(mapping, hints, where)
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in required if name not in mapping]
    if missing:
        found.append(f"{where} lacks {', '.join(missing)}")
    typed = {}
    for key in filter(hints.__contains__, mapping):
        with noted(found):
            typed[key] = _typed(mapping[key], hints[key], f"{where}: {key}")
    refuse(found)
    with named(where) if cls is CorpusSource else nullcontext():  # the others name themselves
        return cls(**typed)


def _typed(value: Any, hint: Any, where: str) -> Any:
    """A value, and all in it, as the type `hint` has it."""
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_typed(item, get_args(hint)[0], where) for item in value)
    if origin is Mapping and isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has a key {shown(key)}, which is no text; put it in quotes")
        return {key: _typed(item, get_args(hint)[1], f"{where}.{key}") for key, item in value.items()}
    allowed = get_args(hint) if origin is types.UnionType else (hint,)
    if float in allowed and type(value) is int:
        return _as_float(value, where)
    classes = tuple(get_origin(kind) or kind for kind in allowed)
    if not isinstance(value, classes) or (isinstance(value, bool) and bool not in classes):
        kinds = " or ".join(KINDS.get(kind, "a section") for kind in classes)
        raise ValueError(f"{where} must be {kinds}, got {shown(value)}")
    return value


def _as_float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{where} is larger than any number that can be computed with") from None


def _source(value: Any, where: str, language: Language) -> CorpusSource | str:
    if value == DEMO:
        return DEMO
    if isinstance(value, Mapping):
        value = {key: language.named_in(item) for key, item in value.items()}
    return build(CorpusSource, value, where)


def _unbuilt(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return {key: list(item) if isinstance(item, tuple) else item for key, item in asdict(value).items()}


def _check_stages(names: Any) -> None:
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not texts or not names or len(set(names)) != len(names):
        raise ValueError(f"stages must be a list of different stage names, got {shown(names)}")
    for name in names:
        _check_known(name, STAGES, "stage")
    if not any(STAGES[name].makes_model for name in names):
        raise ValueError(f"stages: there is none that makes a model; for the teacher itself: hf-lrcompress {names[0]}")
    final = next((index for index, name in enumerate(names) if STAGES[name].of_final_model), len(names))
    after = [name for name in names[final:] if STAGES[name].makes_model]
    if after:
        raise ValueError(f"stages: {names[final]} is of the final model; put it after {after[-1]}")


def _check_keys(mapping: Mapping[str, Any], known: Any, where: str) -> None:
    found: list[str] = []
    for key in mapping:
        with noted(found):
            _check_known(key, known, f"key in {where}")
    refuse(found)


def _check_known(name: Any, known: Any, what: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(str(name)[:40], list(known), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known))}"
        raise ValueError(f"unknown {what}: {shown(name)}; {hint}")
