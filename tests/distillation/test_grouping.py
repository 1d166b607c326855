"""Batches of examples of about one length."""

import tracemalloc

import pytest
import torch
from conftest import tiny_model
from datasets import Dataset
from tiny_tokenizers import unigram
from tiny_trainers import history

from hf_lrcompress import DistillationConfig, DistillationTrainer
from hf_lrcompress.distillation.grouping import GroupedByLength, lengths_of

LENGTHS = torch.randint(3, 60, (1003,), generator=torch.Generator().manual_seed(0)).tolist()


def padding(order: list[int]) -> int:
    batches = [[LENGTHS[index] for index in order[start : start + 16]] for start in range(0, len(order), 16)]
    return sum(max(batch) * len(batch) - sum(batch) for batch in batches)


@pytest.mark.parametrize("values", [["short", "long"], [1.5, 2.5], [None, None], [True, False]], ids=str)
def test_a_column_of_that_name_may_hold_anything(values):
    assert lengths_of(Dataset.from_dict({"input_ids": [[1], [2]], "length": values})) is None


def test_every_example_comes_once_with_little_padding():
    sampler = GroupedByLength(LENGTHS, 16, seed=1)
    order = list(sampler)
    assert sorted(order) == list(range(1003)) and len(sampler) == 1003
    assert padding(order) < 0.1 * padding(list(range(1003)))


def test_the_order_is_that_of_seed_and_epoch():
    first, same, other = GroupedByLength(LENGTHS, 16, 1), GroupedByLength(LENGTHS, 16, 1), GroupedByLength(LENGTHS, 16, 2)
    assert list(first) == list(same) != list(other)
    first.set_epoch(1)
    assert list(first) != list(same)


def test_the_order_takes_little_more_memory_than_the_examples_numbers():
    lengths = torch.randint(3, 60, (100_000,))
    tracemalloc.start()
    for _ in GroupedByLength(lengths, 16, seed=1):
        pass
    peak = tracemalloc.get_traced_memory()[1]  # of Python's own numbers: 40 bytes each, with their place in a list
    tracemalloc.stop()
    assert peak < 400_000


@pytest.mark.parametrize("epoch", range(3))
def test_the_longest_example_is_in_the_first_batch(epoch):
    """If the memory is too small for it, that shows before hours have passed."""
    sampler = GroupedByLength([*LENGTHS, 60], 16, seed=1)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert 1003 in order[:16] and sorted(order) == list(range(1004))


def test_of_the_whole_batches_the_one_with_the_longest_is_first():
    """The longest of all may be in the last, which is not whole."""
    lengths = list(range(1, 204))
    for seed in range(200):
        order = list(GroupedByLength(lengths, 4, seed))
        assert max(lengths[index] for index in order[:4]) == max(lengths[index] for index in order[:200]), seed
    assert list(GroupedByLength([], 4, 0)) == []


@pytest.fixture
def documents():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, 101, (length % 30 + 3,), generator=generator).tolist() for length in LENGTHS[:40]]
    masks = [[1] * len(row) for row in rows]
    return Dataset.from_dict({"input_ids": rows, "attention_mask": masks, "length": [len(row) for row in rows]})


def train(documents, folder, resume=None, **arguments):
    args = DistillationConfig(
        str(folder),
        losses={"hidden_cosine": 1, "sentence_cosine": 1},
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        logging_steps=1,
        save_steps=7,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **arguments,
    )
    student, teacher = tiny_model("bert").bert, tiny_model("bert", seed=1).bert.eval()
    trainer = DistillationTrainer(student, args, teacher_model=teacher, train_dataset=documents, processing_class=unigram())
    trainer.train(resume_from_checkpoint=resume)
    return history(trainer, "loss")


def test_a_training_on_documents_resumes_in_a_later_epoch_as_if_it_was_not_interrupted(documents, tmp_path):
    whole = train(documents, tmp_path / "whole", max_steps=18)
    train(documents, tmp_path / "part", max_steps=18)
    resumed = train(documents, tmp_path / "part", resume=str(tmp_path / "part" / "checkpoint-14"), max_steps=18)
    assert resumed[-4:] == pytest.approx(whole[-4:], rel=1e-5)


def test_an_order_that_is_asked_for_is_kept(documents, tmp_path):
    if "train_sampling_strategy" not in DistillationConfig.__dataclass_fields__:
        pytest.skip("transformers 4 has no train_sampling_strategy")
    args = DistillationConfig(str(tmp_path), alpha=1.0, use_cpu=True, train_sampling_strategy="sequential")
    trainer = DistillationTrainer(tiny_model("bert"), args, train_dataset=documents, processing_class=unigram())
    assert list(trainer._get_train_sampler()) == list(range(40))
