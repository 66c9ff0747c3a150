"""Scores of a model with more than two classes, each with a 95% interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fracturelab.errors import FracturelabError
from fracturelab.evaluation.checks import group_codes
from fracturelab.evaluation.intervals import UNDEFINED, Interval, widest
from fracturelab.evaluation.metrics import proportion
from fracturelab.evaluation.resampling import Array, bootstrap, percentile_interval


@dataclass(frozen=True)
class MulticlassEvaluation:
    """The scores of one model over several classes.

    Attributes:
        n: Images.
        class_names: In the order of the model's outputs.
        accuracy: Share of right answers.
        macro_f1: Mean F1 of the classes that occur among labels or answers.
        kappa: Cohen's kappa.
        recall: Class name to its share of right answers; undefined where the class has no image.
        confusion_matrix: Rows are true classes, columns the model's answers.
        warnings: Sentences about what these scores may hide.
    """

    n: int
    class_names: tuple[str, ...]
    accuracy: Interval
    macro_f1: Interval
    kappa: Interval
    recall: dict[str, Interval]
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


def _table_scores(tables: Array) -> Array:
    """(..., k, k) confusion tables -> (..., 3) accuracy, macro F1 and kappa."""
    right = np.diagonal(tables, axis1=-2, axis2=-1)
    true, said, n = tables.sum(-1), tables.sum(-2), tables.sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * right / (true + said)
        occurs = (true + said) > 0
        macro = np.where(occurs, f1, 0.0).sum(-1) / occurs.sum(-1)
        accuracy = right.sum(-1) / n
        chance = (true * said).sum(-1) / n**2
        kappa = (accuracy - chance) / (1 - chance)
    return np.stack([accuracy, macro, kappa], axis=-1)


def multiclass_metrics(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    class_names: Sequence[str],
    groups: ArrayLike | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> MulticlassEvaluation:
    """Scores a model with several classes.

    Accuracy and recall have Wilson's interval, at the effective number of independent images where groups hold
    several. Macro F1 and kappa have the grouped bootstrap's, widened to hold that of the accuracy moved to their value.

    Args:
        labels: (n,) class numbers, 0 to len(class_names) - 1.
        probabilities: (n, classes) of the model; the largest is its answer, the first of equals.
        class_names: Names in the order of the columns.
        groups: (n,) patient or near-copy group; None or NA is a group of its own.
        seed: Of the bootstrap.
        n_bootstrap: Resamples of whole groups.

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
    truth = truth.astype(np.int64)
    said = scores.argmax(axis=1)
    codes = group_codes(groups, n=len(truth))
    right = truth == said
    cells = k * truth + said
    table = np.bincount(cells, minlength=k * k).reshape(k, k)

    def score(counts: Array) -> Array:
        tables = np.zeros((len(counts), k * k))
        for cell in np.unique(cells):
            tables[:, cell] = counts[:, cells == cell].sum(axis=1)
        return _table_scores(tables.reshape(-1, k, k))

    _, macro, kappa = _table_scores(table.astype(float))
    resampled = bootstrap(score, codes, n_resamples=n_bootstrap, seed=seed)
    accuracy = proportion(right, np.ones(len(truth), bool), codes)
    warnings: tuple[str, ...] = ()
    if len(truth) > 1 and len(np.unique(said)) == 1:
        warnings = (f"All {len(truth)} answers are {names[said[0]]}.",)
    return MulticlassEvaluation(
        n=len(truth),
        class_names=names,
        accuracy=accuracy,
        macro_f1=_around(accuracy, macro, resampled[:, 1]),
        kappa=_around(accuracy, kappa, resampled[:, 2]),
        recall={name: proportion(right, truth == i, codes) for i, name in enumerate(names)},
        confusion_matrix=[[int(v) for v in row] for row in table],
        warnings=warnings,
    )


def _around(accuracy: Interval, value: float, resampled: Array) -> Interval:
    if not np.isfinite(value) or accuracy.value is None or accuracy.low is None or accuracy.high is None:
        return UNDEFINED
    low, high = value - (accuracy.value - accuracy.low), min(value + accuracy.high - accuracy.value, 1.0)
    return widest(float(value), Interval(value, low, high), percentile_interval(float(value), resampled))
