"""Saving a tokenizer so that transformers 4 and 5 load the same one."""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast

CONFIG_FILE = "tokenizer_config.json"
CLASS_THAT_REBUILDS_NOTHING = "PreTrainedTokenizerFast"


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, directory: str | Path) -> None:
    """Save a fast tokenizer under the name of the class that takes `tokenizer.json` as it is.

    The classes of model families rebuild parts of a tokenizer by rules of their own (transformers 5 gives XLM-R's another
    normaliser). Transformers 5 has new names for the plain class and for special tokens without a name, which transformers 4 does
    not know; it reads the old ones.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer; not changed.
        directory (`str` or `Path`): Gets its files; made if it is not there.
    """
    tokenizer.save_pretrained(directory)
    path = Path(directory) / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"tokenizer_class": CLASS_THAT_REBUILDS_NOTHING, "model_input_names": tokenizer.model_input_names}
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
