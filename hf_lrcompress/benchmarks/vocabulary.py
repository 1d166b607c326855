"""Vocabulary trimming against the packages `vocabtrimmer` and `trimbed`, each in processes and an environment of its own."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from hf_lrcompress.benchmarks.vocabulary_packages import END, OURS_NAME, VERSIONS, XLMR, Package, make_packages, output_of
from hf_lrcompress.demo.e5_small import load_e5_small
from hf_lrcompress.models.saving import save_tokenizer

EMBEDDINGS = "embeddings.word_embeddings.weight"
MANY_TIMES = 10
"""How often the text is repeated to make a long one, for XLM-R's tokenizer."""
SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
SIZE_OF_XLMR_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `run`."""
    parser.add_argument("--text", type=Path, required=True, help="text to count, a sentence a line")
    parser.add_argument("--held_out", type=Path, required=True, help="text whose sentences should not change, a sentence a line")
    parser.add_argument("--work_dir", type=Path, required=True, help="for models, texts and the other packages' environments")
    parser.add_argument("--tokenizer", type=Path, nargs="*", default=[], help="folders with a tokenizer.json, besides XLM-R's")
    parser.add_argument("--vocab_size", type=int, default=16_000, help="tokens to keep")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure the packages on the text, and ours on a model in XLM-R-base's size.

    One tokenizer is XLM-R's (250,002 tokens), others may be given; the models have random weights, for time and memory do not
    depend on them.

    Raises:
        FileNotFoundError: If a text, a tokenizer or the Python that trimbed needs does not exist.
    """
    files = [arguments.text, arguments.held_out, *(folder / "tokenizer.json" for folder in arguments.tokenizer)]
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"file {path} does not exist")
    work_dir = arguments.work_dir
    work_dir.mkdir(parents=True, exist_ok=True)
    names = tuple(folder.name for folder in arguments.tokenizer)
    packages = make_packages(work_dir, names)
    models = {XLMR: _save_xlmr(work_dir / "small", SMALL)}
    models |= {folder.name: _save_bert(work_dir / folder.name, folder) for folder in arguments.tokenizer}
    rows = []
    works = [*((name, 1) for name in models), (XLMR, MANY_TIMES)]
    for name, times in works:
        work = models[name], _repeat(arguments.text, times, work_dir), arguments.vocab_size
        for package in packages:
            if name in package.tokenizers:
                out = work_dir / f"{name}-{times}" / package.name
                figures = _measure(package, work, out) | _compare(models[name], out, arguments.held_out)
                rows.append({"package": package.name, "tokenizer": name, "model": "small", "text": times, **figures})
    full = _save_xlmr(work_dir / "full", SIZE_OF_XLMR_BASE)
    figures = _measure(packages[0], (full, work_dir / "text-1", arguments.vocab_size), work_dir / "full-trimmed")
    rows.append({"package": OURS_NAME, "tokenizer": XLMR, "model": "full", "text": 1, **figures})
    sizes = {"small": SMALL, "full": SIZE_OF_XLMR_BASE, "text_bytes": arguments.text.stat().st_size}
    environments = {package.name: output_of(package.python, VERSIONS) for package in packages}
    facts = {"sizes": sizes, "vocab_size": arguments.vocab_size, "environments": environments}
    return {"times_faster": _ratios(rows), **facts, "rows": rows}


def summary(result: dict[str, Any]) -> list[dict[str, str]]:
    """For the README: a row for each package, tokenizer and length of the text."""
    rows = []
    for ours, theirs in _pairs(result["rows"]):
        size = result["sizes"]["text_bytes"] * ours["text"] / 1e6
        ratios = result["times_faster"][_name(theirs)]
        same = f"same sentences {theirs['sentences_unchanged']:,}, ours {ours['sentences_unchanged']:,}"
        wrong = f"wrongly changed {theirs['changed_though_kept']}, ours {ours['changed_though_kept']}"
        rows.append(
            {
                "what": f"{ours['tokenizer']}'s vocabulary to {ours['tokens']:,} tokens, counted on {size:.0f} MB",
                "beside": f"{theirs['package']}: {same}; {wrong}",
                "times faster": f"{ratios['both']:.1f}, counting alone {ratios['counting']:.1f}",
                "peak memory": f"{ours['peak_memory_mb'] / theirs['peak_memory_mb']:.2f}",
            }
        )
    return rows


def _pairs(rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Our row and another package's, of the same work."""
    ours = {(row["tokenizer"], row["model"], row["text"]): row for row in rows if row["package"] == OURS_NAME}
    for row in rows:
        if row["package"] != OURS_NAME:
            yield ours[row["tokenizer"], row["model"], row["text"]], row


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['package']}, {row['tokenizer']}, text x{row['text']}"


def _ratios(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many times faster ours is: counting, and counting with trimming."""
    ratios = {}
    for ours, theirs in _pairs(rows):
        both = [each["counting_seconds"] + each["trimming_seconds"] for each in (theirs, ours)]
        counting = theirs["counting_seconds"] / ours["counting_seconds"]
        ratios[_name(theirs)] = {"counting": counting, "both": both[0] / both[1]}
    return ratios


def _save_xlmr(directory: Path, sizes: dict[str, Any]) -> Path:
    if not (directory / "config.json").exists():
        _, tokenizer = load_e5_small()
        config = XLMRobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=514, type_vocab_size=1, **sizes)
        _save(XLMRobertaForMaskedLM(config), tokenizer, directory)
    return directory


def _save_bert(directory: Path, folder: Path) -> Path:
    """A small model for any tokenizer, which is saved as the class that takes its file as it is."""
    if not (directory / "config.json").exists():
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        _save(BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SMALL)), tokenizer, directory)
    return directory


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    save_tokenizer(tokenizer, directory)  # so that every transformers reads it
    model.save_pretrained(directory)


def _repeat(text: Path, times: int, work_dir: Path) -> Path:
    directory = work_dir / f"text-{times}"
    directory.mkdir(exist_ok=True)
    lines = text.read_text(encoding="utf-8").rstrip("\n") + "\n"
    with open(directory / "train.txt", "w", encoding="utf-8") as file:
        for _ in range(times):
            file.write(lines)
    return directory


def _measure(package: Package, work: tuple[Path, Path, int], out: Path) -> dict[str, float]:
    """What a package takes for a model, a text and a size."""
    for cached in out.glob("*.json"):
        cached.unlink()  # the others would read their counts instead of counting
    model_dir, text_dir, vocab_size = work
    return output_of(package.python, package.source + END, model_dir.resolve(), text_dir.resolve(), vocab_size, out.resolve())


def _compare(model_dir: Path, out: Path, held_out: Path) -> dict[str, Any]:
    """Sentences with the same token strings as before, those of kept tokens that have others, and tokens with another's row."""
    before, after = (Tokenizer.from_file(str(directory / "tokenizer.json")) for directory in (model_dir, out))
    sentences = held_out.read_text(encoding="utf-8").splitlines()
    vocab = after.get_vocab()
    unchanged = made_of_kept = changed = 0
    for old, new in zip(before.encode_batch(sentences), after.encode_batch(sentences), strict=True):
        is_kept = all(token in vocab for token in old.tokens)
        unchanged += old.tokens == new.tokens
        made_of_kept += is_kept
        changed += is_kept and old.tokens != new.tokens
    rows = [_embeddings(directory) for directory in (model_dir, out)]
    present = [token for token, i in vocab.items() if i < len(rows[1])]
    old_ids, new_ids = (torch.tensor([each.token_to_id(token) for token in present]) for each in (before, after))
    wrong = (rows[0][old_ids] != rows[1][new_ids]).any(dim=1).sum().item() + len(vocab) - len(present)
    same = {"sentences_unchanged": unchanged, "made_of_kept": made_of_kept, "changed_though_kept": changed}
    return {"tokens": len(vocab), **same, "wrong_rows": wrong}


def _embeddings(directory: Path) -> torch.Tensor:
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        names = file.keys()
        return file.get_tensor(next(name for name in names if name.endswith(EMBEDDINGS)))
