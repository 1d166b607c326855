"""Peak memory of everything that reads text, at 10, 100 and 1,000 MB of it: it must not grow with the text.

The text is that of a file again and again, its lines shuffled anew each time, ten of them a document, with a running number in
front of each document so that no two are equal. Each point has a process of its own with empty caches, a tokenizer trained on the
file and a model of two layers, so that time and memory are the text's. Peak memory is that of the process without the pages of
files that it has mapped, which the system takes back when it needs them; `with_files_mb` has them too. For Linux.

hf-lrcompress benchmark memory --text train.txt
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from hf_lrcompress.benchmarks.processes import measured_by
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.machine import peak_memory_mb
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.surgery.layer_reduction import reduce_layers
from hf_lrcompress.texts.corpus import CorpusSource, load_corpus
from hf_lrcompress.texts.corpus_counts import count_corpus
from hf_lrcompress.texts.languages import Language
from hf_lrcompress.texts.tokenizing import tokenize_corpus, tokenize_documents

MEGABYTES = (10, 100, 1000)
LINES_A_DOCUMENT = 10
DAMAGED = 3
"""Lines that are not UTF-8, in the text of the stage `damaged`."""
SPECIAL = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
BLOCK_SIZE = 512
STEPS = 20
PAUSE = 0.02
"""Seconds between two looks at the memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The text, and how much is made of it."""
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text, a sentence a line")
    sizes = ", ".join(map(str, MEGABYTES))
    parser.add_argument(
        "--megabytes", type=int, nargs="+", default=MEGABYTES, help=f"sizes, from the smallest (default: {sizes})"
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="default: all")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """A row a stage and size."""
    if not arguments.text.is_file():
        raise FileNotFoundError(f"{arguments.text} does not exist")
    lines = arguments.text.read_text(encoding="utf-8").splitlines()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(lines).save_pretrained(folder)
        for size in arguments.megabytes:
            text = Path(folder, f"{size}.txt")
            write_text(text, lines, size)
            for stage in arguments.stages:
                rows.append({"stage": stage, "text_mb": size, **measure_apart(stage, folder, text)})
                print(rows[-1], file=sys.stderr)
            text.unlink()
    largest = {stage: growth(rows, stage) for stage in dict.fromkeys(row["stage"] for row in rows)}
    return {"rows": rows, "text_bytes": arguments.text.stat().st_size, "times_the_memory_of_the_smallest_text": largest}


def growth(rows: list[dict[str, Any]], stage: str) -> float:
    """The peak with the largest text over that with the smallest."""
    peaks = [row["peak_mb"] for row in rows if row["stage"] == stage]
    return peaks[-1] / peaks[0]


def write_text(path: Path, lines: list[str], megabytes: int) -> None:
    """A text of a size, as the module says."""
    order = random.Random(42)
    with path.open("w", encoding="utf-8") as file:
        for number, document in enumerate(documents(lines, order)):
            file.write(f"{number} {document}\n")
            if file.tell() > megabytes * 1e6:
                return


def documents(lines: list[str], order: random.Random) -> Iterator[str]:
    """Documents without end."""
    while True:
        shuffled = iter(order.sample(lines, len(lines)))
        while document := " ".join(islice(shuffled, LINES_A_DOCUMENT)):
            yield document


def train_tokenizer(lines: list[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of 8,000 tokens."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=8000, special_tokens=[*SPECIAL.values()], show_progress=False)
    backend.train_from_iterator(lines, trainer)
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=BLOCK_SIZE, **SPECIAL)


def measure_apart(stage: str, folder: str, text: Path) -> dict[str, float]:
    """One point, in a process and with caches of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        caches = {"HF_HOME": cache, "HF_DATASETS_CACHE": cache, "HF_HUB_OFFLINE": "1"}
        return measured_by([sys.executable, __file__, stage, folder, text], caches)


def inputs_of(folder: str, text: Path, **settings: Any) -> RunInputs:
    """A run's inputs that train on a text."""
    source = CorpusSource(files=(str(text),), **settings)
    return RunInputs(Language.from_tag("sk"), ModelSource(folder), source, source, {}, block_size=BLOCK_SIZE)


def read(inputs: RunInputs) -> None:
    """Read the corpus into the cache, and once from there."""
    for _ in load_corpus(inputs.train):
        pass


def count(inputs: RunInputs) -> None:
    """Count the tokens, as vocabulary trimming does."""
    count_corpus(inputs.train, inputs.tokenizer)


def blocks(inputs: RunInputs) -> None:
    """Make blocks of tokens, as for a training."""
    for _ in tokenize_corpus(load_corpus(inputs.train), inputs.tokenizer, BLOCK_SIZE):
        pass


def cut_documents(inputs: RunInputs) -> None:
    """Make an example of every document."""
    tokenize_documents(load_corpus(inputs.train), inputs.tokenizer, BLOCK_SIZE)


def calibrate(inputs: RunInputs) -> None:
    """Take blocks by chance, as calibrated surgery does."""
    for _ in inputs.calibration_batches(inputs.tokenizer, 64):
        pass


def train(inputs: RunInputs) -> None:
    """Distil a model of two layers into one for some steps, on blocks."""
    _train(inputs, inputs.training_examples(inputs.train, inputs.tokenizer))


def train_documents(inputs: RunInputs) -> None:
    """The same on documents, in batches of about one length."""
    _train(inputs, tokenize_documents(load_corpus(inputs.train), inputs.tokenizer, BLOCK_SIZE))


def _train(inputs: RunInputs, examples: Any) -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    teacher = BertForMaskedLM(BertConfig(vocab_size=len(inputs.tokenizer), **sizes)).eval()
    with tempfile.TemporaryDirectory() as folder:
        settings = DistillationConfig(output_dir=folder, max_steps=STEPS, report_to="none", use_cpu=True, save_strategy="no")
        student = reduce_layers(teacher, [1])
        trainer = DistillationTrainer(
            student, settings, teacher_model=teacher, train_dataset=examples, processing_class=inputs.tokenizer
        )
        trainer.train()


def damaged(inputs: RunInputs) -> dict[str, int]:
    """Read a text at whose end lines are damaged: all of them are counted, none is passed over."""
    (file,) = inputs.train.files
    with Path(file).open("ab") as text:
        text.write(b"a line that is \xff no UTF-8\n" * DAMAGED)
    try:
        read(inputs)
    except ValueError as error:
        message = str(error)
    finally:
        os.truncate(file, os.path.getsize(file) - DAMAGED * len(b"a line that is \xff no UTF-8\n"))
    if f"in all {DAMAGED} lines are damaged" not in message:
        raise RuntimeError(f"{DAMAGED} damaged lines were not counted: {message}")
    return {"damaged_lines": DAMAGED}


STAGES: dict[str, tuple[Callable[[RunInputs], dict[str, int] | None], bool]] = {
    "read": (read, False),
    "count": (count, False),
    "count streamed": (count, True),
    "blocks": (blocks, False),
    "blocks streamed": (blocks, True),
    "documents": (cut_documents, False),
    "calibrate": (calibrate, False),
    "train": (train, False),
    "train streamed": (train, True),
    "train documents": (train_documents, False),
    "damaged": (damaged, False),
}
"""What is done, and whether the text is streamed."""


@contextmanager
def watched(peak: dict[str, float]) -> Iterator[None]:
    """Keep in `peak_mb` the largest memory of this process that no file stands behind."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(PAUSE):
            status = Path("/proc/self/status").read_text(encoding="utf-8")
            kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
            peak["peak_mb"] = max(peak["peak_mb"], kilobytes * 1024 / 1e6)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def measure(stage: str, folder: str, text: str) -> dict[str, float]:
    """One point, in this process."""
    work, streaming = STAGES[stage]
    inputs = inputs_of(folder, Path(text), streaming=streaming)
    start = time.perf_counter()
    peak = {"peak_mb": 0.0}
    with watched(peak):
        found = work(inputs)
    return {"seconds": time.perf_counter() - start, **peak, "with_files_mb": peak_memory_mb(), **(found or {})}


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
