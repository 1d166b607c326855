"""The paper's four tasks, a row each (arXiv 2505.16956, section 4 and its table of hyperparameters)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hf_lrcompress.texts.languages import Language
from hf_lrcompress.texts.readers import PARQUET_BRANCH

IOB2 = re.compile("O|[BI](-.+)?")
NOT_IOB2 = "is not IOB2; give O, B-TYPE and I-TYPE (of BILOU and IOBES, U- and S- are B-, L- and E- are I-)"


@dataclass(frozen=True)
class HubSource:
    """A data set on the Hub.

    Args:
        path, name (`str`): The data set and its configuration; `{sib200}` and `{wikiann}` in a name become the language's code.
        inputs, labels (`str`): Its columns: texts or lists of tokens, and their labels.
        revision (`str`, *optional*): Its branch.
        without (`str`, *optional*): Examples with this label are left out.
    """

    path: str
    name: str | None
    inputs: str
    labels: str
    revision: str | None = None
    without: str | None = None


@dataclass(frozen=True)
class Task:
    """A task: what is asked, how it is trained and how it is scored.

    Args:
        name (`str`): `"tc"`, `"sa"`, `"ner"` or `"pos"`.
        title (`str`): For people.
        tokens (`bool`): Whether every token has a label, rather than the text.
        metric (`str`): The metric module that scores it, see [`score`].
        learning_rate (`float`), batch_size, epochs, max_length (`int`): The paper's.
        quick_epochs (`int`): Epochs of the quick preset. Entities are rare: after four epochs of the Slovak UNER data only the
            most frequent type was ever found.
        warmup (`float`, *optional*, defaults to 0): Share of the steps in which the learning rate rises.
        everywhere ([`HubSource`], *optional*): A data set with many languages.
        sources (`Mapping`, *optional*): Data sets of single languages, by tag; these go first.
        spans (`bool`, *optional*, defaults to `False`): Whether tags mark spans of words, in IOB2, rather than classes of words.
    """

    name: str
    title: str
    tokens: bool
    metric: str
    learning_rate: float
    batch_size: int
    epochs: int
    max_length: int
    quick_epochs: int
    warmup: float = 0.0
    everywhere: HubSource | None = None
    sources: Mapping[str, HubSource] = field(default_factory=dict)
    spans: bool = False

    def source(self, language: Language) -> HubSource | None:
        """Where the task's data in a language is on the Hub; `None` if this package knows of none."""
        source = self.sources.get(language.tag, self.everywhere)
        of_wikipedia = source is not None and "{wikiann}" in (source.name or "")
        return None if of_wikipedia and not language.in_script_of_wikipedia else source

    @property
    def classes_of_words(self) -> bool:
        """Whether tags are classes of words, as parts of speech are: seqeval takes some for one, so accuracy stands beside it."""
        return self.tokens and not self.spans

    def allows(self, tag: str) -> bool:
        """Whether a tag is one that the metric understands: seqeval takes `PER-B` for a span of type `B`."""
        return not self.spans or IOB2.fullmatch(tag) is not None


TREEBANKS = (
    "af_afribooms ar_padt be_hse bg_btb ca_ancora cs_pdt cy_ccg da_ddt de_gsd el_gdt en_ewt es_ancora et_edt eu_bdt fa_perdt "
    "fi_tdt fo_farpahc fr_gsd ga_idt gd_arcosg gl_ctg he_htb hi_hdtb hr_set hu_szeged hy_armtdp id_gsd is_icepahc it_isdt ja_gsd "
    "ko_kaist lt_alksnis lv_lvtb mr_ufal mt_mudt nl_alpino no_bokmaal pl_pdb pt_bosque ro_rrt ru_syntagrus sk_snk sl_ssj "
    "sv_talbanken ta_ttb te_mtg tr_imst ug_udt uk_iu ur_udtb vi_vtb"
)
"""Of Universal Dependencies one a language, with all splits."""
MASAKHAPOS = "bam bbj ewe fon hau ibo kin lug luo mos nya pcm sna swa tsn twi wol xho yor zul"
AFRISENTI = "amh arq ary hau ibo kin pcm swa tso twi yor"


def _treebank(name: str) -> HubSource:
    return HubSource("universal-dependencies/universal_dependencies", name, "tokens", "upos", PARQUET_BRANCH)


def _african(path: str, codes: str, inputs: str, labels: str, without: str | None = None) -> dict[str, HubSource]:
    """A data set with a configuration a language, by tag."""
    sources = {code: HubSource(path, code, inputs, labels, PARQUET_BRANCH, without) for code in codes.split()}
    return {Language.from_tag(code).tag: source for code, source in sources.items()}


WEIGHT_DECAY = 0.01
TASKS = {
    task.name: task
    for task in (
        Task(
            "tc", "topic classification", False, "macro_f1", 1e-4, 16, 20, 256, 20,
            everywhere=HubSource("Davlan/sib200", "{sib200}", "text", "category"),
        ),
        Task(
            "sa", "sentiment analysis", False, "macro_f1", 1e-4, 16, 20, 256, 3,
            sources={
                "sk": HubSource("DGurgurov/slovak_sa", None, "text", "label"),
                "mt": HubSource("DGurgurov/maltese_sa", None, "text", "label"),
            } | _african("masakhane/afrisenti", AFRISENTI, "tweet", "label", without="neutral"),
        ),
        Task(
            "ner", "named entity recognition", True, "seqeval_f1", 3e-4, 64, 100, 512, 20, 0.05,
            everywhere=HubSource("unimelb-nlp/wikiann", "{wikiann}", "tokens", "ner_tags"),
            spans=True,
        ),
        Task(
            "pos", "part-of-speech tagging", True, "seqeval_f1", 3e-4, 64, 100, 512, 4, 0.05,
            sources={name.split("_")[0]: _treebank(name) for name in TREEBANKS.split()}
            | {"nb": _treebank("no_bokmaal"), "nn": _treebank("no_nynorsk"), "sr-Latn": _treebank("sr_set")}
            | _african("masakhane/masakhapos", MASAKHAPOS, "tokens", "upos"),
        ),
    )
}  # fmt: skip
"""The tasks by name."""
