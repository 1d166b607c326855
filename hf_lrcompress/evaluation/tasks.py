"""The paper's four tasks, a row each (arXiv 2505.16956, section 4 and its table of hyperparameters)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hf_lrcompress.languages import Language
from hf_lrcompress.text_readers import PARQUET_BRANCH


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
        quick_epochs (`int`): Of the quick preset.
        warmup (`float`, *optional*, defaults to 0): Share of the steps in which the learning rate rises.
        everywhere ([`HubSource`], *optional*): A data set with many languages.
        sources (`Mapping`, *optional*): Data sets of single languages, by tag; these go first.
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

    def source(self, language: Language) -> HubSource | None:
        """Where the task's data in a language is on the Hub; `None` if this package knows of none."""
        return self.sources.get(language.tag, self.everywhere)


def _universal_dependencies(treebank: str) -> HubSource:
    return HubSource("universal-dependencies/universal_dependencies", treebank, "tokens", "upos", PARQUET_BRANCH)


WEIGHT_DECAY = 0.01
TASKS = {
    task.name: task
    for task in (
        Task(
            "tc", "topic classification", False, "macro_f1", 1e-4, 16, 20, 256, 8,
            everywhere=HubSource("Davlan/sib200", "{sib200}", "text", "category"),
        ),
        Task(
            "sa", "sentiment analysis", False, "macro_f1", 1e-4, 16, 20, 256, 3,
            sources={
                "sk": HubSource("DGurgurov/slovak_sa", None, "text", "label"),
                "mt": HubSource("DGurgurov/maltese_sa", None, "text", "label"),
                "sw": HubSource("masakhane/afrisenti", "swa", "tweet", "label", PARQUET_BRANCH, without="neutral"),
            },
        ),
        Task(
            "ner", "named entity recognition", True, "seqeval_f1", 3e-4, 64, 100, 512, 4, 0.05,
            everywhere=HubSource("unimelb-nlp/wikiann", "{wikiann}", "tokens", "ner_tags"),
        ),
        Task(
            "pos", "part-of-speech tagging", True, "seqeval_f1", 3e-4, 64, 100, 512, 4, 0.05,
            sources={
                "sk": _universal_dependencies("sk_snk"),
                "mt": _universal_dependencies("mt_mudt"),
                "sw": HubSource("masakhane/masakhapos", "swa", "tokens", "upos", PARQUET_BRANCH),
            },
        ),
    )
}  # fmt: skip
"""The tasks by name."""
