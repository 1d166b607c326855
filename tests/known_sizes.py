"""Configurations whose parameter counts the paper gives."""

from transformers import BertConfig, XLMRobertaConfig

XLMR_BASE = XLMRobertaConfig(vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
MBERT = BertConfig(vocab_size=119_547)
