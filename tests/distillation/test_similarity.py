"""Similarity retention, against its definition written as loops."""

import math
import statistics

import pytest
import torch
from conftest import COUNTS_FROM_PADDING, SPECIAL_NAMES, tiny_model
from made_up_texts import TEXTS, TRAIN
from tiny_tokenizers import unigram, wordpiece
from trained_tokenizers import bert

from hf_lrcompress import count_tokens, reduce_layers, select_tokens, trim_vocab, truncate_hidden
from hf_lrcompress.distillation.similarity import choose_sample, correlation, similarity_reference, similarity_retention

SHORT = ["abc bad, cab abc", "deabc dea!", "deš aš abcab", "abc abc cabde cabde", "bade ab", "a,b dea"]


@pytest.fixture(scope="module")
def tokenizer():
    return bert()


@pytest.fixture(scope="module")
def teacher(tokenizer):
    return tiny_model("bert", vocab_size=len(tokenizer))


def naive_states(model, tokenizer, sample):
    """One sentence at a time, without padding."""
    sentences, tokens = [], []
    for text, spans in zip(sample.texts, sample.spans, strict=True):
        inputs = tokenizer(text, truncation=True, max_length=sample.max_length, return_tensors="pt", return_offsets_mapping=True)
        offsets = [tuple(span) for span in inputs.pop("offset_mapping")[0].tolist()]
        with torch.no_grad():
            states = model.bert(**inputs).last_hidden_state[0]
        sentences.append(states[0] if sample.pooling == "cls" else sum(states) / len(states))
        tokens += [states[offsets.index(span)] for span in spans]
    return sentences, tokens


def naive_similarities(states):
    mean = sum(states) / len(states)
    pairs = [(a - mean, b - mean) for i, a in enumerate(states) for b in states[i + 1 :]]
    return [(torch.dot(a, b) / math.sqrt(torch.dot(a, a) * torch.dot(b, b))).item() for a, b in pairs]


def test_retention_is_that_of_the_definition(teacher, tokenizer):
    """The sentences have different lengths; the order of batches must not matter."""
    student = truncate_hidden(reduce_layers(teacher, [0, 2]), 12)
    sample = choose_sample(TEXTS[:35], [tokenizer], 16)
    result = similarity_retention(student, tokenizer, similarity_reference(teacher, tokenizer, sample))
    states = [naive_states(model, tokenizer, sample) for model in (teacher, student)]
    for key, of_teacher, of_student in zip(("sentence_similarity", "token_similarity"), *states, strict=True):
        expected = statistics.correlation(naive_similarities(of_teacher), naive_similarities(of_student))
        assert result[key] == pytest.approx(expected, abs=1e-4) and 0 < expected < 0.999


def test_a_sentence_may_be_its_first_token(teacher, tokenizer):
    student = truncate_hidden(reduce_layers(teacher, [0, 2]), 12)
    sample = choose_sample(TEXTS[:70], [tokenizer], 16, pooling="cls")
    result = similarity_retention(student, tokenizer, similarity_reference(teacher, tokenizer, sample))
    states = [naive_states(model, tokenizer, sample)[0] for model in (teacher, student)]
    expected = statistics.correlation(*(naive_similarities(each) for each in states))
    assert result["sentence_similarity"] == pytest.approx(expected, abs=1e-4)


def test_the_teacher_retains_all_of_itself(model_type):
    """Of every family, and without the head as well."""
    tokenizer = (unigram if model_type in COUNTS_FROM_PADDING else wordpiece)()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_NAMES}
    teacher = tiny_model(model_type, vocab_size=len(tokenizer), **special)
    reference = similarity_reference(teacher, tokenizer, choose_sample(SHORT, [tokenizer], 30))
    for model in (teacher, teacher.base_model):
        assert similarity_retention(model, tokenizer, reference) == {"sentence_similarity": 1.0, "token_similarity": 1.0}


def test_a_trimmed_model_is_asked_for_the_tokens_it_has(teacher, tokenizer):
    trimmed = trim_vocab(teacher, tokenizer, select_tokens(tokenizer, count_tokens(tokenizer, TRAIN), 600))
    sample = choose_sample(TEXTS, [tokenizer, trimmed.tokenizer], 32)
    whole = choose_sample(TEXTS, [tokenizer], 32)
    assert sample.texts == whole.texts and 0 < sum(map(len, sample.spans)) <= sum(map(len, whole.spans))
    retained = similarity_retention(trimmed.model, trimmed.tokenizer, similarity_reference(teacher, tokenizer, sample))
    assert all(0.7 < value < 1 for value in retained.values())
    with pytest.raises(ValueError, match="splits the text differently; choose the tokens with this tokenizer too"):
        similarity_retention(trimmed.model, trimmed.tokenizer, similarity_reference(teacher, tokenizer, whole))


def test_the_sample_is_bounded_and_depends_on_the_seed_alone(tokenizer):
    texts = [*TEXTS, *TRAIN] * 2
    sample = choose_sample(texts, [tokenizer], 32)
    assert len(sample.texts) == len(set(sample.texts)) == 512 and sum(map(len, sample.spans)) == 2000
    assert sample == choose_sample(texts, [tokenizer], 32) != choose_sample(texts, [tokenizer], 32, seed=1)


def test_mode_gradients_and_random_state_are_left_alone(teacher, tokenizer):
    student = reduce_layers(teacher, [1, 3]).train()
    reference = similarity_reference(teacher, tokenizer, choose_sample(TEXTS[:40], [tokenizer], 32))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = similarity_retention(student, tokenizer, reference)
    assert torch.equal(torch.rand(4), expected)
    assert first == similarity_retention(student.eval(), tokenizer, reference)
    assert similarity_retention(student.train(), tokenizer, reference) == first and student.training
    assert all(parameter.grad is None for parameter in student.parameters())


def test_states_that_are_all_alike_retain_nothing(teacher, tokenizer):
    collapsed = reduce_layers(teacher, range(4))
    final = collapsed.base_model.encoder.layer[-1].output.LayerNorm
    torch.nn.init.zeros_(final.weight)
    reference = similarity_reference(teacher, tokenizer, choose_sample(TEXTS[:40], [tokenizer], 32))
    assert abs(similarity_retention(collapsed, tokenizer, reference)["token_similarity"]) < 0.1
    assert correlation(torch.zeros(5), torch.rand(5)) == 0.0


@pytest.mark.parametrize("texts", [["abc", "abc", "dea"], ["ŽŠČ", "ÁÉÍ", "ÓÚÝ"]])
def test_too_little_text_is_refused(texts):
    with pytest.raises(ValueError, match="similarities need 3 different sentences and 3 tokens .*; give more text"):
        choose_sample(texts, [wordpiece()], 32)
