"""Scores of a model with more than two classes, each with a 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fracturelab.errors import FracturelabError
from fracturelab.evaluation.checks import group_codes
from fracturelab.evaluation.intervals import UNDEFINED, Interval, widest
from fracturelab.evaluation.metrics import confusion_scores, confusion_tables, proportion
from fracturelab.evaluation.resampling import Array, bootstrap, percentile_interval


@dataclass(frozen=True)
class MulticlassEvaluation:
    """The scores of one model over several classes.

    Attributes:
        n: Images.
        class_names: In the order of the model's outputs.
        recall: Class name to the recall of the class; undefined where the class has no image.
        accuracy: Share of correct answers.
        macro_f1: Mean F1 of the classes that occur among labels or answers.
        kappa: Cohen's kappa.
        confusion_matrix: Rows are true classes, columns the model's answers.
        warnings: Sentences about faults that these scores can hide.
    """

    n: int
    class_names: tuple[str, ...]
    recall: dict[str, Interval]
    accuracy: Interval
    macro_f1: Interval
    kappa: Interval
    confusion_matrix: list[list[int]]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """All of it as plain numbers, ready for JSON."""
        scores = {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "kappa": self.kappa}
        return {
            "n": self.n,
            "class_names": list(self.class_names),
            "metrics": {name: interval.to_dict() for name, interval in scores.items()},
            "recall": {name: interval.to_dict() for name, interval in self.recall.items()},
            "confusion_matrix": self.confusion_matrix,
            "warnings": list(self.warnings),
        }


def multiclass_metrics(
    labels: ArrayLike, probabilities: ArrayLike, *, class_names: Sequence[str], groups: ArrayLike | None = None
) -> MulticlassEvaluation:
    """Score a model with several classes, each score with a 95% interval.

    Accuracy and recall have Wilson's interval, at the effective number of independent images where groups hold
    several. Macro F1 and kappa have the grouped bootstrap's, widened to hold that of the accuracy moved to their value.

    Args:
        labels: (n,) class numbers, 0 to len(class_names) - 1.
        probabilities: (n, classes) of the model; the largest is its answer, the first of equals.
        class_names: Names in the order of the columns.
        groups: (n,) patient or near-copy group; None or NA is a group of its own.

    Returns:
        The `MulticlassEvaluation`.

    Raises:
        FracturelabError: Labels outside the classes, a shape that does not fit, or numbers that are not finite.
    """
    names, k = tuple(class_names), len(class_names)
    truth = np.asarray(labels).ravel()
    scores = np.asarray(probabilities, dtype=np.float64)
    if len(truth) == 0 or scores.shape != (len(truth), k):
        raise FracturelabError(f"expected probabilities of shape ({len(truth) or 'n'}, {k}). Received: {scores.shape}")
    if not np.isfinite(scores).all():
        raise FracturelabError("expected finite probabilities. Received: some that are not numbers; the model diverged")
    if not np.isin(truth, np.arange(k)).all():
        raise FracturelabError(f"expected class numbers 0 to {k - 1}. Received: {sorted(set(truth.tolist()))[:12]}")
    truth, called = truth.astype(np.int64), scores.argmax(axis=1)
    codes = group_codes(groups, n=len(truth))
    right, tables = truth == called, confusion_tables(truth, called, k)

    def score(counts: Array) -> Array:
        of_tables = confusion_scores(tables(counts))
        return np.column_stack([of_tables["macro_f1"], of_tables["kappa"]])

    every = np.ones((1, len(truth)))
    accuracy = proportion(right, every[0] == 1, codes)
    resampled = bootstrap(score, codes, n_resamples=1000, seed=0)
    centre, low, high = np.array(accuracy, float)

    def around(value: float, drawn: Array) -> Interval:
        shifted = Interval(value, value - (centre - low), min(value + high - centre, 1.0))
        return widest(value, shifted, percentile_interval(value, drawn)) if np.isfinite(value) else UNDEFINED

    macro_f1, kappa = map(around, score(every)[0].tolist(), resampled.T)
    recall = {name: proportion(right, truth == i, codes) for i, name in enumerate(names)}
    alike = len(truth) > 1 and len(np.unique(called)) == 1
    warnings = (f"All {len(truth)} answers are {names[called[0]]}.",) if alike else ()
    table = tables(every)[0].astype(int).tolist()
    return MulticlassEvaluation(len(truth), names, recall, accuracy, macro_f1, kappa, table, warnings)
