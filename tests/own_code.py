"""A model with code of its own: XLM-R under another name, so that its row in the table differs in the name only."""

import json

CONFIGURATION = """
from transformers import XLMRobertaConfig

class OwnConfig(XLMRobertaConfig):
    model_type = "own-xlmr"
"""
MODELING = """
import transformers
from .configuration_own import OwnConfig

class OwnModel(transformers.XLMRobertaModel):
    config_class = OwnConfig

class OwnForMaskedLM(transformers.XLMRobertaForMaskedLM):
    config_class = OwnConfig

class OwnForSequenceClassification(transformers.XLMRobertaForSequenceClassification):
    config_class = OwnConfig

class OwnForTokenClassification(transformers.XLMRobertaForTokenClassification):
    config_class = OwnConfig
"""
ADD_ROW = """
from dataclasses import replace
from hf_lrcompress.models import architectures
row = next(row for row in architectures.ARCHITECTURES if "xlm-roberta" in row.model_types)
architectures.ARCHITECTURES += (replace(row, model_types=("own-xlmr",)),)
"""
"""For the process that is to know the family."""
CODE_FILES = {"configuration_own.py": CONFIGURATION.encode(), "modeling_own.py": MODELING.encode()}
HEADS = ("SequenceClassification", "TokenClassification")


def with_own_code(files: dict[str, bytes], heads: tuple[str, ...] = HEADS, repository: str = "") -> dict[str, bytes]:
    """The files of a saved XLM-R as those of a model that brings its classes, or says in which repository they are."""
    auto_map = {f"AutoModelFor{kind}": f"modeling_own.OwnFor{kind}" for kind in ("MaskedLM", *heads)}
    auto_map |= {"AutoModel": "modeling_own.OwnModel", "AutoConfig": "configuration_own.OwnConfig"}
    auto_map = {name: f"{repository}--{made}" if repository else made for name, made in auto_map.items()}
    config = json.loads(files["config.json"]) | {"model_type": "own-xlmr", "auto_map": auto_map}
    return files | CODE_FILES | {"config.json": json.dumps(config).encode()}
