import pytest
from langcodes.data_dicts import NORMALIZED_MACROLANGUAGES

from hf_lrcompress.texts.languages import Language

INDIVIDUAL = {
    "sk": "slk", "mt": "mlt", "sw": "swh", "lv": "lvs", "et": "ekk", "ar": "arb", "fa": "pes", "ms": "zsm", "sq": "als",
    "uz": "uzn", "no": "nob", "ne": "npi", "mg": "plt", "mn": "khk", "yi": "ydd", "ps": "pbt", "or": "ory", "az": "azj",
    "ku": "kmr", "om": "gaz", "nb": "nob", "nn": "nno", "ekk": "ekk", "swh": "swh", "yo": "yor", "gsw": "gsw", "zh": "cmn",
    "qu": "quy", "ff": "fuv", "tw": "twi", "tl": "tgl", "fil": "tgl", "bho": "bho", "id": "ind", "hr": "hrv", "prs": "prs",
}  # fmt: skip


@pytest.mark.parametrize(("tag", "code"), INDIVIDUAL.items())
def test_the_individual_language_is_found(tag, code):
    assert Language.from_tag(tag).iso639_3 == code


@pytest.mark.parametrize(
    ("tag", "normal", "glotcc", "flores", "wikiann"),
    [
        ("sk", "sk", "slk-Latn", "slk_Latn", "sk"),
        ("slk", "sk", "slk-Latn", "slk_Latn", "sk"),
        ("slk_Latn", "sk", "slk-Latn", "slk_Latn", "sk"),
        ("sk-SK", "sk", "slk-Latn", "slk_Latn", "sk"),
        ("mt", "mt", "mlt-Latn", "mlt_Latn", "mt"),
        ("sw", "sw", "swh-Latn", "swh_Latn", "sw"),
        ("swh", "sw", "swh-Latn", "swh_Latn", "sw"),
        ("swc", "sw-CD", "swc-Latn", "swc_Latn", "sw"),
        ("lv", "lv", "lvs-Latn", "lvs_Latn", "lv"),
        ("et", "et", "ekk-Latn", "est_Latn", "et"),  # FLORES-200 names these four by the macrolanguage
        ("gn", "gn", "gug-Latn", "grn_Latn", "gn"),
        ("kg", "kg", "kng-Latn", "kon_Latn", "kg"),
        ("sc", "sc", "srd-Latn", "srd_Latn", "sc"),
        ("fa", "fa", "fas-Arab", "pes_Arab", "fa"),  # GlotCC has Persian and Dari in one
        ("prs", "fa-AF", "fas-Arab", "prs_Arab", "fa"),
        ("tl", "fil", "fil-Latn", "tgl_Latn", "tl"),
        ("nb", "nb", "nob-Latn", "nob_Latn", "no"),
        ("sr", "sr", "srp-Cyrl", "srp_Cyrl", "sr"),
        ("sr-Latn", "sr-Latn", "srp-Latn", "srp_Latn", "sr"),
        ("srp_Cyrl", "sr", "srp-Cyrl", "srp_Cyrl", "sr"),
        ("pa-PK", "pa-Arab", "pan-Arab", "pan_Arab", "pa"),
        ("zh", "zh", "cmn-Hani", "zho_Hans", "zh"),
        ("zh-Hant", "zh-Hant", "cmn-Hani", "zho_Hant", "zh"),
        ("zh-TW", "zh-Hant", "cmn-Hani", "zho_Hant", "zh"),
        ("cmn-Hani", "zh", "cmn-Hani", "zho_Hans", "zh"),
        ("yue", "yue", "yue-Hani", "yue_Hant", "zh-yue"),
        ("ja", "ja", "jpn-Jpan", "jpn_Jpan", "ja"),
        ("ko", "ko", "kor-Hang", "kor_Hang", "ko"),
        ("ko-Kore", "ko", "kor-Hang", "kor_Hang", "ko"),
        ("ceb", "ceb", "ceb-Latn", "ceb_Latn", "ceb"),
        ("lah", "lah", "pnb-Arab", "pnb_Arab", "pnb"),
        ("azb-Arab", "azb-Arab", "azb-Arab", "azb_Arab", "azb"),
    ],
)
def test_each_data_set_has_its_own_code(tag, normal, glotcc, flores, wikiann):
    language = Language.from_tag(tag)
    assert (language.tag, language.glotcc, language.flores, language.wikiann) == (normal, glotcc, flores, wikiann)
    assert language.sib200 == language.flores


@pytest.mark.parametrize(
    "tag", ["sk", "swh", "swc", "prs", "fil", "nb", "tw", "twi", "sr-Latn", "zh-TW", "lah", "azb-Arab", "quy"]
)
def test_normal_tags_stay_as_they_are(tag):
    language = Language.from_tag(tag)
    assert Language.from_tag(language.tag) == language


def test_every_macrolanguage_of_langcodes_has_an_individual_language_of_its_own():
    for macro in set(NORMALIZED_MACROLANGUAGES.values()) - {"bho"}:  # Bhojpuri is no macrolanguage
        code = Language.from_tag(f"{macro}-Latn").iso639_3
        assert len(code) == 3 and Language.from_tag(f"{code}-Latn").iso639_3 == code


def test_names_are_english():
    assert Language.from_tag("mt").name == "Maltese"
    assert Language.from_tag("sr-Latn").name == "Serbian (Latin)"


def test_the_macrolanguage_is_known():
    assert Language.from_tag("sw").macro_iso639_3 == Language.from_tag("swh").macro_iso639_3 == "swa"
    assert Language.from_tag("sk").macro_iso639_3 == "slk"


@pytest.mark.parametrize(
    "tag", ["xx", "klingonese", "", " ", "s", "../sk", "qqq-zz-zz-zz", "sk-", "sk-Xxxx", "und", "x-sk", "sk\n", "\0\x80\x80"]
)
def test_unknown_tags_are_refused_in_one_line(tag):
    with pytest.raises(ValueError, match="is not a language tag; (give|did you mean)") as error:
        Language.from_tag(tag)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "tag"), [("slovak", "sk"), ("Swahili", "sw"), ("Thai", "th"), ("norwegian", "no")])
def test_a_name_gets_its_tag_suggested(name, tag):
    with pytest.raises(ValueError, match=f"did you mean '{tag}'"):
        Language.from_tag(name)


@pytest.mark.parametrize("tag", ["mul", "bh", "azb", "quz"])
def test_a_script_that_langcodes_does_not_know_is_asked_for(tag):
    with pytest.raises(ValueError, match=f"in which script; give that too, such as {tag}-Latn"):
        Language.from_tag(tag)


@pytest.mark.parametrize("tag", ["be-tarask", "en-x-shaw", "roa-rup"])
def test_parts_that_no_data_set_knows_are_refused(tag):
    with pytest.raises(ValueError, match="more parts than language, script and region"):
        Language.from_tag(tag)
