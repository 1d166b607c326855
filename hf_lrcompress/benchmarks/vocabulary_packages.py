"""The packages that trim vocabularies: the program of each, and the environment that it runs in."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_lrcompress.benchmarks.processes import measured_by

VOCABTRIMMER_PACKAGES = ["torch", "transformers==4.57.6", "datasets<5", "pandas", "vocabtrimmer==0.0.2"]
"""It needs transformers 4."""
TRIMBED_PACKAGES = ["torch", "trimbed[model]==0.0.4"]
"""It asks for versions of its own."""
TRIMBED_PYTHONS = ("python3.12", "python3.13")
XLMR = "xlm-roberta"
OURS_NAME = "hf_lrcompress"

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
keep_ids = select_tokens(tokenizer, counts, int(vocab_size))
result = trim_vocab(AutoModelForMaskedLM.from_pretrained(model_dir), tokenizer, keep_ids)
result.model.save_pretrained(out), result.tokenizer.save_pretrained(out)
trimmed = time.perf_counter()
"""
VOCABTRIMMER = """
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
TRIMBED = """
import sys, time
model_dir, text_dir, vocab_size, out = sys.argv[1:]
from trimbed import TrimConfig, TrimPipeline
texts = {"path": "text", "data_files": f"{text_dir}/train.txt"}
corpus = {"datasets": [texts], "counts_cache": f"{out}/counts.json"}
selection = {"min_count": 1, "max_vocab_size": int(vocab_size)}
start = time.perf_counter()
pipeline = TrimPipeline(TrimConfig(
    model=model_dir, output_dir=out, overwrite=True, verify=False, verify_model=False, corpus=corpus, selection=selection
))
pipeline.count(pipeline.load()[0])
counted = time.perf_counter()
pipeline.run()
trimmed = time.perf_counter()
"""
VERSIONS = """
import json, platform, torch, transformers
print(json.dumps({"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}))
"""


@dataclass(frozen=True)
class Package:
    """A package that trims.

    Args:
        name (`str`): Its name.
        python (`Path` or `str`): The interpreter of its environment.
        source (`str`): A program that trims.
        tokenizers (`tuple[str, ...]`): Those that it can trim.
    """

    name: str
    python: Path | str
    source: str
    tokenizers: tuple[str, ...]


def make_packages(work_dir: Path, others: tuple[str, ...]) -> list[Package]:
    """All, ours first. vocabtrimmer knows the tokenizers of some families only, and none of the `others`.

    Raises:
        FileNotFoundError: If there is no Python that trimbed can be installed in.
    """
    found = filter(None, map(shutil.which, TRIMBED_PYTHONS))
    python = next(found, None)
    if python is None:
        raise FileNotFoundError(f"trimbed needs {' or '.join(TRIMBED_PYTHONS)}; install one of them")
    vocabtrimmer = _environment(work_dir / "vocabtrimmer", sys.executable, VOCABTRIMMER_PACKAGES)
    trimbed = _environment(work_dir / "trimbed", python, TRIMBED_PACKAGES)
    return [
        Package(OURS_NAME, sys.executable, OURS, (XLMR, *others)),
        Package("vocabtrimmer", vocabtrimmer, VOCABTRIMMER, (XLMR,)),
        Package("trimbed", trimbed, TRIMBED, (XLMR, *others)),
    ]


def _environment(directory: Path, python: str, packages: list[str]) -> Path:
    """A virtual environment with these packages; its interpreter."""
    made = directory / "bin" / "python"
    if not (directory / "installed").exists():
        subprocess.run([python, "-m", "venv", "--clear", directory], check=True)
        subprocess.run([made, "-m", "pip", "install", "-q", *packages], check=True)
        (directory / "installed").touch()
    return made


def output_of(python: Path | str, source: str, *arguments: Any) -> dict[str, Any]:
    """What a program measured, in an environment."""
    return measured_by([python, "-c", source, *arguments], {"HF_HUB_OFFLINE": "1"})
