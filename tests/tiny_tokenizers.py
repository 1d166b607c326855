"""Tokenizers of a few written-out tokens, and texts in them."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = list("abcdeš,!ж中U")
WORDS = ["abc", "##bc", "cab", "##de", "dea", "##ab", "жж", "##eš", "bad", "##cab", "deš", "aš", "a,b"]


def wordpiece(lowercase: bool = False) -> BertTokenizerFast:
    """Every character at the start of a word and inside it, then some longer tokens."""
    vocab = [*SPECIAL, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *WORDS]
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocab)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=backend, do_lower_case=lowercase)


def unigram() -> PreTrainedTokenizerFast:
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(character, -8.0 - i / 8) for i, character in enumerate(CHARACTERS)]
    pieces += [(word.replace("##", ""), -5.0 - i / 8) for i, word in enumerate(WORDS)]
    pieces += [("▁abc", -4.0), ("▁cab", -4.5), ("▁ж", -6.0), ("<mask>", 0.0)]
    backend = Tokenizer(models.Unigram(list(dict(pieces).items()), 3))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="<mask>", **names)


TEXTS = ["abc bad, cab abc", "deabc dea!", "deš aš abcab", "abc abc cabde cabde", "☃ abc", "", "bade ab"]
