"""Trimming model and tokenizer together, on every family and both tokenizer models."""

import copy

import pytest
import torch
from conftest import COUNTS_FROM_PADDING, SPECIAL_NAMES, logits_of, tiny_model
from tiny_tokenizers import TEXTS, unigram, wordpiece
from transformers import AutoModelForMaskedLM, AutoTokenizer

from hf_lrcompress import count_tokens, trim_vocab

EXTRA_ROWS = 7


@pytest.fixture
def tokenizer(model_type):
    tokenizer = (unigram if model_type in COUNTS_FROM_PADDING else wordpiece)()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


@pytest.fixture
def model(model_type, tokenizer):
    """With more rows than tokens, as e5-small has."""
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_NAMES}
    return tiny_model(model_type, vocab_size=len(tokenizer) + EXTRA_ROWS, **special)


@pytest.fixture
def trimmed(model, tokenizer):
    """Without "dea" and what never occurs but as a character."""
    seen = count_tokens(tokenizer, [text for text in TEXTS if "dea" not in text]) > 0
    seen[tokenizer.all_special_ids] = True
    for token, i in tokenizer.get_vocab().items():
        seen[i] |= len(token.removeprefix("##")) == 1
    return trim_vocab(model, tokenizer, seen.nonzero().flatten())


def test_logits_at_kept_ids_are_equal_for_text_of_kept_tokens(model, tokenizer, trimmed):
    same = [text for text in TEXTS if text and tokenizer.tokenize(text) == trimmed.tokenizer.tokenize(text)]
    assert len(TEXTS) > len(same) >= 4
    for text in same:
        old, new = (each(text, return_tensors="pt") for each in (tokenizer, trimmed.tokenizer))
        assert torch.equal(trimmed.keep_ids[new["input_ids"]], old["input_ids"])
        expected = logits_of(model, old)[:, trimmed.keep_ids]
        torch.testing.assert_close(logits_of(trimmed.model, new), expected, rtol=1e-5, atol=1e-6)


def test_keeping_every_token_only_drops_the_rows_without_one(model, tokenizer):
    whole = trim_vocab(model, tokenizer, torch.arange(len(tokenizer)))
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    expected = logits_of(model, inputs)[:, :-EXTRA_ROWS]
    torch.testing.assert_close(logits_of(whole.model, inputs), expected, rtol=1e-6, atol=1e-6)
    assert whole.model.config.vocab_size == len(tokenizer)


def test_every_row_belongs_to_its_token(model, tokenizer, trimmed):
    embeddings = [each.get_input_embeddings().weight for each in (model, trimmed.model)]
    outputs = [each.get_output_embeddings() for each in (model, trimmed.model)]
    for new_id in range(len(trimmed.tokenizer)):
        old_id = tokenizer.convert_tokens_to_ids(trimmed.tokenizer.convert_ids_to_tokens(new_id))
        assert torch.equal(embeddings[1][new_id], embeddings[0][old_id])
        assert torch.equal(outputs[1].weight[new_id], outputs[0].weight[old_id])
        assert outputs[0].bias is None or outputs[1].bias[new_id] == outputs[0].bias[old_id]


def test_ties_special_ids_and_parameter_count(model, trimmed, tokenizer):
    small, size = trimmed.model, len(trimmed.keep_ids)
    tied = [each.get_output_embeddings().weight is each.get_input_embeddings().weight for each in (model, small)]
    assert tied[0] == tied[1]
    assert small.config.vocab_size == size == len(trimmed.tokenizer)
    assert small.config.pad_token_id == trimmed.tokenizer.pad_token_id == small.get_input_embeddings().padding_idx
    removed = model.config.vocab_size - size
    widths = [model.get_input_embeddings().embedding_dim, *([] if tied[0] else [model.get_output_embeddings().in_features])]
    bias = model.get_output_embeddings().bias is not None
    assert model.num_parameters() - small.num_parameters() == removed * (sum(widths) + bias)


def test_saved_model_and_tokenizer_load_and_agree(trimmed, tmp_path):
    trimmed.model.save_pretrained(tmp_path), trimmed.tokenizer.save_pretrained(tmp_path)
    model, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(inputs["input_ids"], trimmed.tokenizer(TEXTS, padding=True, return_tensors="pt")["input_ids"])
    torch.testing.assert_close(logits_of(model, inputs), logits_of(trimmed.model, inputs), rtol=0, atol=0)


def test_the_callers_model_is_untouched(model, tokenizer):
    before, config = copy.deepcopy(model.state_dict()), copy.deepcopy(model.config.to_dict())
    trim_vocab(model, tokenizer, torch.arange(len(tokenizer))).model.get_input_embeddings().weight.data.zero_()
    assert model.config.to_dict() == config
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_pairs_that_do_not_belong_together_are_refused(model_type, tokenizer):
    with pytest.raises(ValueError, match=r"model has 9 rows, but its tokenizer \d+ tokens"):
        trim_vocab(tiny_model(model_type, vocab_size=9), tokenizer, torch.arange(9))


def test_a_special_token_of_the_config_must_be_kept(tokenizer, model):
    model.config.decoder_start_token_id = len(tokenizer) + 1
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        trim_vocab(model, tokenizer, torch.arange(len(tokenizer)))
