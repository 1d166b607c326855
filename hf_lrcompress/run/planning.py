"""The plan of a run: what every stage will make, known before anything is computed."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast

from hf_lrcompress.demo.texts import save_demo_teacher, save_demo_text, save_demo_topics
from hf_lrcompress.distillation.training_memory import training_memory_mb
from hf_lrcompress.files import file_hash, fingerprint
from hf_lrcompress.models.architectures import architecture_of, intermediate_size_of
from hf_lrcompress.models.loading import hub_commit, load_config
from hf_lrcompress.models.rebuilding import masked_lm_on_meta
from hf_lrcompress.run.configuration import DEMO, RunConfig
from hf_lrcompress.run.folder import StageRecord
from hf_lrcompress.stages import Stage
from hf_lrcompress.stages.training import training_arguments
from hf_lrcompress.texts.corpus import CorpusSource, corpus_fingerprint
from hf_lrcompress.texts.readers import DEMO_COMMAND

logger = logging.getLogger(__name__)

WITHOUT_EFFECT = frozenset(
    [
        "logging_steps",
        "logging_strategy",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "eval_steps",
        "eval_strategy",
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "logging_dir",
        "disable_tqdm",
        "dataloader_num_workers",
        "per_device_eval_batch_size",
    ]
)
"""Training arguments that a run may be resumed with other values of."""


@dataclass(frozen=True)
class PlannedStage:
    """A stage and what its model will be. The first of a plan has no stage: it is the teacher as it comes.

    Args:
        name (`str`): Name of the stage, or `"teacher"`.
        directory (`str`): Its directory in the run folder.
        stage ([`Stage`] or `None`): Its settings.
        model_config ([`~transformers.PretrainedConfig`]): With the sizes of its model.
        parameters (`int`): Of its masked LM.
        fingerprint (`str`): Hash of everything its result depends on.
        training_mb (`float`, *optional*): Estimate of the memory of its training, where it trains.
    """

    name: str
    directory: str
    stage: Stage | None
    model_config: PretrainedConfig
    parameters: int
    fingerprint: str
    training_mb: float | None = None

    @property
    def makes_model(self) -> bool:
        """Whether there is a model in its directory, or for the teacher elsewhere."""
        return self.stage is None or self.stage.makes_model

    @property
    def record(self) -> StageRecord:
        """The record the stage begins with."""
        return StageRecord(self.name, self.fingerprint)


def resolve_demo(config: RunConfig) -> RunConfig:
    """Put files in place of what the configuration takes from the demo's packages.

    Raises:
        ImportError: If a package of the demo is not installed.
        ValueError: If the demo has no text in the language.
    """
    teacher, train, validation = config.teacher, config.train, config.validation
    if teacher == DEMO:
        teacher = str(save_demo_teacher())
    if config.machine_written:
        texts = [CorpusSource(files=(str(file),)) for file in save_demo_text(config.language)]
        train, validation = (texts[i] if source == DEMO else source for i, source in enumerate((train, validation)))
    return replace(config, teacher=teacher, train=train, validation=validation, stages=_resolve_topics(config))


def _resolve_topics(config: RunConfig) -> Mapping[str, Stage]:
    """The stages, with the demo's topics where the evaluation asks for them; without it where the text has no sections."""
    evaluation = config.stages.get("evaluate")
    if evaluation is None or DEMO not in evaluation.data.values():
        return config.stages
    folder = save_demo_topics(config.language)
    if folder is None:
        logger.warning("the demo's text in %s has no sections to tell apart: not evaluated", config.language.name)
        return {name: stage for name, stage in config.stages.items() if name != "evaluate"}
    data = {task: str(folder) if source == DEMO else source for task, source in evaluation.data.items()}
    return dict(config.stages) | {"evaluate": replace(evaluation, data=data)}


def with_counted_vocabulary(config: RunConfig) -> RunConfig:
    """A run whose `trim_vocab.vocab_size` is what its `min_count` makes it; the text is counted only if there is one.

    Raises:
        ValueError, OSError, ImportError: If teacher or text cannot be read.
    """
    stage = config.stages.get("trim_vocab")
    if stage is None or stage.min_count is None:
        return config
    resolved = resolve_demo(config)
    load_teacher_config(resolved)
    tokenizer = load_teacher_tokenizer(resolved)
    with PartialState().main_process_first():
        stage.read(resolved.train)
    counted = replace(stage, vocab_size=len(stage.select(tokenizer, stage.count(resolved.train, tokenizer))))
    if counted != stage:
        logger.info("trim_vocab: %d tokens occur %d times or more, or must stay", counted.vocab_size, stage.min_count)
    return replace(config, stages={**config.stages, "trim_vocab": counted})


def make_plan(config: RunConfig) -> list[PlannedStage]:
    """Work out every stage's sizes and fingerprint; computes nothing large.

    Args:
        config ([`RunConfig`]): With the demo resolved.

    Raises:
        ValueError: If the teacher cannot be compressed or a stage does not fit what comes before it.
        OSError: If the teacher cannot be read.
    """
    if config.validation.streaming:
        raise ValueError("validation text is read many times and cannot be streamed; set validation.streaming=false")
    model_config = load_teacher_config(config)
    inputs = fingerprint(corpus_fingerprint(config.train), corpus_fingerprint(config.validation), config.block_size, config.seed)
    parent = fingerprint(_teacher_fingerprint(config.teacher, config.teacher_revision))
    plan = [_planned(0, "teacher", None, model_config, parent)]
    for index, (name, stage) in enumerate(config.stages.items(), start=1):
        training, batch_size = {key: config.training[key] for key in stage.training_settings & config.training.keys()}, None
        if hasattr(stage, "training"):
            training = dict(config.training) | dict(stage.training)
            arguments = training_arguments(training, output_dir=".", seed=config.seed)
            if arguments.n_gpu > 1:
                raise ValueError("there are several GPUs: start with accelerate launch, which gives each a process")
            if config.train.streaming and arguments.max_steps <= 0:
                raise ValueError(f"{name}: streamed text has no end; say how long to train, such as training.max_steps=10000")
            batch_size = arguments.per_device_train_batch_size
            ignored = WITHOUT_EFFECT | stage.without_effect
            training = {key: value for key, value in training.items() if key not in ignored}
        before = model_config
        try:
            model_config = stage.resized(before)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        own = fingerprint(parent, inputs, name, asdict(stage) | {"training": training}, *filter(None, [stage.inputs()]))
        planned = _planned(index, name, stage, model_config, own)
        if batch_size:
            memory = training_memory_mb(model_config, before if stage.distils else None, batch_size, config.block_size)
            planned = replace(planned, training_mb=memory)
        plan.append(planned)
        parent = own if stage.makes_model else parent
    return plan


def load_teacher_config(config: RunConfig) -> PretrainedConfig:
    """The teacher's config, once it is known to be an encoder that can be compressed.

    Raises:
        ValueError: If the model type is not supported, needs code that may not be run or has no masked-LM class, or if the model
            is too short for the block size.
        OSError: If the config cannot be read.
    """
    try:
        model_config = load_config(config.teacher, config.teacher_revision, config.trust_remote_code)
    except OSError as error:
        raise OSError(_why_no_teacher(config.teacher, error)) from error
    masked_lm_on_meta(model_config)
    longest = model_config.max_position_embeddings - architecture_of(model_config).position_offset
    if not 8 <= config.block_size <= longest:
        raise ValueError(f"block_size {config.block_size} must be 8 to {longest}, the most positions {config.teacher} has")
    return model_config


def _planned(index: int, name: str, stage: Stage | None, config: PretrainedConfig, stage_fingerprint: str) -> PlannedStage:
    parameters = masked_lm_on_meta(config).num_parameters()
    return PlannedStage(name, f"{index:02d}-{name}", stage, config, parameters, stage_fingerprint)


def _why_no_teacher(teacher: str, error: OSError) -> str:
    if Path(teacher).exists():
        return f"{teacher} holds no model: {' '.join(str(error).split())}"
    if "connect" in str(error).lower() or "offline" in str(error).lower():
        return f"the Hugging Face Hub cannot be reached to load {teacher}; for a run without it: {DEMO_COMMAND}"
    if "gated" in str(error).lower():
        return f"{teacher} is gated: ask for access at https://huggingface.co/{teacher}, then log in with hf auth login"
    return f"there is no model {teacher!r}, neither as a directory nor on the Hugging Face Hub (if it is private: hf auth login)"


def summary(plan: list[PlannedStage]) -> list[Mapping[str, Any]]:
    """One row a stage: its sizes, parameters, megabytes (fp32), reduction against the teacher and memory of its training."""
    return [
        {
            "stage": planned.name,
            "layers": planned.model_config.num_hidden_layers,
            "intermediate": intermediate_size_of(planned.model_config),
            "hidden": planned.model_config.hidden_size,
            "vocabulary": planned.model_config.vocab_size,
            "parameters": planned.parameters,
            "size_mb": planned.parameters * 4 / 1e6,
            "reduction_percent": 100 * (1 - planned.parameters / plan[0].parameters),
            "training_mb": planned.training_mb,
        }
        for planned in plan
    ]


def load_teacher_tokenizer(config: RunConfig) -> PreTrainedTokenizerFast:
    """The teacher's fast tokenizer.

    Raises:
        ValueError: If it has none.
    """
    tokenizer = AutoTokenizer.from_pretrained(config.teacher, revision=config.teacher_revision, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ValueError(f"{config.teacher} has only a slow tokenizer; save it with a tokenizer.json first")
    return tokenizer


def _teacher_fingerprint(teacher: str, revision: str | None) -> Any:
    """Of a local directory the contents; of a model on the Hub its id and commit."""
    if not Path(teacher).is_dir():
        return [teacher, hub_commit(teacher, revision)]
    kinds = (".json", ".safetensors", ".bin", ".model", ".txt", ".py")
    files = sorted(path for path in Path(teacher).iterdir() if path.suffix in kinds)
    return {path.name: file_hash(path) for path in files}
