"""Tokenizers of every kind, trained on the texts that were made up: the same ones every time.

Trainers walk hash tables, whose order is another in every process. What depends on it is settled here.
"""

import json
from pathlib import Path

from made_up_texts import TRAIN
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast, XLMRobertaTokenizerFast

BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


CHARACTERS = sorted(set("".join(TRAIN)) - {" "})


def without_added(backend: Tokenizer, keep: list[str]) -> Tokenizer:
    """Characters were given to the trainer as special tokens, for ids in an order that is known; now they are pieces."""
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in keep]
    return Tokenizer.from_str(json.dumps(state))


def bert(lowercase: bool = False) -> BertTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    inside = [f"##{character}" for character in CHARACTERS]
    first = [*BERT_SPECIAL, *inside]
    backend.train_from_iterator(TRAIN, trainers.WordPieceTrainer(vocab_size=900, special_tokens=first, show_progress=False))
    backend = without_added(backend, keep=BERT_SPECIAL)
    ids = [("[SEP]", 3), ("[CLS]", 2)]
    if lowercase:
        backend.post_processor = processors.BertProcessing(*ids)
    else:
        backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ids)
    return BertTokenizerFast(tokenizer_object=backend, do_lower_case=lowercase, model_max_length=128)


def unigram(special: list[str]) -> dict:
    """The JSON of a Unigram tokenizer with the special tokens in front."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=900, special_tokens=special, unk_token=special[-1], show_progress=False)
    backend.train_from_iterator(TRAIN, trainer)
    state = json.loads(backend.to_str())
    pieces = state["model"]["vocab"][len(special) :]
    rounded = [[piece, round(score, 1)] for piece, score in pieces]
    in_order = sorted(rounded, key=lambda piece: (-piece[1], piece[0]))
    state["model"]["vocab"] = [[token, 0.0] for token in special] + in_order
    return state


def template(state: dict, bos: str, eos: str) -> Tokenizer:
    backend = Tokenizer.from_str(json.dumps(state))
    ids = [(bos, backend.token_to_id(bos)), (eos, backend.token_to_id(eos))]
    backend.post_processor = processors.TemplateProcessing(f"{bos} $A {eos}", f"{bos} $A {eos} {eos} $B {eos}", ids)
    return backend


def xlm_roberta() -> XLMRobertaTokenizerFast:
    """XLM-R's layout: `<s> <pad> </s> <unk>` first, `<mask>` the last piece."""
    state = unigram(["<s>", "<pad>", "</s>", "<unk>"])
    state["model"]["vocab"].append(["<mask>", 0.0])
    return XLMRobertaTokenizerFast(tokenizer_object=template(state, "<s>", "</s>"), model_max_length=512)


def specials_last() -> PreTrainedTokenizerFast:
    """Special tokens behind the pieces, tokens added outside the model, another post-processor, odd settings."""
    state = unigram(["<unk>"])
    pieces = state["model"]["vocab"][1:]
    state["model"].update(vocab=[*pieces, ["<s>", 0.0], ["<unk>", 0.0], ["</s>", 0.0]], unk_id=len(pieces) + 1)
    state["added_tokens"] = []
    backend = Tokenizer.from_str(json.dumps(state))
    ends = ("</s>", len(pieces) + 2), ("<s>", len(pieces))
    roberta = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), roberta])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    tokenizer.add_tokens([AddedToken("fooBar", normalized=False), AddedToken("zzz")])
    tokenizer.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True)})
    tokenizer.padding_side, tokenizer.model_max_length = "left", 77
    return tokenizer


WORDS = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+")


def trained(model: models.BPE, pre_tokenizer, alphabet: list[str], normalizer=None, suffix: str = "") -> Tokenizer:
    backend = Tokenizer(model)
    if normalizer:
        backend.normalizer = normalizer
    if pre_tokenizer:
        backend.pre_tokenizer = pre_tokenizer
    special = ["<s>", "</s>", "<pad>", "<unk>"]
    ends = [character + suffix for character in CHARACTERS] if suffix else []
    arguments = {"special_tokens": [*special, *ends], "initial_alphabet": alphabet, "end_of_word_suffix": suffix}
    backend.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=1500, show_progress=False, **arguments))
    return without_added(backend, keep=special)


def fast(backend: Tokenizer) -> PreTrainedTokenizerFast:
    ids = [(token, backend.token_to_id(token)) for token in ("<s>", "</s>")]
    template = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", ids)
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    tokenizer.add_tokens([AddedToken("fooBar", normalized=False)])
    tokenizer.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True)})
    return tokenizer


def modernbert() -> PreTrainedTokenizerFast:
    """Byte-level with the pattern of GPT-2, after NFC."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend = trained(models.BPE(), splitter, pre_tokenizers.ByteLevel.alphabet(), normalizers.NFC())
    backend.decoder = decoders.ByteLevel()
    return fast(backend)


def llama3() -> PreTrainedTokenizerFast:
    """Byte-level with a pattern of its own and `ignore_merges`: a word that is a token needs no merges, and some have none."""
    parts = [pre_tokenizers.Split(WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    backend = trained(models.BPE(), pre_tokenizers.Sequence(parts), pre_tokenizers.ByteLevel.alphabet())
    backend.decoder = decoders.ByteLevel()
    state = json.loads(backend.to_str())
    state["model"]["ignore_merges"] = True
    state["model"]["merges"] = [merge for i, merge in enumerate(state["model"]["merges"]) if i % 50]
    return fast(Tokenizer.from_str(json.dumps(state)))


def gemma() -> PreTrainedTokenizerFast:
    """Characters with fallback to bytes, no pre-tokenizer, a token made by more than one merge as SentencePiece has it."""
    space = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend = trained(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True), space, [])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    state = json.loads(backend.to_str())
    vocab = state["model"]["vocab"]
    vocab |= {f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)}
    ids = sorted(vocab, key=vocab.get)
    splits = [[token[:i], token[i:]] for token in ids for i in range(1, len(token)) if {token[:i], token[i:]} <= vocab.keys()]
    state["model"]["merges"] = [pair for pair in splits if "<" not in "".join(pair)]
    state["pre_tokenizer"] = None
    state["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return fast(Tokenizer.from_str(json.dumps(state)))


def gemma_with_runs_of_spaces() -> PreTrainedTokenizerFast:
    """Gemma's other trait: added tokens that the text never shows, as its spaces become "▁" first, and that merges make."""
    state = json.loads(gemma().backend_tokenizer.to_str())
    vocab = state["model"]["vocab"]
    runs = ["▁▁", "▁▁▁▁"]
    vocab |= {run: len(vocab) + number for number, run in enumerate(runs)}
    state["model"]["merges"] = [["▁", "▁"], ["▁▁", "▁▁"], *state["model"]["merges"]]
    tokenizer = fast(Tokenizer.from_str(json.dumps(state)))
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in runs])
    return tokenizer


def clip() -> PreTrainedTokenizerFast:
    """With a suffix at the end of words, as CLIP and the first GPT have it."""
    return fast(trained(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), pre_tokenizers.Whitespace(), [], suffix="</w>"))


def subword_prefix() -> PreTrainedTokenizerFast:
    """With a prefix inside words, as WordPiece has it."""
    backend = trained(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"), pre_tokenizers.Whitespace(), [])
    return fast(backend)


OWN_IDS = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
OWN_NAMES = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
SENTENCEPIECE_FOLDERS = {
    "xlm-roberta": ("sentencepiece.bpe.model", "XLMRobertaTokenizer", {}),
    "camembert": ("sentencepiece.bpe.model", "CamembertTokenizer", {}),
    "deberta-v2": ("spm.model", "DebertaV2Tokenizer", {**OWN_IDS, **OWN_NAMES}),
    "albert": ("spiece.model", "AlbertTokenizer", {**OWN_IDS, **OWN_NAMES, "pad_piece": "<pad>", "unk_piece": "<unk>"}),
}
"""File, class and special tokens of the families that are published as a SentencePiece model without a `tokenizer.json`."""


def sentencepiece_folder(model_type: str, directory: Path, **config) -> str:
    """Such a folder, with `config` in its `tokenizer_config.json`."""
    from sentencepiece import SentencePieceTrainer

    file, tokenizer_class, special = SENTENCEPIECE_FOLDERS[model_type]
    with (directory / file).open("wb") as written:
        SentencePieceTrainer.train(sentence_iterator=iter(TRAIN), model_writer=written, vocab_size=600, minloglevel=2, **special)
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class, **config}))
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    return str(directory)
