"""Macro F1 and accuracy over labels: the unweighted mean of the F1 of every label that is gold or predicted somewhere."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score


class MacroF1(evaluate.Metric):
    """Metric of texts with a label each; computed by scikit-learn."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: a label for every text",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        f1 = f1_score(references, predictions, average="macro", zero_division=0)
        return {"macro_f1": float(f1), "accuracy": float(accuracy_score(references, predictions))}
