"""Several target languages: the run is for the first, and the vocabulary keeps what the others need too."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_lrcompress.demo.texts import DEMO, save_demo_text
from hf_lrcompress.stages import DEFAULT_STAGES
from hf_lrcompress.texts.languages import Language

STAGE = "trim_vocab"


def read_languages(tags: str) -> tuple[Language, ...]:
    """The languages of tags separated by commas.

    Raises:
        ValueError: If a tag is none or blank, or a language is there twice.
    """
    if "" in map(str.strip, tags.split(",")):
        raise ValueError(f"--lang {tags} has a comma with no language beside it; give tags such as sk or sk,en")
    languages = tuple(Language.from_tag(tag.strip()) for tag in tags.split(","))
    for position, language in enumerate(languages):
        if language in languages[:position]:
            raise ValueError(f"--lang {tags} names {language.name} twice; name each language once")
    return languages


def with_languages(mapping: dict[str, Any], languages: Sequence[Language]) -> dict[str, Any]:
    """A configuration whose `trim_vocab.also` has a text in each of these languages.

    It is the training text's data set in that language, with weight 1, where the section says nothing else.

    Args:
        mapping (`dict[str, Any]`): A configuration as YAML has it; not changed.
        languages (`Sequence[Language]`): The languages besides the run's own.

    Raises:
        ValueError: If there is no stage that trims the vocabulary, or no text in a language is known.
        ImportError: If the demo's text is not installed.
    """
    section = mapping.get(STAGE) or {}
    also = section.get("also") or {} if isinstance(section, Mapping) else None
    stages = mapping.get("stages", list(DEFAULT_STAGES))
    if not languages or not isinstance(also, Mapping) or not isinstance(stages, list):  # refused with all else
        return mapping
    if STAGE not in stages:
        raise ValueError(f"--lang names several languages, which only {STAGE} keeps apart; add that stage, or name one language")
    texts = {language.tag: _text(mapping.get("train"), language, also.get(language.tag) or {}) for language in languages}
    return {**mapping, STAGE: {**section, "also": {**also, **texts}}}


def _text(train: Any, language: Language, given: Any) -> Any:
    """The text to count in a language, and its weight."""
    if not isinstance(given, Mapping):
        return given
    given = {"weight": 1, **given}
    if given.keys() & {"files", "path"}:
        return given
    if train == DEMO:
        return {"files": [str(save_demo_text(language)[0])], **given}
    named = {key: language.named_in(value) for key, value in train.items()} if isinstance(train, Mapping) else train
    if named == train:
        example = f"--set {STAGE}.also.{language.tag}.files=[{language.tag}.txt]"
        raise ValueError(f"no text in {language.name} is known; give one, such as {example}")
    return {**named, **given}
