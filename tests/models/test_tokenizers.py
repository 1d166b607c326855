"""Tokenizers are read as their files have them, whichever transformers reads them."""

import pytest
from trained_tokenizers import SENTENCEPIECE_FOLDERS, sentencepiece_folder

from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.models.tokenizers import load_tokenizer

ODD = ["Vlak\u00a0mešká", "ﬁnále o Ａ", "dobrý\u3000deň", "a\u200cb", "x\u200by", "ako\tsa\nmáte", "e\u0301", "dobrý  deň "]
"""No-break and wide spaces, joiners, ligatures, letters with marks of their own: SentencePiece maps them before it cuts."""


@pytest.mark.parametrize("model_type", [name for name in SENTENCEPIECE_FOLDERS if name != "albert"])
def test_characters_are_mapped_as_sentencepiece_maps_them(model_type, tmp_path):
    spm = pytest.importorskip("sentencepiece")
    (tmp_path / "teacher").mkdir()
    tokenizer = load_tokenizer(sentencepiece_folder(model_type, tmp_path / "teacher"))
    theirs = spm.SentencePieceProcessor(model_file=str(tmp_path / "teacher" / SENTENCEPIECE_FOLDERS[model_type][0]))
    known = {theirs.id_to_piece(i) for i in range(theirs.get_piece_size()) if not theirs.is_unknown(i)}
    save_tokenizer(tokenizer, tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "named")  # under the name of the family's class, which makes parts of it anew
    again = [load_tokenizer(str(tmp_path / name)) for name in ("saved", "named")]
    for text in ODD:
        expected = [piece if piece in known else None for piece in theirs.encode(text.rstrip(), out_type=str)]
        for each in (tokenizer, *again):
            found = [token if token in known else None for token in each.tokenize(text.rstrip())]
            assert found == expected, ascii(text)
