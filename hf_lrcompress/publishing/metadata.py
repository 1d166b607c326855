"""What the Hub reads of a model: the header of its card, and its scores on registered benchmarks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from hf_lrcompress.demo.texts import DEMO, demo_tasks
from hf_lrcompress.evaluation.judging import missed_text, shortenings, tuning_text
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.models.loading import OWN_CODE_TAG
from hf_lrcompress.publishing.licence import license_of
from hf_lrcompress.tables import hundredfold
from hf_lrcompress.texts.languages import Language

FINGERPRINT = "hf_lrcompress_fingerprint"
SIZES = {"parameters": "Parameters", "reduction_percent": "Parameters fewer than the teacher's, %"}
SIMILARITIES = {
    "sentence_similarity": "Sentence similarity, correlation with the teacher's",
    "token_similarity": "Token similarity, correlation with the teacher's",
}


def card_metadata(report: Mapping[str, Any]) -> ModelCardData:
    """The header of the card.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    base_model = base_model_of(report)
    sentences = keeps_representation(report)
    tags = ["hf_lrcompress", "model-compression"]
    if sentences:
        tags += ["sentence-transformers", "feature-extraction"]
    if report["stages"][0].get("own_code"):
        tags.append(OWN_CODE_TAG)
    if "export" in report:
        tags.append("onnx")
    optional = license_of(report)
    tags_of_languages = [report["language"], *report.get("further_languages", ())]
    with_script = [tag for tag in tags_of_languages if "-" in tag]
    if with_script:
        optional["language_bcp47"] = _one_or_more(with_script)  # the Hub's `language` has no scripts and regions
    if base_model:
        optional |= {"base_model": base_model, "base_model_relation": "finetune"}
    return ModelCardData(
        language=_one_or_more([tag.split("-")[0] for tag in tags_of_languages]),
        library_name="sentence-transformers" if sentences else "transformers",
        pipeline_tag=_pipeline_tag(report),
        tags=tags,
        datasets=_datasets(report) or None,
        model_name=title_of(report),
        eval_results=_eval_results(report),
        hf_lrcompress_fingerprint=report["fingerprint"],
        **optional,
    )


def keeps_representation(report: Mapping[str, Any]) -> bool:
    """Whether the run's objective is the teacher's representation, so that the model has no masked-LM head.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    return report["settings"].get("objective") == "representation"


def base_model_of(report: Mapping[str, Any]) -> str | None:
    """The teacher's Hub id; `None` for a local teacher. An old report has none: there a name with a slash is an id.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    if "base_model" in report:
        return report["base_model"]
    return report["teacher"] if "/" in report["teacher"] else None


def has_demo_teacher(report: Mapping[str, Any]) -> bool:
    """Whether the teacher came from the demo's package, and is not a directory of the same name.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    return report["settings"]["teacher"] == DEMO and base_model_of(report) is not None


def title_of(report: Mapping[str, Any]) -> str:
    """The model's name for people.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    return f"{report['teacher'].rpartition('/')[2]} compressed to {Language.from_tag(report['language']).name}"


def text_name(source: Mapping[str, Any] | str) -> str:
    """A text as the card names it.

    Args:
        source (`Mapping` or `str`): The setting `train` or `validation`; only the demo's is no mapping.
    """
    if isinstance(source, str):
        return "the demo's machine-written text"
    if source["files"]:
        return ", ".join(source["files"])
    return " ".join(filter(None, [source["path"], source.get("name"), source["split"]]))


def render_eval_results(report: Mapping[str, Any], benchmarks: Mapping[str, str]) -> str:
    """The final model's scores on data sets that are registered benchmarks, as the Hub reads them from `.eval_results/*.yaml`.

    The format is that of https://huggingface.co/docs/hub/eval-results; values are those of the report, from 0 to 1.

    Args:
        report (`Mapping`): What `report.json` holds.
        benchmarks (`Mapping[str, str]`): Data set id → id of the task in the `eval.yaml` of the data set.

    Raises:
        ValueError: If the final model was not scored on one of the data sets.
    """
    scores = {score.get("dataset"): score for score in final_scores(report)}
    entries = []
    for dataset, task in benchmarks.items():
        if dataset not in scores:
            there_are = ", ".join(filter(None, scores)) or "none"
            raise ValueError(f"the model of this run has no score on {dataset}; it has scores on: {there_are}")
        score = scores[dataset]
        notes = f"{score['metric']}, mean over seeds {', '.join(map(str, score['seeds']))}, tuning {tuning_text(score)}"
        notes = ", ".join([notes, *facts_beside(score), *shortenings(score)])
        entries.append({"dataset": {"id": dataset, "task_id": task}, "value": score["mean"], "notes": notes})
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True) if entries else ""


def final_scores(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of the final model's scores.

    Args:
        report (`Mapping`): What `report.json` holds.
    """
    final = report["stages"][-1]["stage"]
    return [score for score in report.get("scores", ()) if score["model"] == final]


def facts_beside(score: Mapping[str, Any]) -> list[str]:
    """What stands beside a score in a line of text: accuracy of classes of words, the baseline, and what was not learned.

    Args:
        score (`Mapping`): A row of the report's scores.
    """
    facts = []
    if TASKS[score["task"]].classes_of_words:
        facts.append(f"accuracy {hundredfold(score['extra']['accuracy'])}")
    if score.get("majority") is not None:
        facts.append(f"majority baseline {hundredfold(score['majority'])}")
    return facts + _never(score)


def _never(score: Mapping[str, Any]) -> list[str]:
    missed = missed_text(score)
    return [f"never predicts {missed}"] if missed else []


def _one_or_more(tags: list[str]) -> Any:
    """A single one as it is, several as a list: each once."""
    different = list(dict.fromkeys(tags))
    return different[0] if len(different) == 1 else different


def _pipeline_tag(report: Mapping[str, Any]) -> str:
    return "sentence-similarity" if keeps_representation(report) else "fill-mask"


def _hub_id(source: Mapping[str, Any] | str) -> str | None:
    """Id of a text that is a data set on the Hub; `None` for the demo's and for local files."""
    return None if isinstance(source, str) else source.get("path")


def _datasets(report: Mapping[str, Any]) -> list[str]:
    ids = [_hub_id(report["settings"][name]) for name in ("train", "validation")]
    return list(dict.fromkeys(filter(None, ids)))


def _eval_results(report: Mapping[str, Any]) -> list[EvalResult]:
    """The final model's scores as the Hub lists them. Of machine-written text none but sizes and similarities mean anything."""
    final = report["stages"][-1]
    names = SIZES | SIMILARITIES
    results = [_on_text(report, key, name, final[key]) for key, name in names.items() if final.get(key) is not None]
    if report["machine_written_text"]:
        return results
    if not keeps_representation(report):
        results.append(_on_text(report, "accuracy", "Masked-token accuracy", final["mlm_accuracy"]))
    scores = [score for score in final_scores(report) if score["task"] not in demo_tasks(report["settings"])]
    return results + [result for score in _told_apart(scores) for result in _on_task(score)]


def _told_apart(scores: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The scores, with the task behind a name of data that another task has too: the Hub lists one entry a name."""
    names = Counter(score.get("dataset") for score in scores)
    apart = []
    for score in scores:
        name = score.get("dataset")
        apart.append({**score, "dataset": f"{name}-{score['task']}"} if name and names[name] > 1 else score)
    return apart


def _on_text(report: Mapping[str, Any], metric_type: str, metric_name: str, value: float) -> EvalResult:
    """What was measured on the validation text."""
    source = report["settings"]["validation"]
    return EvalResult(
        task_type=_pipeline_tag(report),
        dataset_type=_hub_id(source) or "local",
        dataset_name=text_name(source),
        metric_type=metric_type,
        metric_name=metric_name,
        metric_value=value,
    )


def _on_task(score: Mapping[str, Any]) -> list[EvalResult]:
    """A task's score, and of classes of words the accuracy too. What was shortened or not learned is in the name."""
    results = [_by_metric(score, score["metric"], score["mean"])]
    if TASKS[score["task"]].classes_of_words:
        results.append(_by_metric(score, "accuracy", score["extra"]["accuracy"]))
    return results


def _by_metric(score: Mapping[str, Any], metric: str, value: float) -> EvalResult:
    task = score["task"]
    dataset = score.get("dataset")
    names = [task.upper(), dataset] if dataset else [task.upper()]
    kind = "f1" if "f1" in metric else metric
    return EvalResult(
        task_type="token-classification" if TASKS[task].tokens else "text-classification",
        dataset_type=dataset or task,
        dataset_name=" ".join(names),
        metric_type=kind,
        metric_name=", ".join([metric, *_never(score), *shortenings(score)]),
        metric_value=value,
    )
