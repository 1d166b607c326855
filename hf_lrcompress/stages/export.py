"""Stage: the final model as ONNX files, in fp32 and int8. It makes no model of PyTorch's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from accelerate import PartialState
from transformers import PreTrainedModel

from hf_lrcompress.distillation.masked_accuracy import accuracy_of_logits, masked_token_accuracy
from hf_lrcompress.distillation.similarity import similarity_retention
from hf_lrcompress.export.exporting import export_model
from hf_lrcompress.export.graphs import check_exportable, check_makes_mask, require_onnx
from hf_lrcompress.export.running import OnnxModel
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.stages.protocol import Stage, StageContext


@dataclass(frozen=True)
class Export(Stage):
    """The export has no settings."""

    makes_model: ClassVar[bool] = False
    of_final_model: ClassVar[bool] = True

    def resized(self, model: PreTrainedModel) -> PreTrainedModel:
        """The same; refused if it does not fit into a file."""
        check_exportable(model)
        return model

    def check(self, inputs: RunInputs, models: Mapping[str, ModelSource]) -> None:
        """Refuse to begin where packages are missing, or the tokenizer makes no mask."""
        require_onnx()
        check_makes_mask(inputs.tokenizer)

    def run(self, context: StageContext) -> dict[str, Any]:
        """Export, and measure what 8 bits lose: on masked tokens, or where there is no head on similarities."""
        if not PartialState().is_main_process:
            return {}
        model, tokenizer = context.load_parent()

        def measure(tested: Any) -> dict[str, Any]:
            if context.inputs.objective != "masked_lm":
                return similarity_retention(tested, tokenizer, context.similarities())
            if isinstance(tested, OnnxModel):
                return accuracy_of_logits(tested, tokenizer, context.masked)
            return masked_token_accuracy(tested, tokenizer, context.masked)

        return {"export": export_model(model, tokenizer, context.stage_dir, measure)}
