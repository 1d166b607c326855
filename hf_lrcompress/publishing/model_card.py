"""The model card, made from `report.json` alone; and the licence that the teacher's own card states."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from hf_lrcompress.demo.texts import DEMO_NOTICE
from hf_lrcompress.models.loading import OWN_CODE_TAG
from hf_lrcompress.publishing.licence import license_of
from hf_lrcompress.publishing.tables import (
    CURVE_COLUMNS,
    EFFICIENCY_COLUMNS,
    NOT_MEASURED,
    SCORE_COLUMNS,
    STAGE_COLUMNS,
    Columns,
    hundredfold,
    markdown_table,
    text_name,
    vocabulary_table,
)
from hf_lrcompress.texts.languages import Language

TASK_TYPES = {
    "tc": "text-classification",
    "sa": "text-classification",
    "ner": "token-classification",
    "pos": "token-classification",
}


def render_model_card(report: Mapping[str, Any], figures: Sequence[str] = ()) -> str:
    """The card of a run as Markdown with a metadata header; the same bytes for the same report.

    Args:
        report (`Mapping`): What `report.json` holds. What it lacks is "not measured" in the card.
        figures (`Sequence[str]`): Names of PNG files that lie beside the card.
    """
    settings = {key: value for key, value in report["settings"].items() if value is not None}
    language, teacher, final = Language.from_tag(report["language"]), report["stages"][0], report["stages"][-1]
    vocabulary, efficiency = report.get("vocabulary"), report.get("efficiency", ())
    title = f"{report['teacher'].rpartition('/')[2]} compressed to {language.name}"
    template = files("hf_lrcompress").joinpath("publishing/templates/model_card.md").read_text(encoding="utf-8")
    return (
        Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
        .from_string(template)
        .render(
            metadata=_metadata(report, settings, title).to_yaml(),
            title=title,
            notice=DEMO_NOTICE if report["machine_written_text"] else None,
            language_name=language.name,
            report=report,
            teacher=teacher,
            final=final,
            own_code=teacher.get("own_code", False),
            base_model=_base_model(report),
            stages=markdown_table(report["stages"], STAGE_COLUMNS),
            scores=markdown_table(report.get("scores", ()), SCORE_COLUMNS),
            efficiency=markdown_table(efficiency, _efficiency_columns(len(efficiency))),
            hundredfold=hundredfold,
            adapted=any(stage["stage"] == "adapt_teacher" for stage in report["stages"]),
            energy=any(stage.get("energy_kwh") is not None for stage in report["stages"]),
            vocabulary=vocabulary,
            sizes=vocabulary and vocabulary_table(vocabulary),
            curve=vocabulary and markdown_table(vocabulary["curve"], CURVE_COLUMNS),
            figures=figures,
            train=text_name(settings["train"]),
            validation=text_name(settings["validation"]),
            settings=_yaml(report["settings"]),
            total=_total(report.get("total", {})),
            environment=", ".join(f"{name} {value}" for name, value in report["environment"].items()),
        )
    )


def _efficiency_columns(models: int) -> Columns:
    """One model is no faster than another."""
    return {key: column for key, column in EFFICIENCY_COLUMNS.items() if models > 1 or key != "speedup"}


def _base_model(report: Mapping[str, Any]) -> str | None:
    """The teacher's Hub id; a report that does not have it yet names a teacher with a slash only if it is on the Hub."""
    return report.get("base_model", report["teacher"] if "/" in report["teacher"] else None)


def _metadata(report: Mapping[str, Any], settings: Mapping[str, Any], title: str) -> ModelCardData:
    base_model = _base_model(report)
    relation = {"base_model": base_model, "base_model_relation": "finetune"} if base_model else {}
    sources = [settings[name] for name in ("train", "validation")]
    datasets = list(dict.fromkeys(source["path"] for source in sources if isinstance(source, Mapping) and source.get("path")))
    return ModelCardData(
        language=report["language"],
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["hf_lrcompress", "model-compression", *([OWN_CODE_TAG] if report["stages"][0].get("own_code") else [])],
        datasets=datasets or None,
        model_name=title,
        eval_results=_eval_results(report, settings),
        hf_lrcompress_fingerprint=report["fingerprint"],
        **license_of(report),
        **relation,
    )


def _eval_results(report: Mapping[str, Any], settings: Mapping[str, Any]) -> list[EvalResult]:
    """The final model's scores as the Hub lists them; of machine-written text only how much smaller the model is."""
    final, source = report["stages"][-1], settings["validation"]
    on_hub = source["path"] if isinstance(source, Mapping) and source.get("path") else "local"
    text = {"task_type": "fill-mask", "dataset_type": on_hub, "dataset_name": text_name(source)}
    sizes = {"parameters": "Parameters", "reduction_percent": "Parameters fewer than the teacher's, %"}
    results = [EvalResult(**text, metric_type=key, metric_name=name, metric_value=final[key]) for key, name in sizes.items()]
    if report["machine_written_text"]:
        return results
    accuracy = {"metric_type": "accuracy", "metric_name": "Masked-token accuracy", "metric_value": final["mlm_accuracy"]}
    results.append(EvalResult(**text, **accuracy))
    for score in report.get("scores", ()):
        if score["model"] == final["stage"]:
            task = {
                "task_type": TASK_TYPES[score["task"]],
                "dataset_type": score.get("dataset", score["task"]),
                "dataset_name": " ".join([score["task"].upper(), *filter(None, [score.get("dataset")])]),
            }
            metric = {
                "metric_type": "f1" if "f1" in score["metric"] else score["metric"],
                "metric_name": score["metric"],
                "metric_value": score["mean"],
            }
            results.append(EvalResult(**task, **metric))
    return results


def _total(total: Mapping[str, float]) -> str:
    """Time and energy of the whole run in words."""
    seconds, energy = total.get("seconds"), total.get("energy_kwh")
    time = "the seconds in the first table" if seconds is None else f"{seconds:,.0f} s"
    return f"Time: {time}. Energy: {NOT_MEASURED if energy is None else f'{energy:.4f} kWh of the whole machine, by codecarbon'}."


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
