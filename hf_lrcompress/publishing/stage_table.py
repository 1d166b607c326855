"""The table of a report's stages, and what one must know to read it; the same in the report and on the card."""

from collections.abc import Mapping
from typing import Any

from hf_lrcompress.distillation.similarity import MOST_SENTENCES
from hf_lrcompress.evaluation.efficiency import timed_with
from hf_lrcompress.publishing.metadata import keeps_representation
from hf_lrcompress.tables import NOT_MEASURED, STAGE_COLUMNS, make_table

MASKED_COLUMNS = ("mlm_accuracy", "mlm_loss")
UNTRAINED_HEAD = 0.01
"""A masked-token accuracy below this is that of a head that was never trained."""


def stage_table(report: Mapping[str, Any]) -> str:
    """A row a stage as Markdown; nothing about masked tokens where the model has no masked-LM head.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    hidden = MASKED_COLUMNS if keeps_representation(report) else ()
    return make_table(report["stages"], {key: column for key, column in STAGE_COLUMNS.items() if key not in hidden})


def stage_notes(report: Mapping[str, Any]) -> list[str]:
    """What the columns of the table are, a line each.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    notes = [] if keeps_representation(report) else [_on_masked_tokens(report)]
    notes.append(_on_similarity(report))
    if any(stage.get("energy_kwh") is not None for stage in report["stages"]):
        notes.append("A stage's kWh are those of the whole machine while it ran.")
    notes.append("Peak memory is that of the process, to the end of the stage.")
    return notes


def export_note(export: Mapping[str, Any]) -> str:
    """How the table of an export was measured.

    Args:
        export (`Mapping`): What `report.json` holds of it.
    """
    return (
        f"Milliseconds are those of one text of {export['tokens']} tokens, {timed_with(export['threads'])}. "
        "Difference (the largest) and correlation are those of outputs with PyTorch's, at several batches and lengths."
    )


def _on_masked_tokens(report: Mapping[str, Any]) -> str:
    note = (
        f"Masked-token accuracy and loss are measured on the same {report['stages'][-1]['masked_tokens']:,} masked tokens of the "
        "validation text for every model. The loss is over each model's own vocabulary, so it falls when that is trimmed."
    )
    trained = [stage["stage"] for stage in report["stages"] if (stage.get("mlm_accuracy") or 0) >= UNTRAINED_HEAD]
    if not trained or report["stages"][0]["stage"] in trained:
        return note
    untrained = "The teacher's own accuracy is near 0, as it is of a model whose masked-LM head was not trained"
    return f"{note} {untrained}: compare with `{trained[0]}`."


def _on_similarity(report: Mapping[str, Any]) -> str:
    measured = [stage for stage in report["stages"] if stage.get("sentence_similarity") is not None]
    if not measured:
        return f"Sentence and token similarity: {NOT_MEASURED}."
    return (
        "Sentence similarity says whether the model finds the same sentences alike as the teacher does: the correlation of "
        f"the two models' cosine similarities over all pairs of at most {MOST_SENTENCES} validation sentences "
        "(pooled states, centred). "
        "Token similarity is the same for the states of single tokens."
    )
