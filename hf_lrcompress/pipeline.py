"""The pipeline: check everything, then run the stages that are not done yet, and report."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState
from filelock import FileLock, Timeout
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_lrcompress.distillation.masked_accuracy import MaskedText, mask_text, masked_token_accuracy
from hf_lrcompress.files import write_atomically
from hf_lrcompress.machine import add_energy, peak_memory_mb, start_energy_meter
from hf_lrcompress.models.loading import has_own_code, load_masked_lm
from hf_lrcompress.publishing import report
from hf_lrcompress.publishing.licence import teacher_license
from hf_lrcompress.run.configuration import RunConfig
from hf_lrcompress.run.folder import (
    CONFIG_FILE,
    CONFIG_HEADER,
    LOCK_FILE,
    MODEL_DIR,
    StageRecord,
    check_run_folder,
    delete_checkpoints,
    delete_stale,
)
from hf_lrcompress.run.planning import load_teacher_tokenizer, make_plan, resolve_demo, with_counted_vocabulary
from hf_lrcompress.stages import StageTask
from hf_lrcompress.stages.trim_vocab import TrimVocab
from hf_lrcompress.surgery.vocab_trimming import trimmed_config
from hf_lrcompress.texts.corpus import load_corpus, tokenize_corpus
from hf_lrcompress.vocabulary.certificate import check_coverage
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer

logger = logging.getLogger(__name__)


class Pipeline:
    """A run, checked: whatever is wrong with settings, texts or folder raises here, and [`Pipeline.run`] does the long work.

    Args:
        config ([`RunConfig`]): What to do.
        output_dir (`str` or `Path`): The run folder; what is complete in it is kept, what was begun is resumed.
        overwrite (`bool`, *optional*, defaults to `False`): Delete stages made with other settings and make them again.

    Attributes:
        plan (`list[PlannedStage]`): The teacher as it comes, then every stage.
        masked ([`MaskedText`]): The places at which every stage's model is asked for a token.
        token_counts (`torch.Tensor` of shape `(vocabulary,)` or `None`): That the vocabulary is trimmed by.

    Raises:
        ValueError, OSError, ImportError: One line that says what is wrong and what to do.
    """

    def __init__(self, config: RunConfig, output_dir: str | Path, overwrite: bool = False):
        self.state = PartialState()
        self.output_dir = Path(output_dir)
        self.given_config = with_counted_vocabulary(config)
        self.config = resolve_demo(self.given_config)
        self.plan = make_plan(self.config)
        self._folder = (self.output_dir, [stage.record for stage in self.plan], [stage.directory for stage in self.plan])
        inputs = [self.config.teacher, *self.config.train.files, *self.config.validation.files]
        inputs += [path for stage in self.config.stages.values() for path in stage.paths()]
        if self.state.is_main_process:
            check_run_folder(*self._folder, overwrite, inputs)
            self._lock = _lock(self.output_dir)
            if not (self.output_dir / CONFIG_FILE).exists():
                self._write_config()
        with self.state.main_process_first():
            tokenizer = self._read_inputs()
        self._prepare(tokenizer)

    def run(self) -> Path:
        """Run what is not complete yet.

        Returns:
            `Path`: The directory of the final model.
        """
        if self.state.is_main_process:
            delete_stale(*self._folder)
            self._write_config()
        self.state.wait_for_everyone()
        for position in range(len(self.plan)):
            self._run_stage(position)
            self.state.wait_for_everyone()
        if self.state.is_main_process:
            records = [StageRecord.read(self.output_dir / planned.directory) for planned in self.plan]
            report.write_report(self.given_config, records, self.output_dir)
            report.write_model_dir(self.output_dir, self.plan[self._parent_of(len(self.plan))].directory)
            self._lock.release()
        self.state.wait_for_everyone()
        return self.output_dir / MODEL_DIR

    def _write_config(self) -> None:
        settings = yaml.safe_dump(self.given_config.to_mapping(), sort_keys=False, allow_unicode=True)
        write_atomically(self.output_dir / CONFIG_FILE, f"{CONFIG_HEADER}\n{settings}")

    def _read_inputs(self) -> PreTrainedTokenizerFast:
        """Check teacher and texts, which are then in the cache; returns the teacher's tokenizer."""
        if not (StageRecord.read(self.output_dir / self.plan[0].directory) or self.plan[0].record).complete:
            load_masked_lm(self.config.teacher, self.config.teacher_revision)  # raises if a weight is missing
        self.teacher_facts = {"own_code": has_own_code(self.plan[0].model_config), **teacher_license(self.given_config)}
        tokenizer = load_teacher_tokenizer(self.config)
        try:
            tokenize_corpus(load_corpus(self.config.validation), tokenizer, self.config.block_size)
        except ValueError as error:
            raise ValueError(f"validation: {error}") from error
        for stage in self.config.stages.values():
            if isinstance(stage, TrimVocab):
                stage.read(self.config.train)
        return tokenizer

    def _prepare(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Count tokens and choose the places to mask."""
        texts = load_corpus(self.config.validation)["text"]
        tokenizers, self.token_counts = [tokenizer], None
        for name, stage in self.config.stages.items():
            if isinstance(stage, TrimVocab):
                self.token_counts = stage.count(self.config.train, tokenizer)
                try:
                    keep_ids = stage.select(tokenizer, self.token_counts)
                    trimmed_config(self.plan[0].model_config, tokenizer, keep_ids)
                    trimmed = trim_tokenizer(tokenizer, keep_ids)
                    check_coverage(tokenizer, trimmed, keep_ids, texts)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
                tokenizers.append(trimmed)
        for position, planned in enumerate(self.plan[1:], start=1):
            try:
                planned.stage.check(self.config.language, self._models_before(position))
            except ValueError as error:
                raise ValueError(f"{planned.name}: {error}") from error
        self.masked: MaskedText = mask_text(texts, tokenizers, self.config.block_size, seed=self.config.seed)

    def _run_stage(self, position: int) -> None:
        planned, total = self.plan[position], len(self.plan) - 1
        stage_dir = self.output_dir / planned.directory
        record = StageRecord.read(stage_dir) or planned.record
        if not record.complete:
            logger.info("%d/%d %s", position, total, planned.name)
            metrics = self._work(position, record, stage_dir)
        elif planned.makes_model and record.metrics["masked_text"] != self.masked.fingerprint:
            logger.info("%d/%d %s: complete; measuring it at this run's masked places", position, total, planned.name)
            metrics = self._measure(position)
        else:
            logger.info("%d/%d %s: complete", position, total, planned.name)
            return
        if self.state.is_main_process:
            (StageRecord.read(stage_dir) or record).with_metrics(complete=True, **metrics).write(stage_dir)
            delete_checkpoints(stage_dir)

    def _work(self, position: int, record: StageRecord, stage_dir: Path) -> dict[str, Any]:
        """Run and measure a stage. Its seconds and energy are recorded even if it is interrupted."""
        stage, started, metrics = self.plan[position].stage, time.monotonic(), {}
        if self.state.is_main_process:
            record.write(stage_dir)
        self.state.wait_for_everyone()
        one_process = self.state.num_processes == 1  # more may be on other machines, which the meter does not see
        stop_meter = start_energy_meter() if one_process else lambda: None
        os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # TrainingArguments with bf16 leave theirs to all that come after
        try:
            metrics = stage.run(self._task(position)) if stage else self.teacher_facts
        finally:
            seconds = record.metrics.get("seconds", 0.0) + time.monotonic() - started
            energy = add_energy(record.metrics, stop_meter())
            if self.state.is_main_process:
                record.with_metrics(seconds=seconds, peak_memory_mb=peak_memory_mb(), **energy).write(stage_dir)
        return metrics | (self._measure(position) if self.plan[position].makes_model else {})

    def _measure(self, position: int) -> dict[str, Any]:
        """Parameters, size and masked-token accuracy of a stage's model as it is on disk; on the main process only."""
        if not self.state.is_main_process:
            return {}
        name, revision = self._model_of(position)
        model = load_masked_lm(name, revision).to(self.state.device)
        parameters, planned = model.num_parameters(), self.plan[position].parameters
        if parameters != planned:
            raise RuntimeError(f"{name} has {parameters} parameters, not the {planned} that were planned")
        size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        return {
            "parameters": parameters,
            "size_mb": size / 1e6,
            "reduction_percent": 100 * (1 - parameters / self.plan[0].parameters),
            **masked_token_accuracy(model, tokenizer, self.masked),
            "masked_text": self.masked.fingerprint,
        }

    def _task(self, position: int) -> StageTask:
        parent, revision = self._model_of(self._parent_of(position))
        return StageTask(
            parent=parent,
            revision=revision,
            stage_dir=self.output_dir / self.plan[position].directory,
            train=self.config.train,
            validation=self.config.validation,
            block_size=self.config.block_size,
            seed=self.config.seed,
            training=self.config.training,
            token_counts=self.token_counts,
            language=self.config.language,
            models=self._models_before(position),
            stages={planned.name: planned.stage for planned in self.plan[1:position]},
        )

    def _parent_of(self, position: int) -> int:
        """The last position before `position` that has a model."""
        return max(index for index, planned in enumerate(self.plan[:position]) if planned.makes_model)

    def _models_before(self, position: int) -> dict[str, tuple[str, str | None]]:
        made = [(index, planned) for index, planned in enumerate(self.plan[:position]) if planned.makes_model]
        return {planned.name: self._model_of(index) for index, planned in made}

    def _model_of(self, position: int) -> tuple[str, str | None]:
        """Directory or Hub id, and revision, of a stage's model."""
        if position == 0:
            return self.config.teacher, self.config.teacher_revision
        return str(self.output_dir / self.plan[position].directory), None


def _lock(output_dir: Path) -> FileLock:
    output_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output_dir / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FileExistsError(f"another run is using {output_dir}; wait for it or give another --output_dir") from error
    return lock
