"""Stage: remove the feed-forward neurons that matter least."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedModel

from hf_lrcompress.calibration.importance import score_neurons
from hf_lrcompress.models.architectures import intermediate_size_of, layers_of
from hf_lrcompress.models.rebuilding import with_intermediate_size
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.stages.protocol import Cut, Stage, StageContext
from hf_lrcompress.stages.training_arguments import LOSS_ARGUMENTS, training_arguments
from hf_lrcompress.surgery.ffn_pruning import output_importance, prune_ffn, select_neurons

METHODS = ("first_order", "refit")
SCORED_BY = LOSS_ARGUMENTS - {"losses", "alpha", "distillation_loss"}
"""Arguments of the losses, besides their weights, that scores follow too."""


@dataclass(frozen=True)
class PruneFFN(Stage):
    """Settings of FFN pruning.

    Args:
        intermediate_size (`int`, *optional*, defaults to 2048): Neurons to keep in each layer.
        method (`str`, *optional*, defaults to `"first_order"`):
            `"first_order"`, as in the paper: by the importance for masked LM on the validation text, see [`score_neurons`].
            `"refit"`: by what the network's output loses on the training text, with the kept neurons' output matrix refitted, see
            [`output_importance`] and [`prune_ffn`].
        batch_size (`int`, *optional*, defaults to 8): For `"first_order"`: blocks whose gradient makes one importance term.
        score_against (`str`, *optional*):
            For `"first_order"`: the stage whose model the run's losses compare with, in place of masked LM. It must compute
            something else than the model that is cut: where nothing is lost yet no neuron would count.
        calibration_blocks (`int`, *optional*, defaults to 256): Blocks of training text that `"refit"` measures.

    Raises:
        ValueError: If the method is unknown, or a number is not positive.
    """

    training_settings: ClassVar[frozenset[str]] = frozenset({"bf16", "fp16"})
    cut_rank: ClassVar[int | None] = 1
    intermediate_size: int = 2048
    method: str = "first_order"
    batch_size: int = 8
    score_against: str | None = None
    calibration_blocks: int = 256

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"prune_ffn: method must be one of {', '.join(METHODS)}, got {self.method!r}")
        for name in ("batch_size", "calibration_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"prune_ffn: {name} must be 1 or more, got {getattr(self, name)}")

    def settings_that_matter(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """All settings, and of the training's those that scores depend on."""
        names = self.training_settings | (LOSS_ARGUMENTS if self.score_against else frozenset())
        return asdict(self) | {"training": {key: training[key] for key in names & training.keys()}}

    def resized(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model with fewer neurons a layer."""
        scores = torch.zeros(len(layers_of(model)), intermediate_size_of(model.config))
        return prune_ffn(model, select_neurons(scores, self.intermediate_size))

    def check(self, inputs: RunInputs, models: Mapping[str, ModelSource]) -> None:
        """Refuse scores by masked LM without a head, and a model to compare with that is not there."""
        if self.method == "first_order" and self.score_against is None and inputs.objective == "representation":
            raise ValueError("without a masked-LM head neurons need score_against, an earlier stage; or use method: refit")
        if self.method == "refit":
            inputs.check_calibration(self.calibration_blocks)
        if self.score_against not in (None, *models):
            raise ValueError(f"score_against: {self.score_against!r} is no earlier stage; there are: {', '.join(models)}")

    def cuts(self, config: PretrainedConfig) -> Iterator[Cut]:
        """Two thirds of the neurons; where the rest is refitted the configuration's number, if that is smaller."""
        neurons = intermediate_size_of(config)
        kept = -(-2 * neurons // 3)
        reason = f"two thirds of {neurons}; fewer degrade, and so do fewer heads"
        if self.method == "refit" and self.intermediate_size < kept:
            kept = self.intermediate_size
            reason = f"as the configuration has it, of {neurons}; what is kept is refitted"
        yield Cut("intermediate_size", kept, with_intermediate_size(config, kept), reason)

    def with_size(self, size: int, model: PreTrainedModel) -> "PruneFFN":
        """Keep `size` neurons a layer."""
        return replace(self, intermediate_size=size)

    def run(self, context: StageContext) -> dict[str, Any]:
        """Score the parent's neurons, and cut them from it."""
        if self.method == "refit":
            return self._run_refit(context)
        inputs = context.inputs
        scored, tokenizer = context.load_parent()
        blocks = inputs.blocks(inputs.validation, tokenizer)
        settings = {"sentence_pooling": inputs.sentence_pooling} | dict(inputs.training)
        training = training_arguments(settings, str(context.stage_dir), inputs.seed)
        distilled: dict[str, Any] = {}
        if self.score_against:
            distilled = {name: getattr(training, name) for name in SCORED_BY}
            distilled["losses"] = training.loss_weights
            distilled["teacher"] = inputs.load_model(context.models[self.score_against])
        scores = score_neurons(
            scored,
            blocks,
            tokenizer,
            batch_size=self.batch_size,
            seed=inputs.seed,
            bf16=training.bf16,
            **distilled,
        )
        keep_neurons = select_neurons(scores, self.intermediate_size)
        kept_share = scores.gather(1, keep_neurons).sum() / scores.sum()
        parent, _ = context.load_parent()  # again: scoring has changed the first one's dropout
        context.save(prune_ffn(parent, keep_neurons), tokenizer)
        return {"importance_kept": kept_share.item()}

    def _run_refit(self, context: StageContext) -> dict[str, Any]:
        parent, tokenizer = context.load_parent()
        moments = context.inputs.moments(parent, tokenizer, self.calibration_blocks)
        keep_neurons = select_neurons(output_importance(parent, moments), self.intermediate_size)
        context.save(prune_ffn(parent, keep_neurons, moments), tokenizer)
        return {}
