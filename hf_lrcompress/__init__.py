"""Turn a multilingual encoder into a small monolingual one."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_lrcompress.calibration.importance import GradientImportanceCallback, score_neurons
    from hf_lrcompress.calibration.second_moments import collect_moments
    from hf_lrcompress.distillation.config import DistillationConfig
    from hf_lrcompress.distillation.trainer import DistillationTrainer
    from hf_lrcompress.models.saving import save_tokenizer
    from hf_lrcompress.surgery.ffn_pruning import output_importance, prune_ffn, select_neurons
    from hf_lrcompress.surgery.hidden_truncation import truncate_hidden
    from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers, select_layers_measured
    from hf_lrcompress.surgery.moments import Moments
    from hf_lrcompress.surgery.vocab_trimming import TrimmedVocab, trim_vocab
    from hf_lrcompress.vocabulary.counting import count_tokens
    from hf_lrcompress.vocabulary.selection import select_tokens, weighted_counts

# Where each name is: imported when it is asked for, so that nobody waits for torch who does not need it.
_MODULES = {
    "DistillationConfig": "distillation.config",
    "DistillationTrainer": "distillation.trainer",
    "GradientImportanceCallback": "calibration.importance",
    "Moments": "surgery.moments",
    "TrimmedVocab": "surgery.vocab_trimming",
    "collect_moments": "calibration.second_moments",
    "count_tokens": "vocabulary.counting",
    "output_importance": "surgery.ffn_pruning",
    "prune_ffn": "surgery.ffn_pruning",
    "reduce_layers": "surgery.layer_reduction",
    "save_tokenizer": "models.saving",
    "score_neurons": "calibration.importance",
    "select_layers": "surgery.layer_reduction",
    "select_layers_measured": "surgery.layer_reduction",
    "select_neurons": "surgery.ffn_pruning",
    "select_tokens": "vocabulary.selection",
    "trim_vocab": "surgery.vocab_trimming",
    "truncate_hidden": "surgery.hidden_truncation",
    "weighted_counts": "vocabulary.selection",
}

__all__ = [
    "DistillationConfig",
    "DistillationTrainer",
    "GradientImportanceCallback",
    "Moments",
    "TrimmedVocab",
    "collect_moments",
    "count_tokens",
    "output_importance",
    "prune_ffn",
    "reduce_layers",
    "save_tokenizer",
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


def __getattr__(name: str) -> Any:
    """A public name, imported from where it is."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted([*globals(), *__all__])
