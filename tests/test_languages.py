import pytest

from hf_lrcompress.languages import Language

INDIVIDUAL = {
    "sk": "slk", "mt": "mlt", "sw": "swh", "lv": "lvs", "et": "ekk", "ar": "arb", "fa": "pes", "ms": "zsm", "sq": "als",
    "uz": "uzn", "no": "nob", "ne": "npi", "mg": "plt", "mn": "khk", "yi": "ydd", "ps": "pbt", "or": "ory", "az": "azj",
    "ku": "kmr", "om": "gaz", "nb": "nob", "ekk": "ekk", "swh": "swh", "yo": "yor", "gsw": "gsw",
}  # fmt: skip


@pytest.mark.parametrize(("tag", "code"), INDIVIDUAL.items())
def test_data_sets_name_the_individual_language(tag, code):
    language = Language.from_tag(tag)
    assert language.iso639_3 == code
    assert language.flores == f"{code}_{language.script}"


@pytest.mark.parametrize(
    ("tag", "glotcc", "flores", "wikiann"),
    [
        ("sk", "slk-Latn", "slk_Latn", "sk"),
        ("slk", "slk-Latn", "slk_Latn", "sk"),
        ("slk_Latn", "slk-Latn", "slk_Latn", "sk"),
        ("mt", "mlt-Latn", "mlt_Latn", "mt"),
        ("sw", "swh-Latn", "swh_Latn", "sw"),
        ("swh", "swh-Latn", "swh_Latn", "sw"),
        ("et", "ekk-Latn", "ekk_Latn", "et"),
        ("sr", "srp-Cyrl", "srp_Cyrl", "sr"),
        ("sr-Latn", "srp-Latn", "srp_Latn", "sr"),
        ("zh", "cmn-Hani", "zho_Hans", "zh"),
        ("zh-Hant", "cmn-Hani", "zho_Hant", "zh"),
        ("ko", "kor-Hang", "kor_Hang", "ko"),
        ("ceb", "ceb-Latn", "ceb_Latn", "ceb"),
    ],
)
def test_each_data_set_has_its_own_code(tag, glotcc, flores, wikiann):
    language = Language.from_tag(tag)
    assert (language.glotcc, language.flores, language.wikiann) == (glotcc, flores, wikiann)


def test_names_and_tags_are_normal():
    assert Language.from_tag("slk").tag == "sk"
    assert Language.from_tag("mt").name == "Maltese"
    assert Language.from_tag("sw").macro_iso639_3 == "swa"
    assert Language.from_tag("sk").macro_iso639_3 == "slk"


@pytest.mark.parametrize("tag", ["xx", "klingonese", "", "s", "../sk", "qqq-zz-zz-zz"])
def test_unknown_tags_are_refused_in_one_line(tag):
    with pytest.raises(ValueError, match="is not a language tag") as error:
        Language.from_tag(tag)
    assert "\n" not in str(error.value)


def test_a_name_gets_its_tag_suggested():
    with pytest.raises(ValueError, match="did you mean 'sk'"):
        Language.from_tag("slovak")
