"""What is saved is what `tokenizer.json` says, beside the config of a model too."""

import pytest
from conftest import tiny_config
from made_up_texts import TEXTS
from tokenizers import Tokenizer
from trained_tokenizers import bert, modernbert, xlm_roberta
from transformers import AutoTokenizer

from hf_lrcompress.models.saving import save_tokenizer


@pytest.mark.parametrize(("make", "model_type"), [(bert, "bert"), (xlm_roberta, "xlm-roberta"), (modernbert, "roberta")])
def test_the_loaded_tokenizer_is_the_file(make, model_type, tmp_path):
    tokenizer = make()
    save_tokenizer(tokenizer, tmp_path)
    tiny_config(model_type).save_pretrained(tmp_path)
    auto, raw = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [*TEXTS, "ﬁ ½ \u200b x", "a <mask> b"]
    assert auto(texts)["input_ids"] == [encoding.ids for encoding in raw.encode_batch(texts)] == tokenizer(texts)["input_ids"]
    assert auto.model_input_names == tokenizer.model_input_names
    assert auto.all_special_ids == tokenizer.all_special_ids
    assert '"tokenizer_class": "PreTrainedTokenizerFast"' in (tmp_path / "tokenizer_config.json").read_text()
