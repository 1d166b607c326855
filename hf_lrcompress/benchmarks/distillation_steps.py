"""One measurement of the benchmark `distillation`, in its own process: the authors' step, ours, or how their losses differ."""

import json
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import (
    AutoModelForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerState,
    XLMRobertaConfig,
)

from hf_lrcompress.demo.e5_small import load_e5_small
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.masking import ReproducibleMasking
from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.machine import peak_memory_mb
from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers
from hf_lrcompress.surgery.vocab_trimming import trim_vocab
from hf_lrcompress.texts.tokenizing import tokenize_corpus
from hf_lrcompress.vocabulary.counting import count_tokens
from hf_lrcompress.vocabulary.selection import select_tokens

LENGTH = 512
PACKED_LENGTH = 128
SEED = 42


@dataclass(frozen=True)
class Work:
    """One measurement: `batch_size` examples a step.

    Of `text` "short" an example is a sentence in the reference, and in ours sentences packed into 128 tokens, as the pipeline
    does it; of "full" it is 512 tokens of text in both.
    """

    model: str
    vocab_size: int
    text: str
    step: str
    batch_size: int
    steps: int = 1  # besides one to warm up


def _load(work: Work, text: str) -> tuple[PreTrainedModel, PreTrainedModel, PreTrainedTokenizerFast]:
    """Teacher, student and tokenizer with the wanted vocabulary."""
    e5_small, tokenizer = load_e5_small()
    teacher: PreTrainedModel = e5_small
    if work.model == "xlm-r-base":
        torch.manual_seed(SEED)
        config = XLMRobertaConfig(
            vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1
        )
        teacher = AutoModelForMaskedLM.from_config(config)
    if work.vocab_size < len(tokenizer):
        with open(text, encoding="utf-8") as lines:
            counts = count_tokens(tokenizer, lines) + 1  # a text may have fewer tokens than are wanted
        trimmed = trim_vocab(teacher, tokenizer, select_tokens(tokenizer, counts, work.vocab_size))
        teacher, tokenizer = trimmed.model, trimmed.tokenizer
    teacher.eval()
    return teacher, reduce_layers(teacher, select_layers(teacher.config.num_hidden_layers, 6)), tokenizer


def _examples(work: Work, tokenizer: PreTrainedTokenizerFast, text: str, count: int) -> list[dict[str, list[int]]]:
    lines = Path(text).read_text(encoding="utf-8").splitlines()
    random.Random(SEED).shuffle(lines)
    if work.text == "full" or work.step in ("fp32", "bf16"):
        length = LENGTH if work.text == "full" else PACKED_LENGTH
        blocks = tokenize_corpus(Dataset.from_dict({"text": lines[: count * 60]}), tokenizer, length)
        sequences = blocks[:count]["input_ids"]
    else:
        sequences = tokenizer(lines[:count], truncation=True, max_length=LENGTH)["input_ids"]
    return [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in sequences]


def authors_loss(student: PreTrainedModel, teacher: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Half the masked-LM loss, and half the mean squared error of all logits."""
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    with torch.no_grad():
        target = teacher(**inputs).logits
    outputs = student(**inputs, labels=batch["labels"])
    return 0.5 * outputs.loss + 0.5 * F.mse_loss(outputs.logits, target)


def _padded(batch: dict[str, torch.Tensor], pad_id: int) -> dict[str, torch.Tensor]:
    missing = LENGTH - batch["input_ids"].shape[1]
    fill = {"input_ids": pad_id, "attention_mask": 0, "labels": -100}
    return {name: F.pad(tensor, (0, missing), value=fill[name]) for name, tensor in batch.items()}


def _reference(work: Work, text: str) -> dict[str, float]:
    teacher, student, tokenizer = _load(work, text)
    collate = ReproducibleMasking(tokenizer, 0.15, SEED)
    examples = _examples(work, tokenizer, text, work.batch_size * (work.steps + 1))
    optimizer = torch.optim.AdamW(student.train().parameters(), lr=5e-5)
    seconds, tokens = 0.0, 0
    for step in range(work.steps + 1):
        rows = examples[step * work.batch_size :][: work.batch_size]
        batch = _padded(collate(rows), tokenizer.pad_token_id)
        start = time.perf_counter()
        authors_loss(student, teacher, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step:  # the first warms up
            seconds += time.perf_counter() - start
            tokens += int(batch["attention_mask"].sum())
    return {"tokens_per_second": tokens / seconds, "seconds_per_step": seconds / work.steps}


class _Clock(TrainerCallback):
    """Seconds and tokens of all steps but the first."""

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        if state.global_step == 1:
            self.start, self.first = time.perf_counter(), state.num_input_tokens_seen
        self.seconds = time.perf_counter() - self.start
        self.tokens = state.num_input_tokens_seen - self.first


def _ours(work: Work, text: str) -> dict[str, float]:
    teacher, student, tokenizer = _load(work, text)
    rows = _examples(work, tokenizer, text, work.batch_size * (work.steps + 1))
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = _trainer(student, teacher, tokenizer, rows, work, output_dir)
        clock = _Clock()
        trainer.add_callback(clock)
        trainer.train()
    return {"tokens_per_second": clock.tokens / clock.seconds, "seconds_per_step": clock.seconds / work.steps}


def _trainer(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[dict[str, list[int]]],
    work: Work,
    output_dir: str,
) -> DistillationTrainer:
    args = DistillationConfig(
        output_dir=output_dir,
        per_device_train_batch_size=work.batch_size,
        max_steps=work.steps + 1,
        disable_dropout=True,
        include_num_input_tokens_seen="non_padding",
        bf16=work.step == "bf16",
        use_cpu=True,
        seed=SEED,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    return DistillationTrainer(student, args, teacher_model=teacher, train_dataset=rows, processing_class=tokenizer)


def _loss_difference(work: Work, text: str) -> dict[str, float]:
    """Relative difference of both losses to full logits at the tokens that are not padding."""
    teacher, student, tokenizer = _load(work, text)
    rows = _examples(work, tokenizer, text, work.batch_size)
    trainer = _trainer(student, teacher, tokenizer, rows, work, tempfile.gettempdir())
    batch = trainer.data_collator(rows)
    real, labels = batch["attention_mask"].bool(), batch["labels"]
    with torch.no_grad():
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        logits = [model(**inputs).logits for model in (student.eval(), teacher)]
        naive = [F.cross_entropy(logits[0][labels != -100], labels[labels != -100]), F.mse_loss(*(part[real] for part in logits))]
        counts = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
        losses = trainer._run_student(student.train(), batch) / trainer._divisors(counts)
    ours = dict(zip(trainer.args.loss_weights, losses, strict=True))
    return {
        "mlm_loss_difference": abs(ours["mlm"] / naive[0] - 1).item(),
        "distillation_loss_difference": abs(ours["logits_mse"] / naive[1] - 1).item(),
    }


def _main() -> None:
    """One measurement, in a process of its own."""
    work = Work(**json.loads(sys.argv[1]))
    measure = {"reference": _reference, "loss_difference": _loss_difference}.get(work.step, _ours)
    result = measure(work, sys.argv[2])
    print(json.dumps(result | {"peak_memory_gb": peak_memory_mb() / 1e3}))


if __name__ == "__main__":
    _main()
