"""The stages by name. Their order comes from the configuration."""

from hf_lrcompress.stages.adapt_teacher import AdaptTeacher
from hf_lrcompress.stages.evaluate import Evaluate
from hf_lrcompress.stages.export import Export
from hf_lrcompress.stages.protocol import Stage, StageContext
from hf_lrcompress.stages.prune_ffn import PruneFFN
from hf_lrcompress.stages.reduce_layers import ReduceLayers
from hf_lrcompress.stages.trim_vocab import TrimVocab
from hf_lrcompress.stages.truncate_hidden import TruncateHidden

STAGES: dict[str, type[Stage]] = {
    "adapt_teacher": AdaptTeacher,
    "reduce_layers": ReduceLayers,
    "prune_ffn": PruneFFN,
    "truncate_hidden": TruncateHidden,
    "trim_vocab": TrimVocab,
    "evaluate": Evaluate,
    "export": Export,
}
DEFAULT_STAGES = tuple(name for name, stage in STAGES.items() if not stage.of_final_model)

__all__ = ["DEFAULT_STAGES", "STAGES", "Stage", "StageContext"]
