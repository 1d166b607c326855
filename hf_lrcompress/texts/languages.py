"""Languages: a BCP-47 tag outside, and the code that each data set uses for the same language.

Data sets name *individual* languages (`swh`) where a tag names the macrolanguage (`sw`). Which one is meant comes from
CLDR's table in langcodes; the small tables below hold only what langcodes does not know.
"""

import re
from dataclasses import dataclass
from typing import Any

import langcodes
from langcodes.data_dicts import (
    DEFAULT_SCRIPTS,
    LANGUAGE_ALPHA3,
    LIKELY_SUBTAGS,
    MACROLANGUAGES,
    NORMALIZED_MACROLANGUAGES,
)

# CLDR names no individual language for Norwegian, two for Akan, and for the others not the one that has the data.
_CHOSEN = {"no": "nob", "ak": "twi", "ff": "fuv", "kok": "gom", "ps": "pbt", "qu": "quy"}
_INDIVIDUAL = {
    macro: individual
    for individual, macro in NORMALIZED_MACROLANGUAGES.items()
    if MACROLANGUAGES.get(individual) == macro and macro not in _CHOSEN
} | _CHOSEN
_MACRO = {individual: macro for macro, individual in _INDIVIDUAL.items()}

# Facts about the data sets, not about languages: where they do not name the individual language or its script.
_FLORES = {"cmn": "zho", "ekk": "est", "gug": "grn", "kng": "kon", "src": "srd"}  # FLORES-200 (facebook/flores)
_GLOTCC = {"dgo": "doi", "pes": "fas", "prs": "fas", "src": "srd", "tgl": "fil", "xpe": "kpe"}  # labels of GlotLID v3
_SAME_SCRIPT = {("Hani", "Hans"), ("Hani", "Hant"), ("Kore", "Hang")}  # asked for, usual: the first leaves the form open
_GLOTCC_SCRIPT = {"Hans": "Hani", "Hant": "Hani"}
_WIKIPEDIA = {  # WikiANN has Wikipedia's codes
    "nb": "no", "fil": "tl", "gsw": "als", "lzh": "zh-classical", "nan": "zh-min-nan", "sgs": "bat-smg",
    "vro": "fiu-vro", "yue": "zh-yue",
}  # fmt: skip

_WIKIPEDIA_SCRIPT = {"crh": "Latn", "hak": "Latn", "nan": "Latn"}  # where it is not the language's usual one

_ADVICE = "give a BCP-47 tag such as sk, swh or sr-Latn"


@dataclass(frozen=True)
class Language:
    """A language as a person and as each data set names it; made by [`Language.from_tag`].

    Args:
        tag (`str`): Normalised BCP-47 tag: `"sk"`; with a script only where it is not the usual one: `"sr-Latn"`.
        name (`str`): English name.
        iso639_3 (`str`): ISO 639-3 code of the individual language: `"swh"` for Swahili.
        macro_iso639_3 (`str`): ISO 639-3 code of the macrolanguage that the tag stands for (`"swa"`), where there is
            none the same as `iso639_3`.
        script (`str`): ISO 15924 code of the script: `"Latn"`.

    Example:
    ```python
    >>> Language.from_tag("sw").flores
    'swh_Latn'
    ```
    """

    tag: str
    name: str
    iso639_3: str
    macro_iso639_3: str
    script: str

    @classmethod
    def from_tag(cls, tag: str) -> "Language":
        """Look up a language.

        Args:
            tag (`str`): A BCP-47 tag. ISO 639-3 codes and underscores are accepted (`"slk_Latn"`). A region counts where
                it decides the script or the language (`zh-TW`, `fa-AF`) and is dropped otherwise (`pt-BR`): the data
                sets do not have it.

        Raises:
            ValueError: If the tag is malformed or unknown, has parts that no data set distinguishes, or leaves open
                in which script the language is written.
        """
        parsed = _parse(tag)
        base, individual = _base_and_individual(parsed)
        macro = _MACRO.get(individual, individual)

        usual = _likely_script(langcodes.get(base), macro)
        script = parsed.script or _likely_script(parsed, macro)
        if script is None:
            name = langcodes.get(base).display_name()
            raise ValueError(f"{tag!r} ({name}) does not say in which script; give that too, such as {base}-Latn")
        if usual is not None and (script, usual) in _SAME_SCRIPT:
            script = usual
        tag = base if script == usual else f"{base}-{script}"
        return cls(tag, langcodes.get(tag).display_name(), individual, LANGUAGE_ALPHA3.get(macro, macro), script)

    @property
    def glotcc(self) -> str:
        """Configuration of GlotCC: `"slk-Latn"`."""
        script = _GLOTCC_SCRIPT.get(self.script, self.script)
        return f"{_GLOTCC.get(self.iso639_3, self.iso639_3)}-{script}"

    @property
    def flores(self) -> str:
        """Configuration of FLORES-200: `"slk_Latn"`."""
        return f"{_FLORES.get(self.iso639_3, self.iso639_3)}_{self.script}"

    @property
    def sib200(self) -> str:
        """Configuration of SIB-200, which is made of FLORES-200: `"slk_Latn"`."""
        return self.flores

    @property
    def wikiann(self) -> str:
        """Configuration of WikiANN: the ISO 639-1 code where there is one, otherwise ISO 639-3: `"sk"`."""
        subtag = self.tag.split("-")[0]
        return _WIKIPEDIA.get(subtag, subtag if len(subtag) == 2 else self.iso639_3)

    @property
    def in_script_of_wikipedia(self) -> bool:
        """Whether the script is that of the Wikipedia: mostly the usual one, which a tag does not name. Chinese has two there."""
        subtag, *others = self.tag.split("-")
        if subtag in _WIKIPEDIA_SCRIPT:
            return self.script == _WIKIPEDIA_SCRIPT[subtag]
        return self.tag == "zh-Hant" or all(len(other) != 4 for other in others)

    def named_in(self, value: Any) -> Any:
        """A text with this language's codes in the places named for them, such as `{glotcc}`; all else stays."""
        if not isinstance(value, str):
            return value
        codes = {"tag": self.tag, "glotcc": self.glotcc, "flores": self.flores, "wikiann": self.wikiann}
        return re.sub(r"\{(\w+)\}", lambda place: codes.get(place[1], place[0]), value)


def _parse(tag: str) -> langcodes.Language:
    """The parts of a tag that is known to name one language."""
    if not tag.strip() or not tag.isprintable():
        raise ValueError(f"{tag!r} is not a language tag; {_ADVICE}")
    try:
        parsed = langcodes.get(tag)
    except langcodes.LanguageTagError:
        raise ValueError(_unknown(tag)) from None
    if len(parsed.language or "") not in (2, 3) or not parsed.is_valid():
        raise ValueError(_unknown(tag))
    if parsed.extlangs or parsed.variants or parsed.extensions or parsed.private:
        raise ValueError(f"{tag!r} has more parts than language, script and region; {_ADVICE}")
    return parsed


def _base_and_individual(parsed: langcodes.Language) -> tuple[str, str]:
    """What a tag for the language begins with, and the ISO 639-3 code of the individual language."""
    language = parsed.language or ""
    regional = f"{language}-{parsed.territory}"
    if regional in LANGUAGE_ALPHA3:
        return regional, LANGUAGE_ALPHA3[regional]
    individual = _INDIVIDUAL.get(language, language)
    individual = LANGUAGE_ALPHA3.get(individual, individual)
    macro = _MACRO.get(individual, "")
    has_short_tag = len(macro) == 2 < len(language)
    return macro if has_short_tag else language, individual


def _unknown(tag: str) -> str:
    try:
        found = langcodes.find(tag)
    except LookupError:
        return f"{tag!r} is not a language tag; {_ADVICE}"
    return f"{tag!r} is not a language tag; did you mean {str(found)!r} ({found.display_name()})?"


def _likely_script(language: langcodes.Language, macro: str) -> str | None:
    """The script that CLDR gives for a language or, where it has none, for its macrolanguage."""
    for subtag in (language.language, macro):
        if subtag in LIKELY_SUBTAGS or subtag in DEFAULT_SCRIPTS:
            script = language.update_dict({"language": subtag}).maximize().script
            return "Hang" if script == "Kore" else script
    return None
