"""Vocabulary trimming against the package `vocabtrimmer`, each in processes and an environment of its own."""

import argparse
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from hf_lrcompress.demo.e5_small import load_e5_small

CONSTRAINTS = Path(__file__).parents[2] / "constraints-4.txt"
"""With the transformers that vocabtrimmer was measured on."""
PACKAGES = ["torch", "transformers", "datasets", "pandas", "vocabtrimmer==0.0.2"]
EMBEDDINGS = "roberta.embeddings.word_embeddings.weight"
ROUNDS = {1: 3, 10: 1}
"""How often the text is repeated, and how many times that is measured; the packages take turns, and the median counts."""
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
SIZE_OF_XLMR_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}

# VmHWM is the peak of this program; ru_maxrss would begin with that of the one that started it.
END = """
import json, re
peak = re.search("VmHWM:\\\\s+([0-9]+) kB", open("/proc/self/status").read())
print(json.dumps({"counting_seconds": counted - start, "trimming_seconds": trimmed - counted,
                  "peak_memory_mb": int(peak.group(1)) * 1024 / 1e6}))
"""
OURS = """
import sys, time
from pathlib import Path
model_dir, text_dir, vocab_size, out = sys.argv[1:]
from transformers import AutoModelForMaskedLM, AutoTokenizer
from hf_lrcompress import count_tokens, select_tokens, trim_vocab
start = time.perf_counter()
tokenizer = AutoTokenizer.from_pretrained(model_dir)
with open(Path(text_dir) / "train.txt", encoding="utf-8") as lines:
    counts = count_tokens(tokenizer, (line.rstrip("\\n") for line in lines))
counted = time.perf_counter()
counts += int(counts.count_nonzero() < int(vocab_size))  # a text with fewer tokens: fill up with tokens that it lacks
keep_ids = select_tokens(tokenizer, counts, int(vocab_size))
result = trim_vocab(AutoModelForMaskedLM.from_pretrained(model_dir), tokenizer, keep_ids)
result.model.save_pretrained(out), result.tokenizer.save_pretrained(out)
trimmed = time.perf_counter()
"""
THEIRS = """
import sys, time
model_dir, text_dir, vocab_size, out = sys.argv[1:]
from vocabtrimmer import VocabTrimmer, vocab_miner
settings = {"language": "any", "dataset": text_dir, "dataset_split": "train", "target_vocab_size": int(vocab_size),
            "min_frequency": 1, "cache_file_vocab": f"{out}/vocab.json", "cache_file_frequency": f"{out}/frequency.json"}
start = time.perf_counter()
vocab_miner(model=model_dir, **settings)
counted = time.perf_counter()
VocabTrimmer(model_dir).trim_vocab(path_to_save=out, **settings)
trimmed = time.perf_counter()
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `run`."""
    parser.add_argument("--text", type=Path, required=True, help="text to count, a sentence a line")
    parser.add_argument("--held_out", type=Path, required=True, help="text whose sentences should not change, a sentence a line")
    parser.add_argument("--work_dir", type=Path, required=True, help="for models, texts and the other package's environment")
    parser.add_argument("--vocab_size", type=int, default=16_000, help="tokens to keep")
    parser.add_argument("--full_vocab_size", type=int, default=40_000, help="tokens to keep of the model in XLM-R-base's size")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure both packages on the text once and ten times, and ours on a model in XLM-R-base's size.

    The tokenizer is XLM-R's (250,002 tokens); the models have random weights, for time and memory do not depend on them.

    Raises:
        FileNotFoundError: If a text does not exist.
    """
    for path in (arguments.text, arguments.held_out):
        if not path.is_file():
            raise FileNotFoundError(f"text file {path} does not exist")
    work_dir = arguments.work_dir
    work_dir.mkdir(parents=True, exist_ok=True)
    other_python = _other_environment(work_dir / "vocabtrimmer")
    small, full = _save_model(work_dir / "small", SMALL), _save_model(work_dir / "full", SIZE_OF_XLMR_BASE)
    held_out = arguments.held_out.read_text(encoding="utf-8").splitlines()
    rows = []
    packages = {"hf_lrcompress": (sys.executable, OURS), "vocabtrimmer": (other_python, THEIRS)}
    for times, rounds in ROUNDS.items():
        work = small, _repeat(arguments.text, times, work_dir), arguments.vocab_size
        outs = {name: work_dir / f"{name}-{times}" for name in packages}
        measured = [{name: _measure(*packages[name], *work, out) for name, out in outs.items()} for _ in range(rounds)]
        for name, out in outs.items():
            figures = {key: median(each[name][key] for each in measured) for key in measured[0][name]}
            rows.append({"package": name, "model": "small", "text": times, **figures, **_compare(small, out, held_out)})
    figures = _measure(sys.executable, OURS, full, work_dir / "text-1", arguments.full_vocab_size, work_dir / "full-trimmed")
    rows.append({"package": "hf_lrcompress", "model": "full", "text": 1, **figures})
    sizes = {"small": SMALL, "full": SIZE_OF_XLMR_BASE, "text_bytes": arguments.text.stat().st_size}
    vocabulary = {"vocab_size": arguments.vocab_size, "full_vocab_size": arguments.full_vocab_size}
    return {"times_faster": _ratios(rows), "sizes": sizes, **vocabulary, "rows": rows}


def summary(result: dict[str, Any]) -> list[dict[str, str]]:
    """For the README: a row for each length of the text."""
    rows = []
    for ours, theirs in (result["rows"][:2], result["rows"][2:4]):
        size = result["sizes"]["text_bytes"] * ours["text"] / 1e6
        ratios = [result["times_faster"][f"{name}_x{ours['text']}"] for name in ("counting", "both")]
        rows.append(
            {
                "what": f"XLM-R's vocabulary to {ours['tokens']:,} tokens, counted on {size:.0f} MB",
                "beside": f"vocabtrimmer; {theirs['wrong_rows']} and {ours['wrong_rows']} wrong rows",
                "times faster": f"{ratios[1]:.1f}, counting alone {ratios[0]:.1f}",
                "peak memory": f"{ours['peak_memory_mb'] / theirs['peak_memory_mb']:.2f}",
            }
        )
    return rows


def _ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How many times faster ours is: counting, and counting with trimming."""
    ratios = {}
    for ours, theirs in ((rows[0], rows[1]), (rows[2], rows[3])):
        both = [each["counting_seconds"] + each["trimming_seconds"] for each in (theirs, ours)]
        ratios[f"counting_x{ours['text']}"] = theirs["counting_seconds"] / ours["counting_seconds"]
        ratios[f"both_x{ours['text']}"] = both[0] / both[1]
    return ratios


def _other_environment(directory: Path) -> Path:
    """An environment with `vocabtrimmer` and the versions of everything else that CI runs."""
    python = directory / "bin" / "python"
    if not (directory / "installed").exists():
        venv.create(directory, with_pip=True, clear=True)
        for packages in (["torch"], PACKAGES):
            subprocess.run([python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, *packages], check=True)
        (directory / "installed").touch()
    return python


def _save_model(directory: Path, sizes: dict[str, int]) -> Path:
    if not (directory / "config.json").exists():
        _, tokenizer = load_e5_small()
        config = XLMRobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=514, type_vocab_size=1, **sizes)
        tokenizer.save_pretrained(directory)
        XLMRobertaForMaskedLM(config).save_pretrained(directory)
    return directory


def _repeat(text: Path, times: int, work_dir: Path) -> Path:
    directory = work_dir / f"text-{times}"
    directory.mkdir(exist_ok=True)
    lines = text.read_text(encoding="utf-8").rstrip("\n") + "\n"
    with open(directory / "train.txt", "w", encoding="utf-8") as file:
        for _ in range(times):
            file.write(lines)
    return directory


def _measure(python: Path | str, source: str, model_dir: Path, text_dir: Path, vocab_size: int, out: Path) -> dict[str, float]:
    command = [python, "-c", source + END, *map(str, (model_dir.resolve(), text_dir.resolve(), vocab_size, out.resolve()))]
    for cached in out.glob("*.json"):
        cached.unlink()  # vocabtrimmer would read its counts instead of counting
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if result.returncode:
        raise RuntimeError(f"{out.name} failed: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def _compare(model_dir: Path, out: Path, held_out: list[str]) -> dict[str, Any]:
    """Sentences with the same token strings as before, those of kept tokens that have others, and tokens with another's row."""
    before, after = (Tokenizer.from_file(str(directory / "tokenizer.json")) for directory in (model_dir, out))
    vocab, changed, unchanged = after.get_vocab(), 0, 0
    for old, new in zip(before.encode_batch(held_out), after.encode_batch(held_out), strict=True):
        unchanged += old.tokens == new.tokens
        changed += old.tokens != new.tokens and all(token in vocab for token in old.tokens)
    rows = [_embeddings(directory) for directory in (model_dir, out)]
    present = [token for token, i in vocab.items() if i < len(rows[1])]
    old_ids, new_ids = (torch.tensor([each.token_to_id(token) for token in present]) for each in (before, after))
    wrong = (rows[0][old_ids] != rows[1][new_ids]).any(dim=1).sum().item() + len(vocab) - len(present)
    return {"tokens": len(vocab), "sentences_unchanged": unchanged, "changed_though_kept": changed, "wrong_rows": wrong}


def _embeddings(directory: Path) -> torch.Tensor:
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        return file.get_tensor(EMBEDDINGS)
