import pytest
import torch
from conftest import tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.distillation.masked_accuracy import mask_text, masked_token_accuracy
from hf_lrcompress.surgery.vocab_trimming import trim_vocab

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*"abcdefgh", *("##" + c for c in "abcdefgh"), "##bc", "abc", "def", "cab", "head", "##de", "fade"]
TEXTS = ["abc def fade head", "cab abc dead", "fade head cab def bad", "a bad head"]


@pytest.fixture
def tokenizer():
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(SPECIAL + PIECES)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{name}_token": SPECIAL[i] for name, i in names.items()}, model_max_length=32
    )


@pytest.fixture
def model(tokenizer):
    return tiny_model("bert", vocab_size=len(tokenizer))


def masked_strings(masked):
    return [[text[start:end] for start, end in spans] for text, spans in zip(masked.texts, masked.spans, strict=True)]


def test_only_tokens_that_all_tokenizers_share_are_masked(tokenizer, model):
    without_fade = [i for i in range(len(tokenizer)) if tokenizer.convert_ids_to_tokens(i) != "fade"]
    trimmed = trim_vocab(model, tokenizer, torch.tensor(without_fade)).tokenizer
    alone = mask_text(TEXTS, [tokenizer], 32, probability=1.0)
    common = mask_text(TEXTS, [tokenizer, trimmed], 32, probability=1.0)
    assert masked_strings(alone)[0] == ["abc", "def", "fade", "head"]
    assert masked_strings(common)[0] == ["abc", "def", "head"]
    assert trimmed.tokenize("fade") == ["f", "##a", "##de"]


def test_the_choice_depends_on_the_seed_alone(tokenizer):
    first = mask_text(TEXTS, [tokenizer], 32, probability=0.3, seed=1)
    assert first == mask_text(TEXTS, [tokenizer], 32, probability=0.3, seed=1)
    others = [mask_text(TEXTS, [tokenizer], 32, probability=0.3, seed=seed) for seed in range(2, 9)]
    assert any(other.fingerprint != first.fingerprint for other in others)


def test_text_without_common_tokens_is_refused(tokenizer):
    with pytest.raises(ValueError, match="is it in the right language"):
        mask_text(["XYZ", "ŽŠČ"], [tokenizer], 32)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_accuracy_and_loss_are_those_of_a_loop(tokenizer, model, batch_size):
    masked = mask_text(TEXTS, [tokenizer], 32, probability=0.5)
    hits, losses = [], []
    for text, spans in zip(masked.texts, masked.spans, strict=True):
        encoding = tokenizer(text, return_offsets_mapping=True)
        ids = torch.tensor(encoding["input_ids"])
        places = [i for i, span in enumerate(encoding["offset_mapping"]) if span in spans]
        answers = ids[places].clone()
        ids[places] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(ids[None]).logits[0, places]
        hits += (logits.argmax(-1) == answers).tolist()
        losses += torch.nn.functional.cross_entropy(logits, answers, reduction="none").tolist()
    result = masked_token_accuracy(model, tokenizer, masked, batch_size)
    assert result["masked_tokens"] == len(hits)
    assert result["mlm_accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert result["mlm_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_trimmed_model_is_asked_the_same_and_does_not_lose(tokenizer, model):
    """It has the same logits for fewer tokens: where the whole model was right, it is right."""
    keep = [i for i in range(len(tokenizer)) if tokenizer.convert_ids_to_tokens(i) not in ("fade", "##bc")]
    trimmed = trim_vocab(model, tokenizer, torch.tensor(keep))
    masked = mask_text([text for text in TEXTS if "fade" not in text], [tokenizer, trimmed.tokenizer], 32, probability=0.6)
    whole = masked_token_accuracy(model, tokenizer, masked)
    small = masked_token_accuracy(trimmed.model, trimmed.tokenizer, masked)
    assert small["masked_tokens"] == whole["masked_tokens"]
    assert small["mlm_accuracy"] >= whole["mlm_accuracy"]
    assert small["mlm_loss"] < whole["mlm_loss"]


def test_a_tokenizer_that_was_not_asked_is_refused(tokenizer, model):
    masked = mask_text(TEXTS, [tokenizer], 32, probability=1.0)
    trimmed = trim_vocab(model, tokenizer, torch.tensor([i for i in range(len(tokenizer)) if i != 24]))
    with pytest.raises(ValueError, match="splits the text differently"):
        masked_token_accuracy(trimmed.model, trimmed.tokenizer, masked)
