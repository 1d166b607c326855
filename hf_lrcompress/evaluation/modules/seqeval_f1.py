"""F1 over spans of tags, as seqeval finds them, and accuracy over words. Adjacent equal tags without B- are one span."""

import warnings

import datasets
import evaluate
from seqeval.metrics import accuracy_score, f1_score


class SeqevalF1(evaluate.Metric):
    """Metric of sentences with a tag for every word; computed by seqeval."""

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: a list of tags for every sentence",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every UPOS tag that it is no entity, and of scores over nothing
            f1 = f1_score(references, predictions, zero_division=0)
        return {"seqeval_f1": float(f1), "accuracy": float(accuracy_score(references, predictions))}
