"""Turn a multilingual encoder into a small monolingual one."""

from importlib.metadata import PackageNotFoundError, version

from hf_lrcompress.calibration.importance import GradientImportanceCallback, score_neurons
from hf_lrcompress.calibration.second_moments import collect_moments
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.surgery.ffn_pruning import output_importance, prune_ffn, select_neurons
from hf_lrcompress.surgery.hidden_truncation import truncate_hidden
from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers, select_layers_measured
from hf_lrcompress.surgery.moments import Moments
from hf_lrcompress.surgery.vocab_trimming import TrimmedVocab, trim_vocab
from hf_lrcompress.vocabulary.counting import count_tokens
from hf_lrcompress.vocabulary.selection import select_tokens, weighted_counts

__all__ = [
    "DistillationConfig",
    "DistillationTrainer",
    "GradientImportanceCallback",
    "TrimmedVocab",
    "Moments",
    "collect_moments",
    "count_tokens",
    "output_importance",
    "prune_ffn",
    "reduce_layers",
    "score_neurons",
    "select_layers",
    "select_layers_measured",
    "select_neurons",
    "select_tokens",
    "trim_vocab",
    "truncate_hidden",
    "weighted_counts",
]

try:
    __version__ = version("hf_lrcompress")
except PackageNotFoundError:
    __version__ = "0+not.installed"
