import numpy as np
import pytest
import torch
from conftest import tiny_model
from datasets import Dataset
from tiny_tokenizers import unigram
from transformers import TrainerCallback

from hf_lrcompress import DistillationConfig, DistillationTrainer
from hf_lrcompress.distillation.masking import ReproducibleMasking, uniform_draws

ROWS = [{"input_ids": torch.randint(5, 20, (40,), generator=torch.Generator().manual_seed(i)).tolist()} for i in range(200)]


@pytest.fixture(scope="module")
def tokenizer():
    return unigram()


def labels(collator, rows):
    return collator(rows)["labels"]


def test_the_same_batch_is_masked_the_same_whatever_happened_before(tokenizer):
    collator = ReproducibleMasking(tokenizer, 0.15, seed=1)
    first = labels(collator, ROWS[:8])
    torch.rand(5), labels(collator, ROWS[8:16])
    assert torch.equal(labels(collator, ROWS[:8]), first)
    assert torch.equal(labels(ReproducibleMasking(tokenizer, 0.15, seed=1), ROWS[:8]), first)


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 1}])
def test_another_seed_or_epoch_masks_otherwise(tokenizer, change):
    first = labels(ReproducibleMasking(tokenizer, 0.15, seed=1), ROWS[:1])
    collator = ReproducibleMasking(tokenizer, 0.15, seed=change.get("seed", 1))
    collator.epoch = change.get("epoch", 0)
    assert not torch.equal(labels(collator, ROWS[:1]), first)


def test_an_example_is_masked_alike_in_every_batch_and_padded(tokenizer):
    collator = ReproducibleMasking(tokenizer, 0.15, seed=1)
    short = {"input_ids": ROWS[0]["input_ids"][:25], "attention_mask": [1] * 25}
    long = {"input_ids": ROWS[1]["input_ids"], "attention_mask": [1] * 40}
    together, alone = collator([long, short]), collator([short])
    for key in ("input_ids", "labels", "attention_mask"):
        assert torch.equal(together[key][1, :25], alone[key][0])
    assert together["input_ids"][1, 25:].eq(tokenizer.pad_token_id).all()
    assert together["labels"][1, 25:].eq(-100).all() and together["attention_mask"][1, 25:].eq(0).all()


def test_padding_is_no_text_where_rows_have_no_attention_mask(tokenizer):
    collator = ReproducibleMasking(tokenizer, 0.15, seed=1)
    with_mask = [row | {"attention_mask": [1] * len(row["input_ids"])} for row in ROWS[:2]]
    short = {key: values[:7] for key, values in with_mask[1].items()}
    expected = collator([with_mask[0], short])
    found = collator([{"input_ids": row["input_ids"]} for row in (with_mask[0], short)])
    assert expected.keys() == found.keys() and found["attention_mask"].sum(dim=1).tolist() == [40, 7]
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


def test_columns_that_are_for_no_model_are_left_out(tokenizer):
    """A data set of classification has labels still when its text is gone."""
    collator = ReproducibleMasking(tokenizer, 0.15, seed=1)
    others = {"label": 2, "labels": "sport", "label_ids": 1, "length": 40, "special_tokens_mask": [0] * 40}
    found = collator([row | others for row in ROWS[:2]])
    assert found.keys() == {"input_ids", "attention_mask", "labels"}
    assert torch.equal(found["labels"], labels(collator, ROWS[:2]))


def test_the_global_random_state_is_left_alone(tokenizer):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    labels(ReproducibleMasking(tokenizer, 0.15, seed=1), ROWS[:8])
    assert torch.equal(torch.rand(4), expected)


def test_the_usual_shares_are_masked(tokenizer):
    batch = ReproducibleMasking(tokenizer, 0.15, seed=1)(ROWS)
    chosen = batch["labels"] != -100
    original = torch.tensor([row["input_ids"] for row in ROWS])
    assert chosen.float().mean().item() == pytest.approx(0.15, abs=0.015)
    assert torch.equal(batch["labels"][chosen], original[chosen])
    assert (batch["input_ids"][chosen] == tokenizer.mask_token_id).float().mean().item() == pytest.approx(0.8, abs=0.05)
    assert torch.equal(batch["input_ids"][~chosen], original[~chosen])
    assert (batch["input_ids"][chosen] == original[chosen]).float().mean().item() == pytest.approx(0.1, abs=0.04)


def test_special_tokens_are_never_masked(tokenizer):
    special = tokenizer.all_special_ids
    batch = ReproducibleMasking(tokenizer, 0.9, seed=1)([{"input_ids": [*special, 9, 10] * 9}])
    is_special = torch.isin(torch.tensor([*special, 9, 10] * 9), torch.tensor(special))
    assert special and batch["labels"][0][is_special].eq(-100).all() and batch["labels"][0][~is_special].ne(-100).any()


def test_draws_are_those_of_splitmix64():
    """Its definition: add the golden ratio, mix; of the seed 1234567 · 2³², against integers of any size."""

    def reference(seed, count):
        state, values = seed, []
        for _ in range(count):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            mixed = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
            values.append(((mixed ^ (mixed >> 31)) >> 11) / 2**53)
        return values

    draws = uniform_draws(np.array([1234567, 5], dtype=np.uint64), length=4, draws=3)
    for row, key in enumerate((1234567, 5)):
        assert draws[:, row].T.flatten().tolist() == reference(key << 32, 12)
    many = uniform_draws(np.arange(100, dtype=np.uint64), 1000, 1)
    assert many.min() >= 0 and many.max() < 1 and many.mean() == pytest.approx(0.5, abs=0.005)
    assert np.corrcoef(many[0, 0], many[0, 1])[0, 1] == pytest.approx(0, abs=0.1)


def test_every_pass_over_the_text_masks_other_tokens(tokenizer, tmp_path):
    teacher = tiny_model("bert", vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    rows = Dataset.from_list([row | {"attention_mask": [1] * 40} for row in ROWS[:4]])
    args = DistillationConfig(
        str(tmp_path), max_steps=6, per_device_train_batch_size=2, alpha=1.0, use_cpu=True, report_to="none", disable_tqdm=True
    )
    trainer = DistillationTrainer(teacher, args, train_dataset=rows, processing_class=tokenizer)
    seen = []

    class Watch(TrainerCallback):
        def on_epoch_begin(self, *args, **kwargs):
            seen.append(trainer.data_collator.epoch)

    trainer.add_callback(Watch())
    trainer.train()
    assert seen == [0, 1, 2]
