"""Which files of a model go to the Hub."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from huggingface_hub import ModelCard

from hf_lrcompress.export.exporting import ONNX_DIR
from hf_lrcompress.models.sentence_modules import module_folders

logger = logging.getLogger(__name__)

PUBLISHED = (".safetensors", ".json", ".txt", ".model", ".md", ".png", ".onnx")
LINK = re.compile(r"\]\((?:<([^>\n]+)>|([^)\s]+))")
"""Of Markdown: where a link or a picture leads, in angle brackets or without."""
CODE = re.compile(r"(```|~~~|`).*?\1", re.DOTALL)


def files_to_publish(model_dir: Path, suffixes: Sequence[str] = PUBLISHED) -> list[Path]:
    """Files beside the weights, ONNX files, and those in the folders of sentence-transformers' modules; no hidden ones.

    Args:
        model_dir (`Path`): The final model.
        suffixes (`Sequence[str]`, *optional*): How their names end.
    """
    folders = [model_dir, *module_folders(model_dir), model_dir / ONNX_DIR]
    found = [path for folder in folders for path in folder.glob("[!.]*")]
    return sorted(path for path in found if path.suffix in suffixes and path.is_file())


def linked_files(card: ModelCard, model_dir: Path) -> list[Path]:
    """The files in a model's folder that its card leads to, the licence's among them; those that are not there are said.

    Args:
        card ([`~huggingface_hub.ModelCard`]): The card, which somebody may have changed.
        model_dir (`Path`): The final model.
    """
    links = ["".join(parts) for parts in LINK.findall(CODE.sub("", card.text))]
    targets = [str(card.data.get("license_link") or ""), *links]
    names = {unquote(re.split("[#?]", target)[0]) for target in targets if not re.match(r"[\w+.-]+:|/", target)}
    found = []
    for name in sorted(names - {""}):
        path = os.path.join(model_dir, name)
        is_inside = os.path.commonpath([os.path.abspath(path), os.path.abspath(model_dir)]) == os.path.abspath(model_dir)
        is_hidden = any(part.startswith(".") for part in Path(name).parts)
        if os.path.isfile(path) and is_inside and not is_hidden:  # not Path's: it raises for long names
            found.append(model_dir / name)
        elif not (os.path.isdir(path) and is_inside):
            logger.warning("the card leads to %s, which is not published: put it into %s, or mend the link", name, model_dir)
    return found
