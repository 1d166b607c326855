"""One measurement of the benchmark `gpu`, in its own process: the authors' step, ours, or the card's rate of matrix products."""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
    XLMRobertaConfig,
)

from hf_lrcompress.benchmarks.distillation_steps import authors_loss
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.machine import peak_memory_mb
from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers

OUT_OF_MEMORY = {"fits": False}
"""What a measurement finds that the memory is too small for."""

SEED = 42
WARM_UP = 5
MASKED = 0.15
SPECIAL_TOKENS = {"pad_token": "<pad>", "mask_token": "<mask>", "unk_token": "<unk>"}


@dataclass(frozen=True)
class Shape:
    """A teacher's sizes; the student has half of its layers, and a text is `length` tokens long."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    length: int

    @property
    def kept_layers(self) -> int:
        """Layers of the student."""
        return self.num_hidden_layers // 2

    def flop(self, batch_size: int) -> float:
        """Arithmetic of a step of ours: two encoders, cross-entropy at the masked tokens, four products of Gram matrices' size.

        A product of (a × b) and (b × c) is 2abc; a backward pass takes twice the forward pass. Heads and norms are left out.
        """
        tokens = batch_size * self.length
        weights = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        layer = 2 * weights + 4 * self.length * self.hidden_size
        encoders = tokens * layer * (self.num_hidden_layers + 3 * self.kept_layers)
        cross_entropy = MASKED * tokens * 3 * 2 * self.vocab_size * self.hidden_size
        squared_error = 4 * 2 * self.vocab_size * self.hidden_size**2
        return encoders + cross_entropy + squared_error


SHAPES = {
    "xlm-r-base": Shape(250_002, 768, 3072, 12, 12, length=512),
    "e5-small": Shape(16_000, 384, 1536, 12, 12, length=128),
    "tiny": Shape(1_000, 32, 64, 2, 2, length=16),
}


@dataclass(frozen=True)
class Work:
    """One measurement: `step` is "reference", "ours", "ours compiled" or "matmul"."""

    model: str
    step: str
    precision: str
    batch_size: int
    steps: int = 20  # besides those to warm up
    loader_workers: int = 0
    profiled: bool = False


def load(shape: Shape) -> tuple[PreTrainedModel, PreTrainedModel, PreTrainedTokenizerFast]:
    """Teacher and student with random weights, and a tokenizer of as many words."""
    torch.manual_seed(SEED)
    sizes = {name: value for name, value in asdict(shape).items() if name != "length"}
    config = XLMRobertaConfig(max_position_embeddings=514, type_vocab_size=1, pad_token_id=0, **sizes)
    teacher = AutoModelForMaskedLM.from_config(config).eval()
    student = reduce_layers(teacher, select_layers(shape.num_hidden_layers, shape.kept_layers))
    words = [*SPECIAL_TOKENS.values(), *map(str, range(shape.vocab_size - len(SPECIAL_TOKENS)))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    return teacher, student, PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def random_ids(shape: Shape, count: int) -> torch.Tensor:
    """Texts of random token ids: shape `(count, length)`."""
    return torch.randint(len(SPECIAL_TOKENS), shape.vocab_size, (count, shape.length))


class Clock(TrainerCallback):
    """The seconds of each step, on the GPU's own clock where there is one: nothing waits for it meanwhile."""

    def __init__(self) -> None:
        self._marks: list[Any] = []

    def mark(self) -> None:
        """A step has been asked for."""
        if not torch.cuda.is_available():
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """The Trainer's step is one."""
        self.mark()

    def median_seconds(self) -> float:
        """Of the steps after those to warm up."""
        marks = self._marks[WARM_UP - 1 :]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            seconds = [before.elapsed_time(after) / 1e3 for before, after in pairwise(marks)]
        else:
            seconds = [after - before for before, after in pairwise(marks)]
        return statistics.median(seconds)


def reference(work: Work) -> dict[str, Any]:
    """The step of the paper's authors: every logit of both models."""
    shape = SHAPES[work.model]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher, student, tokenizer = load(shape)
    for model in (teacher, student):
        model.to(device)  # type: ignore[arg-type]  # transformers wraps `to` without its own types
    optimizer = torch.optim.AdamW(student.train().parameters(), lr=5e-5)
    clock = Clock()
    for _ in range(WARM_UP + work.steps):
        ids = random_ids(shape, work.batch_size).to(device)
        masked = torch.rand(ids.shape, device=device) < MASKED
        batch = {"input_ids": ids.masked_fill(masked, tokenizer.mask_token_id), "attention_mask": torch.ones_like(ids)}
        batch["labels"] = ids.masked_fill(~masked, -100)
        with torch.autocast(device, torch.bfloat16, enabled=work.precision == "bf16"):
            loss = authors_loss(student, teacher, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        clock.mark()
    return rates(work, clock)


def ours(work: Work) -> dict[str, Any]:
    """A step of [`DistillationTrainer`]."""
    shape = SHAPES[work.model]
    teacher, student, tokenizer = load(shape)
    steps = WARM_UP + work.steps
    texts = random_ids(shape, steps * work.batch_size)
    rows = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in texts]
    clock = Clock()
    with tempfile.TemporaryDirectory() as output_dir:
        args = DistillationConfig(
            output_dir=output_dir,
            per_device_train_batch_size=work.batch_size,
            max_steps=steps,
            bf16=work.precision == "bf16",
            torch_compile=work.step == "ours compiled",
            dataloader_num_workers=work.loader_workers,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = DistillationTrainer(student, args, teacher_model=teacher, train_dataset=rows, processing_class=tokenizer)
        trainer.add_callback(clock)
        if work.profiled:
            return profiled(trainer)
        trainer.train()
    return rates(work, clock)


def profiled(trainer: DistillationTrainer) -> dict[str, Any]:
    """The time that each kernel takes, of a whole training: a table of the largest."""
    with torch.profiler.profile() as profiler:
        trainer.train()
    averages = profiler.key_averages()
    order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    return {"profile": averages.table(sort_by=order, row_limit=40)}


def rates(work: Work, clock: Clock) -> dict[str, Any]:
    """What the steps took. The arithmetic counted is that of ours for both: the reference does more for the same."""
    shape = SHAPES[work.model]
    seconds = clock.median_seconds()
    return {
        "tokens_per_second": work.batch_size * shape.length / seconds,
        "ms_per_step": 1e3 * seconds,
        "peak_memory_gb": peak_memory_mb() / 1e3,
        "flop_per_second": shape.flop(work.batch_size) / seconds,
    }


def matmul(work: Work) -> dict[str, Any]:
    """How fast the machine multiplies large matrices in bf16."""
    on_gpu = torch.cuda.is_available()
    size = 8192 if on_gpu else 512
    left, right = torch.randn(2, size, size, dtype=torch.bfloat16, device="cuda" if on_gpu else "cpu")
    clock = Clock()
    for _ in range(WARM_UP + work.steps):
        left @ right
        clock.mark()
    return {"flop_per_second": 2 * size**3 / clock.median_seconds()}


def main() -> None:
    """One measurement, printed."""
    work = Work(**json.loads(sys.argv[1]))
    measure = {"matmul": matmul, "reference": reference}.get(work.step, ours)
    try:
        result = measure(work)
    except (torch.OutOfMemoryError, MemoryError):  # ours says it in one line
        result = OUT_OF_MEMORY
    print(json.dumps(result))


if __name__ == "__main__":
    main()
