"""The certificate of a vocabulary that somebody else trimmed: `hf-lrcompress compare`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import datasets
from transformers.utils import CONFIG_NAME, has_file

from hf_lrcompress.commands.process import full_disk_named
from hf_lrcompress.messages import cut
from hf_lrcompress.models.loading import load_config, load_encoder
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.tables import certificate_table, hundredfold
from hf_lrcompress.texts.corpus import CorpusSource, load_corpus
from hf_lrcompress.vocabulary.comparison import ComparedText, VocabularyComparison, kept_tokens

MOST_SHOWN = 5
"""Sentences and tokens that are shown as examples."""
LONGEST_SHOWN = 200


def compare(arguments: argparse.Namespace) -> tuple[ComparedText, VocabularyComparison]:
    """Read both and compare them.

    Raises:
        ValueError, OSError: One line that says what is wrong and what to do.
    """
    corpus = load_corpus(CorpusSource(files=tuple(arguments.text)))
    paths = arguments.base, arguments.trimmed
    base, trimmed = (load_tokenizer(path) for path in paths)
    models = None
    if all(has_file(path, CONFIG_NAME) for path in paths):  # a tokenizer alone has none
        for path in paths:
            load_config(path, trust_remote_code=arguments.trust_remote_code)
        models = load_encoder(arguments.base), load_encoder(arguments.trimmed)
    text = ComparedText(base, trimmed, kept_tokens(base, trimmed), list(corpus["text"]))
    return text, text.compare(models)


def told(text: ComparedText, comparison: VocabularyComparison) -> Iterator[str]:
    """What was found, line by line."""
    yield certificate_table(vars(comparison), style="simple")
    yield ""
    kept = sum(text.is_kept)
    same = hundredfold(comparison.same_sentences)
    yield f"{hundredfold(comparison.coverage)} % of the text's tokens are kept."
    yield f"Of {comparison.sentences:,} sentences {same} % are tokenised exactly as before."
    yield f"{kept:,} are made of kept tokens; of these {len(text.changed):,} are tokenised otherwise."
    for i in text.changed[:MOST_SHOWN]:
        sentence = " ".join(text.texts[i].split())
        yield f"- {cut(sentence, LONGEST_SHOWN)}"
        yield from _first_difference(text, i)
    foreign = len(text.trimmed) - len(text.new_id)
    if foreign:
        yield f"{foreign:,} tokens were not there before."
    unreachable = comparison.unreachable_tokens
    if unreachable:
        yield f"Of {len(unreachable):,} tokens no text is made, such as {', '.join(map(repr, unreachable[:MOST_SHOWN]))}."
    if comparison.wrong_rows is None:
        yield "Embeddings: not compared, for lack of models of one width."
    else:
        yield f"Embeddings: of {len(text.new_id):,} kept tokens {comparison.wrong_rows:,} have another row than before."


def _first_difference(text: ComparedText, index: int) -> Iterator[str]:
    """The tokens of a sentence from where they differ."""
    before = text.tokenizer.convert_ids_to_tokens(text.old[index])
    after = text.trimmed.convert_ids_to_tokens(text.new[index])
    pairs = enumerate(zip(before, after, strict=False))
    start = next((i for i, (old, new) in pairs if old != new), min(len(before), len(after)))
    for name, tokens in (("before", before), ("now", after)):
        yield f"  {name}: {' '.join(tokens[start : start + MOST_SHOWN])}"


def run(arguments: argparse.Namespace) -> int:
    """Compare, and print what was found; 1 if a sentence made of kept tokens is tokenised otherwise."""
    with full_disk_named(Path(datasets.config.HF_DATASETS_CACHE)):
        text, comparison = compare(arguments)
    print("\n".join(told(text, comparison)))
    return 1 if text.changed else 0
