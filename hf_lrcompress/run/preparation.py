"""The preparation of a run: what it resolves to, checked, and all that is known before its long work."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.demo.texts import save_demo_teacher, save_demo_text
from hf_lrcompress.distillation.masked_accuracy import MaskedText, mask_text
from hf_lrcompress.messages import named
from hf_lrcompress.models.architectures import most_tokens
from hf_lrcompress.models.sentence_modules import SentenceModules
from hf_lrcompress.run.configuration import DEMO, RunConfig
from hf_lrcompress.run.planning import PlannedStage, check_training_arguments, make_plan
from hf_lrcompress.run.size_target import meet_budget
from hf_lrcompress.stages import Stage
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.texts.corpus import CorpusSource
from hf_lrcompress.texts.readers import DEMO_COMMAND
from hf_lrcompress.vocabulary.ids import check_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedTexts:
    """What is known of a run once its texts are read and every stage has checked them.

    Args:
        tokenizers (`list[PreTrainedTokenizerFast]`): The teacher's, then those that stages make of it.
        masked ([`MaskedText`]): The places at which every stage's model is asked for a token.
    """

    tokenizers: list[PreTrainedTokenizerFast]
    masked: MaskedText


@dataclass(frozen=True)
class PreparedRun:
    """A run whose settings are known to be possible.

    Args:
        given ([`RunConfig`]): The configuration, with the sizes that a budget or the text decided.
        inputs ([`RunInputs`]): What the run starts from.
        plan (`tuple[PlannedStage, ...]`): The teacher as it comes, then every stage.
        sentence_modules ([`SentenceModules`], *optional*): What goes beside the final model, where it is for representations.
    """

    given: RunConfig
    inputs: RunInputs
    plan: tuple[PlannedStage, ...]
    sentence_modules: SentenceModules | None = None

    @property
    def stages(self) -> dict[str, Stage]:
        """The stages by name, in order."""
        return {planned.name: planned.stage for planned in self.plan if planned.stage}

    def paths(self) -> list[str]:
        """Everything on this machine that the run reads."""
        paths = [self.inputs.teacher.path, *self.inputs.train.files, *self.inputs.validation.files]
        for stage in self.stages.values():
            paths += stage.paths()
        return paths

    def parent_of(self, position: int) -> int:
        """The last position of the plan before `position` that has a model."""
        return max(index for index, planned in enumerate(self.plan[:position]) if planned.makes_model)

    def models_before(self, position: int, output_dir: Path) -> dict[str, ModelSource]:
        """Where the teacher and the models made before `position` are, by the name of their stage."""
        made = [index for index, planned in enumerate(self.plan[:position]) if planned.makes_model]
        return {self.plan[index].name: self.model_of(index, output_dir) for index in made}

    def model_of(self, position: int, output_dir: Path) -> ModelSource:
        """Where the model of a stage is, in a run folder."""
        return ModelSource(str(output_dir / self.plan[position].directory)) if position else self.inputs.teacher

    def check_texts(self) -> CheckedTexts:
        """Read and count the texts, and let every stage check them; that may take long.

        Raises:
            ValueError, OSError, ImportError: If a text cannot be read, or a stage refuses it.
        """
        for position, planned in enumerate(self.plan):
            if planned.stage:
                with named(planned.name):
                    planned.stage.check(self.inputs, self.models_before(position, Path()))
        with named("validation"):
            self.inputs.blocks(self.inputs.validation, self.inputs.tokenizer)
        tokenizers = [self.inputs.tokenizer]
        for name, stage in self.stages.items():  # counts the text
            with named(name):
                changed = stage.changed_tokenizer(self.inputs)
            tokenizers += [changed] if changed else []
        masked = mask_text(self.inputs.validation_texts, tokenizers, self.inputs.block_size, seed=self.inputs.seed)
        return CheckedTexts(tokenizers, masked)


def prepare(config: RunConfig, budget: int | None = None) -> PreparedRun:
    """Resolve and plan a run. No text is read yet, unless it decides a size; [`PreparedRun.check_texts`] reads them.

    Args:
        config ([`RunConfig`]): What to do.
        budget (`int`, *optional*): Choose the sizes for a model of at most so many parameters.

    Raises:
        ValueError, OSError, ImportError: One line that says what is wrong and what to do.
    """
    if not isinstance(config.validation, str) and config.validation.streaming:
        raise ValueError("validation text is read many times and cannot be streamed; set validation.streaming=false")
    inputs = _resolve(config)
    teacher = _check_teacher(inputs)
    if budget is not None:
        proposal = meet_budget(teacher, budget, config.stages)
        logger.info("\n- ".join([f"{proposal.parameters:,} parameters, for a target of {budget:,}:", *proposal.reasons]))
        config = replace(config, stages=proposal.stages)
    check_training_arguments(inputs, config.stages)
    config = replace(config, stages={name: stage.sized(inputs) for name, stage in config.stages.items()})
    plan = make_plan(inputs, _resolve_stages(config), teacher)
    return PreparedRun(config, inputs, tuple(plan), inputs.sentence_modules)


def _resolve(config: RunConfig) -> RunInputs:
    """The configuration's inputs, with files in place of what it takes from the demo's packages."""
    teacher = str(save_demo_teacher()) if config.teacher == DEMO else config.teacher
    demo = [CorpusSource(files=(str(file),)) for file in save_demo_text(config.language)] if config.machine_written else []
    train, validation = (
        demo[index] if isinstance(source, str) else source for index, source in enumerate((config.train, config.validation))
    )
    return RunInputs(
        config.language,
        ModelSource(teacher, config.teacher_revision),
        train,
        validation,
        config.training,
        config.objective,
        config.examples,
        config.block_size,
        config.seed,
        config.trust_remote_code,
        any(stage.gives_new_head for stage in config.stages.values()),
    )


def _resolve_stages(config: RunConfig) -> Mapping[str, Stage]:
    """The stages with files in place of the demo, without those that the demo has nothing for."""
    resolved = {name: stage.resolved(config.language) for name, stage in config.stages.items()}
    return {name: stage for name, stage in resolved.items() if stage}


def _check_teacher(inputs: RunInputs) -> PreTrainedModel:
    """The teacher on the meta device, once it is known to be an encoder that can be compressed.

    Raises:
        ValueError: If the model type is not supported, needs code that may not be run or has no class for the objective, if the
            model is too short for the block size, or if its tokenizer is missing or does not fit.
        OSError: If the config cannot be read.
    """
    name = inputs.teacher.path
    try:
        config = inputs.teacher_config
    except ConnectionError as error:
        raise ConnectionError(f"{error}; for a run without it: {DEMO_COMMAND}") from error
    teacher = inputs.on_meta(config)
    longest = most_tokens(config)
    if not 8 <= inputs.block_size <= longest:
        raise ValueError(f"block_size {inputs.block_size} must be 8 to {longest}, the most positions {name} has")
    _check_tokenizer(inputs)
    return teacher


def _check_tokenizer(inputs: RunInputs) -> None:
    tokenizer = inputs.tokenizer
    needed = {"pad": tokenizer.pad_token_id}
    if inputs.objective == "masked_lm":
        needed["mask"] = tokenizer.mask_token_id
    for kind, token_id in needed.items():
        if token_id is None:
            raise ValueError(f"the tokenizer of {inputs.teacher.path} has no {kind}_token; name it in its tokenizer_config.json")
    check_rows(tokenizer, inputs.teacher_config.vocab_size)
