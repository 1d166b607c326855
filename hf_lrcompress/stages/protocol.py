"""What a stage is, and what it is given: the inputs of the run and its place in the run's folder."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from accelerate import PartialState
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.masked_accuracy import MaskedText
from hf_lrcompress.distillation.similarity import SimilarityReference
from hf_lrcompress.models.saving import save_tokenizer
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.stages.inputs import ModelSource, RunInputs
from hf_lrcompress.texts.languages import Language


@dataclass(frozen=True)
class StageContext:
    """Where a stage reads and writes.

    Args:
        inputs ([`RunInputs`]): What the run starts from.
        parent ([`ModelSource`]): The model to start from.
        stage_dir (`Path`): Where the stage saves its model and tokenizer; checkpoints go there while it runs.
        masked ([`MaskedText`]): The places at which every model of the run is asked for a token.
        similarities (`Callable`): Gives what every model of the run is compared with: it loads the teacher, once.
        models (`Mapping[str, ModelSource]`): The teacher and the models made so far, by the name of their stage.
        stages (`Mapping[str, Stage]`): The stages so far.
        trains (`bool`, *optional*, defaults to `True`): If not, students are saved as the surgery leaves them.
        at_checkpoint (`Callable`, *optional*): Called in every process when a checkpoint has been saved.
    """

    inputs: RunInputs
    parent: ModelSource
    stage_dir: Path
    masked: MaskedText
    similarities: Callable[[], SimilarityReference]
    models: Mapping[str, ModelSource] = field(default_factory=dict)
    stages: Mapping[str, "Stage"] = field(default_factory=dict)
    trains: bool = True
    at_checkpoint: Callable[[], None] = lambda: None

    def load_parent(self) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """The parent and its tokenizer."""
        return self.inputs.load_model(self.parent), load_tokenizer(self.parent.path, self.parent.revision)

    def save(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        """Save model and tokenizer, from the main process."""
        if PartialState().is_main_process:
            model.save_pretrained(self.stage_dir)
            save_tokenizer(tokenizer, self.stage_dir)
        PartialState().wait_for_everyone()


@dataclass(frozen=True)
class Cut:
    """A size that a stage would give a model to meet a budget.

    Args:
        key (`str`): The key of the config, which is the stage's setting too.
        size (`int`): Its new value.
        config ([`~transformers.PretrainedConfig`]): The model's config with it.
        reason (`str`): Why this size.
    """

    key: str
    size: int
    config: PretrainedConfig
    reason: str


@dataclass(frozen=True)
class Stage(ABC):
    """Base of the stages: a frozen dataclass of settings that says what sizes it makes, and makes them.

    A new stage is a file with a subclass, and a line in `stages/__init__.py`.
    """

    makes_model: ClassVar[bool] = True
    """Whether the stage leaves a model; if not, the next stage starts from the one before."""

    of_final_model: ClassVar[bool] = False
    """Whether what it leaves goes beside the final model: then no stage after it makes one."""

    training_settings: ClassVar[frozenset[str]] = frozenset()
    """Which of the run's training arguments matter to a stage that does not train."""

    cut_rank: ClassVar[int | None] = None
    """Place of the stage's [`Stage.cuts`] among those of all stages; the first costs least."""

    @property
    def gives_new_head(self) -> bool:
        """Whether it trains a masked-LM head that the teacher does not have."""
        return False

    def resized(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model that this stage makes of `model`, both without memory for their weights.

        Raises:
            ValueError: If the settings do not fit the model.
        """
        return model

    def resolved(self, language: Language) -> Self | None:
        """The stage with files in the place of the demo; `None` if the demo has nothing for it to work on."""
        return self

    def sized(self, inputs: RunInputs) -> Self:
        """The stage with the sizes that depend on the texts."""
        return self

    def cuts(self, config: PretrainedConfig) -> Iterator[Cut]:
        """Sizes to meet a budget with, the largest first, each to be tried before the next."""
        return iter(())

    def with_size(self, size: int, model: PreTrainedModel) -> "Stage":
        """The stage with the size of one of its [`Stage.cuts`], for the teacher `model` on the meta device."""
        raise ValueError(f"{type(self).__name__} has no size to choose")

    def check_budget(self) -> None:  # noqa: B027 - most have nothing
        """Raise a `ValueError` if its settings leave its size to something else than a budget."""

    def arguments(self, inputs: RunInputs, output_dir: str) -> DistillationConfig | None:
        """Its training arguments; `None` if it does not train.

        Raises:
            ValueError: If a training argument is unknown or out of range.
        """
        return None

    def teacher(self, parent: str, inputs: RunInputs) -> str | None:
        """The name of the stage whose model its own is trained against; `parent` is the name of the one before it."""
        return None

    def settings_that_matter(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """What decides its result, of its settings and of the run's training arguments: for the fingerprint."""
        return asdict(self) | {"training": {key: training[key] for key in self.training_settings & training.keys()}}

    def inputs(self, language: Language) -> Any:
        """What the stage reads besides the run's texts, for the fingerprint; `None` if there is nothing."""
        return None

    def paths(self) -> list[str]:
        """The files and directories it reads besides the run's texts: they must not lie in what would be deleted."""
        return []

    def changed_tokenizer(self, inputs: RunInputs) -> PreTrainedTokenizerFast | None:
        """The tokenizer of its model where that is not its parent's.

        Raises:
            ValueError: If the texts do not allow it.
        """
        return None

    def check(self, inputs: RunInputs, models: Mapping[str, ModelSource]) -> None:  # noqa: B027 - most have nothing
        """Refuse bad input before anything long is computed; `models` as in [`StageContext`].

        Raises:
            ValueError, OSError, ImportError: One line that says what is wrong and what to do.
        """

    @abstractmethod
    def run(self, context: StageContext) -> dict[str, Any]:
        """Make the model, save it in `context.stage_dir` and return what was measured."""
