"""The pipeline: check everything, then run the stages that are not done yet, and report."""

import logging
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hf_lrcompress.distillation.masked_accuracy import masked_token_accuracy
from hf_lrcompress.distillation.similarity import SimilarityReference, choose_sample, similarity_reference, similarity_retention
from hf_lrcompress.machine import Meter, add_spent, free_memory, peak_memory_mb
from hf_lrcompress.models.identity import MODEL_DIR
from hf_lrcompress.models.loading import has_own_code
from hf_lrcompress.models.tokenizers import load_tokenizer
from hf_lrcompress.publishing import report
from hf_lrcompress.publishing.licence import teacher_license
from hf_lrcompress.run.disk_space import check_space, needed_bytes
from hf_lrcompress.run.folder import CONFIG_FILE, RunFolder, exported_files
from hf_lrcompress.run.preparation import PreparedRun
from hf_lrcompress.run.sentences import sentence_files
from hf_lrcompress.run.stage_files import clean
from hf_lrcompress.run.stage_record import StageRecord
from hf_lrcompress.stages import StageContext

logger = logging.getLogger(__name__)


class Pipeline:
    """A run in its folder, checked: what is wrong with teacher, texts or folder raises here.

    [`Pipeline.run`] does the long work.

    Args:
        prepared ([`PreparedRun`]): What to do.
        output_dir (`str` or `Path`): The run folder; what is complete in it is kept, what was begun is resumed.
        overwrite (`bool`, *optional*, defaults to `False`): Delete stages made with other settings and make them again.
        keep (`Sequence[str]`, *optional*): Files that must not be deleted with them, besides what the run reads.
        meter ([`~machine.Meter`], *optional*): Has measured the run so far; by default it begins here.

    Raises:
        ValueError, OSError, ImportError: One line that says what is wrong and what to do.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        output_dir: str | Path,
        overwrite: bool = False,
        keep: Sequence[str] = (),
        meter: Meter | None = None,
    ) -> None:
        self.state = PartialState()
        self.meter = meter or Meter(energy=self.state.num_processes == 1)
        self.prepared = prepared
        self.plan = prepared.plan
        self.output_dir = Path(output_dir)
        records = {planned.directory: planned.record for planned in self.plan}
        self.folder = RunFolder(self.output_dir, records, prepared.given.languages)
        self._lock = None
        if self.state.is_main_process:
            keep = [*prepared.paths(), *keep]
            stale = self.folder.check(overwrite, keep)
            staying = [directory for directory in self.folder.complete() if directory not in stale]
            check_space(self.plan, staying, self.output_dir)
            self._lock = self.folder.lock()
            self._stale = self.folder.check(overwrite, keep) if stale else []  # a run that had the lock may have made them again
            if not (self.output_dir / CONFIG_FILE).exists():
                self.folder.write_config(self.prepared.given.to_mapping())
        with self.state.main_process_first():
            if not self.folder.record(self.plan[0].directory).complete:
                prepared.inputs.load_model(prepared.inputs.teacher)  # raises if a weight is missing
            license = teacher_license(prepared.given)
        hashes = {"teacher": prepared.inputs.teacher_identity, **prepared.inputs.text_hashes}
        if hashes["train"] == hashes["validation"]:
            logger.warning("train and validation are the same text, so what is measured is of text that was trained on")
        self.teacher_facts = {"own_code": has_own_code(prepared.inputs.teacher_config), "hashes": hashes, **license}
        self.checked = prepared.check_texts()

    def run(self) -> Path:
        """Run what is not complete yet.

        Returns:
            `Path`: The directory of the final model.
        """
        try:
            self._run()
        finally:
            if self._lock:
                self._lock.release()
        return self.output_dir / MODEL_DIR

    def _run(self) -> None:
        if self.state.is_main_process:
            if MODEL_DIR in self._stale:
                report.set_card_aside(self.output_dir)
            self.folder.delete(self._stale)
            self.folder.write_config(self.prepared.given.to_mapping())
        self.state.wait_for_everyone()
        for position in range(len(self.plan)):
            self._run_stage(position)
            self.state.wait_for_everyone()
        if self.state.is_main_process:
            last = self.plan[self._last]
            files = self._files_beside_model()
            if not (self.output_dir / MODEL_DIR).exists():
                self._record_spent(self.plan[-1].directory)
            report.write_report(self.prepared.given, self.folder.records(), self.output_dir)
            report.write_model_dir(self.output_dir, last.directory, files)
        self.meter.read(last=True)
        self.state.wait_for_everyone()

    def needed_bytes(self) -> int:
        """Bytes that are still to be written, as [`~disk_space.needed_bytes`] has them."""
        return needed_bytes(self.plan, self.folder.complete())

    @property
    def _last(self) -> int:
        """Position of the final model."""
        return self.prepared.parent_of(len(self.plan))

    def _files_beside_model(self) -> dict[str, bytes | Path]:
        """What an export has made, and what sentence-transformers needs beside a model for representations."""
        if (self.output_dir / MODEL_DIR).exists():
            return {}
        records = {planned.directory: self.folder.record(planned.directory) for planned in self.plan}
        files: dict[str, bytes | Path] = {
            name: self.output_dir / folder / name for name, folder in exported_files(records).items()
        }
        if self.prepared.sentence_modules:
            source = self.prepared.model_of(self._last, self.output_dir)
            files |= sentence_files(self.prepared.inputs, self.prepared.sentence_modules, source)
        return files

    def _run_stage(self, position: int) -> None:
        planned = self.plan[position]
        record = self.folder.record(planned.directory)
        stage_dir = self.output_dir / planned.directory
        measured = not planned.makes_model or record.metrics.get("masked_text") == self.checked.masked.fingerprint
        done = "complete" if measured else "complete; measuring it at this run's masked places"
        logger.info("%d/%d %s%s", position, len(self.plan) - 1, planned.name, f": {done}" if record.complete else "")
        if record.fingerprint != planned.record.fingerprint:
            raise FileExistsError(f"{stage_dir} was made by another run meanwhile; start this one again")
        if not (record.complete and measured):
            metrics = self._measure(position) if record.complete else self._work(position)
            self._record_spent(planned.directory)
            if self.state.is_main_process:
                self.folder.record(planned.directory).with_metrics(metrics).completed(stage_dir).write(stage_dir)
        elif planned.stage is None and self.state.is_main_process and self._facts_differ(record):
            record.with_metrics(self.teacher_facts).write(stage_dir)  # its licence may have been stated since
        if self.state.is_main_process:
            clean(stage_dir)  # of a complete stage too: the process may have been killed in the middle of it

    def _facts_differ(self, record: StageRecord) -> bool:
        """Whether the teacher's record lacks, or has otherwise, what is known of the teacher now."""
        return any(record.metrics.get(key) != value for key, value in self.teacher_facts.items())

    def _work(self, position: int) -> dict[str, Any]:
        """Run and measure a stage. Its seconds and energy are recorded even if it is interrupted, or to the last checkpoint."""
        planned = self.plan[position]
        self._record_spent(planned.directory)
        self.state.wait_for_everyone()
        os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # TrainingArguments with bf16 leave theirs to all that come after
        try:
            metrics = planned.stage.run(self._context(position)) if planned.stage else self.teacher_facts
        finally:
            self._record_spent(planned.directory, own=True)
        free_memory()  # a Trainer, its models and its optimiser refer to each other in circles
        return metrics | (self._measure(position) if planned.makes_model else {})

    def _record_spent(self, directory: str, own: bool = False) -> None:
        """Add what has passed since the last time to a stage's record: as its own, or as the run's around it."""
        seconds, kwh = self.meter.read()
        if self.state.is_main_process:
            record = self.folder.record(directory)
            metrics: dict[str, Any]
            if own:
                metrics = add_spent(record.metrics, seconds, kwh) | {"peak_memory_mb": peak_memory_mb()}
            else:
                metrics = {"around": add_spent(record.metrics.get("around", {}), seconds, kwh)}
            record.with_metrics(metrics).write(self.output_dir / directory)

    def _measure(self, position: int) -> dict[str, Any]:
        """Parameters, size and what was kept, of a stage's model as it is on disk; on the main process only."""
        if not self.state.is_main_process:
            return {}
        source = self.prepared.model_of(position, self.output_dir)
        model = self.prepared.inputs.load_model(source).to(self.state.device)
        parameters = model.num_parameters()
        planned = self.plan[position].parameters
        if parameters != planned:
            raise RuntimeError(f"{source.path} has {parameters} parameters, not the {planned} that were planned")
        size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        metrics = {
            "parameters": parameters,
            "size_mb": size / 1e6,
            "reduction_percent": 100 * (1 - parameters / self.plan[0].parameters),
            "masked_text": self.checked.masked.fingerprint,
        }
        tokenizer = load_tokenizer(source.path, source.revision)
        metrics |= similarity_retention(model, tokenizer, self._teacher_similarities)
        if self.prepared.inputs.objective == "masked_lm":
            metrics |= masked_token_accuracy(model, tokenizer, self.checked.masked)
        return metrics

    @cached_property
    def _teacher_similarities(self) -> SimilarityReference:
        """What every stage's model is compared with."""
        inputs = self.prepared.inputs
        teacher = inputs.load_model(inputs.teacher).to(self.state.device)
        texts = inputs.validation_texts
        sample = choose_sample(texts, self.checked.tokenizers, inputs.block_size, inputs.seed, inputs.sentence_pooling)
        return similarity_reference(teacher, inputs.tokenizer, sample)

    def _context(self, position: int) -> StageContext:
        names = [planned.name for planned in self.plan[:position]]
        stages = {name: stage for name, stage in self.prepared.stages.items() if name in names}
        directory = self.plan[position].directory
        return StageContext(
            inputs=self.prepared.inputs,
            parent=self.prepared.model_of(self.prepared.parent_of(position), self.output_dir),
            stage_dir=self.output_dir / directory,
            models=self.prepared.models_before(position, self.output_dir),
            stages=stages,
            masked=self.checked.masked,
            similarities=lambda: self._teacher_similarities,
            at_checkpoint=lambda: self._record_spent(directory, own=True),
        )
