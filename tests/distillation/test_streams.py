"""A training on a stream is one long epoch: it goes on in any pass over it, and masks anew in each."""

from itertools import islice

import pytest
import torch
from conftest import tiny_model
from datasets import Dataset
from tiny_tokenizers import unigram
from torch.utils.data import DataLoader, IterableDataset

from hf_lrcompress import DistillationConfig, DistillationTrainer
from hf_lrcompress.distillation.masking import ReproducibleMasking
from hf_lrcompress.distillation.streams import EndlessStream

ROWS = Dataset.from_list([{"input_ids": list(range(5 + row, 25 + row))} for row in range(5)])


@pytest.fixture(scope="module")
def tokenizer():
    return unigram()


def train(tokenizer, folder, dataset, resume=None, **settings):
    """The weights after six steps of two examples: the stream of five begins anew in the middle of a batch."""
    defaults = {"per_device_train_batch_size": 2, "save_steps": 1, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    fixed = {"losses": {"mlm": 1.0}, "learning_rate": 1e-2, "lr_scheduler_type": "constant", "dataloader_pin_memory": False}
    args = DistillationConfig(str(folder), **defaults | fixed | {"max_steps": 6} | settings)
    student = tiny_model("bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    trainer = DistillationTrainer(student, args, train_dataset=dataset, processing_class=tokenizer)
    trainer.train(resume_from_checkpoint=resume)
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_that_is_resumed_in_a_later_pass_is_the_uninterrupted_one(tokenizer, tmp_path, workers):
    settings = {"dataloader_num_workers": workers, "gradient_accumulation_steps": 2}
    stream = ROWS.to_iterable_dataset()
    whole = train(tokenizer, tmp_path, stream, **settings)
    resumed = train(tokenizer, tmp_path, stream, resume=str(tmp_path / "checkpoint-4"), **settings)
    assert torch.equal(whole, resumed)
    assert not torch.equal(whole, train(tokenizer, tmp_path / "fewer", stream, max_steps=5, **settings))


def test_every_worker_has_an_epoch_of_its_own():
    """`datasets` keeps it in memory that workers share, and adds to it: two at once made it negative, or another worker's."""
    stream = ROWS.to_iterable_dataset()
    loader = DataLoader(EndlessStream(stream, None), batch_size=5, num_workers=2, collate_fn=len)
    assert list(islice(loader, 6)) == [5] * 6
    assert stream.epoch == 0


def test_every_pass_masks_other_tokens(tokenizer):
    collator = ReproducibleMasking(tokenizer, 0.4, seed=0)
    loader = iter(DataLoader(EndlessStream(ROWS.to_iterable_dataset(), collator), batch_size=5, collate_fn=collator))
    labels = [next(loader)["labels"] for _ in range(3)]
    assert labels[0].shape == labels[1].shape == (5, 20)
    assert all(not torch.equal(labels[one], labels[other]) for one, other in [(0, 1), (1, 2), (0, 2)])


def test_a_shuffled_stream_is_shuffled_anew_in_every_pass():
    shuffled = iter(EndlessStream(ROWS.to_iterable_dataset().shuffle(seed=3, buffer_size=5), None))
    passes = [[next(shuffled)["input_ids"][0] for _ in range(5)] for _ in range(3)]
    assert all(sorted(firsts) == [5, 6, 7, 8, 9] for firsts in passes) and passes[0] != passes[1]


def test_a_stream_of_nothing_ends():
    assert list(EndlessStream(ROWS.to_iterable_dataset().take(0), None)) == []


class Sized(IterableDataset):
    """A stream that knows its length."""

    def __iter__(self):
        return iter(ROWS)

    def __len__(self):
        return len(ROWS)


def test_a_stream_that_has_a_length_is_trained_on_for_epochs(tokenizer, tmp_path):
    train(tokenizer, tmp_path, Sized(), max_steps=-1, num_train_epochs=2)
    assert (tmp_path / "checkpoint-6").is_dir() and not (tmp_path / "checkpoint-7").exists()
