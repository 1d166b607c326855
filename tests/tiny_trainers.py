"""Trainers of tiny models, and what their losses are by definition."""

import torch
from torch.nn import functional as F

from hf_lrcompress import DistillationConfig, DistillationTrainer

LENGTHS = [20, 9, 14, 20, 5, 17, 20, 11]


def random_rows(times=4):
    """Examples of several lengths, the same ones in every test."""
    generator = torch.Generator().manual_seed(7)
    return [{"input_ids": torch.randint(5, 101, (length,), generator=generator).tolist()} for length in LENGTHS * times]


def collate(rows):
    """Pads, and masks the tokens whose id divides by 4: the same ones however the rows are batched."""
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[i, : len(row["input_ids"])] = 1
    masked = (ids % 4 == 0) & mask.bool()
    return {"input_ids": ids.masked_fill(masked, 3), "attention_mask": mask, "labels": ids.masked_fill(~masked, -100)}


def make_trainer(student, teacher, dataset, output_dir, **settings):
    defaults = {
        "per_device_train_batch_size": 8,
        "max_steps": 4,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "report_to": "none",
        "disable_tqdm": True,
        "disable_dropout": True,
        "save_strategy": "no",
        "use_cpu": True,
    }
    args = DistillationConfig(output_dir=str(output_dir), **defaults | settings)
    return DistillationTrainer(
        student, args, teacher_model=teacher, data_collator=collate, train_dataset=dataset, eval_dataset=dataset[:10]
    )


def history(trainer, key):
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def naive_parts(student, teacher, batch):
    """Mean cross-entropy at masked tokens; mean squared logit difference at real tokens."""
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    real, labels = batch["attention_mask"].bool(), batch["labels"]
    student_logits, teacher_logits = student(**inputs).logits, teacher(**inputs).logits.detach()
    mlm = F.cross_entropy(student_logits[labels != -100], labels[labels != -100])
    return mlm, (student_logits - teacher_logits)[real].square().mean()
