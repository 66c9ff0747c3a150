"""The scores of a two-class model, each with a 95% interval.

Every value equals that of scikit-learn. The intervals are:

* Proportions (accuracy, precision, recall, specificity) with every image a group of its own: Wilson.
* Everything else: the percentile interval of the grouped bootstrap, widened to hold the score's closed form at the
  effective number of independent images, which has a width where the bootstrap has none (a perfect score) and covers
  where the bootstrap is known not to (few images, an AUC near 1). The closed forms: Wilson for proportions; Newcombe's
  method 5 for the ROC AUC; Wilson over the fractured images for the average precision (Boyd, Eng and Page 2013, "Area
  under the precision-recall curve"); Wilson of TP / (TP + FP + FN) for F1, which is a function of it (Hand, Christen
  and Kirielle 2021, "F*: an interpretable transformation of the F-measure"); Wilson of the accuracy, moved to the
  value, for kappa and the weighted F1.
* Brier score: a Bayesian bootstrap that allows for one worst image not seen yet.

Simulated coverage, binormal scores with true AUC 0.76 and 0.97, half of the images fractured: 91% to 100% for every
score with 10 to 600 images, alone or in groups of 3 or 10, and 88% to 100% with four images. For the ROC AUC at true
values 0.75 to 0.97, binormal and exponential, 2 to 400 images a class: 94% to 100%, where the percentile bootstrap
alone has 9% to 95%.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fracturelab.evaluation.checks import binary_labels, finite_probabilities, group_codes, usable_threshold
from fracturelab.evaluation.intervals import UNDEFINED, Interval, auc_score_interval, effective_size, widest, wilson
from fracturelab.evaluation.resampling import Array, RankedScores, bootstrap, bounded_mean_interval, percentile_interval
from fracturelab.evaluation.sentences import count, evaluation_warnings
from fracturelab.records.names import metric_name

METRICS = ("roc_auc", "pr_auc", "accuracy", "precision", "recall", "specificity", "f1", "kappa", "brier")
"""The metrics of `Evaluation.to_dict()`, in order; `Evaluation.metrics` adds `weighted_f1`."""

_NAMES = ("roc_auc", "pr_auc", "accuracy", "precision", "recall", "specificity", "f1", "weighted_f1", "kappa")


def confusion_tables(truth: NDArray[np.int64], called: NDArray, k: int) -> Callable[[Array], Array]:
    """From (resamples, images) counts to (resamples, k, k) confusion tables: rows are true classes, columns answers."""
    cells = np.eye(k * k)[k * truth + called]
    return lambda counts: (counts @ cells).reshape(-1, k, k)


def confusion_scores(tables: Array) -> dict[str, Array]:
    """Scores of confusion tables, as scikit-learn has them, nan where undefined.

    Args:
        tables: (..., k, k) counts; rows are true classes, columns answers.

    Returns:
        accuracy, macro_f1, weighted_f1 and kappa of shape (...), precision, recall and f1 of each class (..., k). The
        precision of a class is undefined where nothing is called it, its F1 where nothing is and nothing should be.
    """
    right = np.diagonal(tables, axis1=-2, axis2=-1)
    true, called, n = tables.sum(-1), tables.sum(-2), tables.sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * right / (true + called)
        known = np.nan_to_num(f1)
        agreement, expected = right.sum(-1) / n, (true * called).sum(-1) / n**2
        scores = {"accuracy": agreement, "kappa": (agreement - expected) / (1 - expected)}
        scores |= {"macro_f1": known.sum(-1) / np.isfinite(f1).sum(-1), "weighted_f1": (known * true).sum(-1) / n}
        return scores | {"precision": right / called, "recall": right / true, "f1": f1}


def auc_influence(labels: NDArray[np.int64], probabilities: Array) -> Array:
    """Influence of each image on the ROC AUC: its placement among the other class (DeLong et al. 1988).

    Args:
        labels: (images,) 0 or 1, both present.
        probabilities: (images,) P(fractured).

    Returns:
        (images,), summing to 0; the sum of their squares is the variance of the AUC for independent images.
    """
    positives, negatives = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])

    def below(values: Array, others: Array) -> Array:
        left, right = np.searchsorted(others, values, "left"), np.searchsorted(others, values, "right")
        return (left + right) / 2 / len(others)

    placement = np.where(labels == 1, below(probabilities, negatives), 1 - below(probabilities, positives))
    auc = placement[labels == 1].mean()
    return (placement - auc) / np.where(labels == 1, len(positives), len(negatives))


def proportion(right: NDArray[np.bool_], among: NDArray[np.bool_], codes: NDArray[np.intp]) -> Interval:
    """Wilson's interval of `right` among `among`, at the effective number of independent images."""
    n = int(among.sum())
    if n == 0:
        return UNDEFINED
    share = float(right[among].mean())
    size = effective_size((right - share) / n, among, codes)
    return wilson(share * size, size)._replace(value=share)


def auc_interval(labels: NDArray[np.int64], probabilities: Array, codes: NDArray[np.intp]) -> Interval:
    """Newcombe's interval of the ROC AUC at the effective class sizes; undefined with one class."""
    if labels.min() == labels.max():
        return UNDEFINED
    influence = auc_influence(labels, probabilities)
    auc = float(RankedScores(labels, probabilities)(np.ones((1, len(labels))))[0, 0])
    return auc_score_interval(auc, *(effective_size(influence, labels == label, codes) for label in (1, 0)))


def _moved(anchor: Interval, value: float, *, stretch: float = 1.0) -> Interval:
    """The interval of a proportion, stretched and moved to another value; it stays within [-1, 1]."""
    centre, low, high = np.array(anchor, float)
    return Interval(value, max(value - stretch * (centre - low), -1.0), min(value + stretch * (high - centre), 1.0))


def _closed_forms(
    truth: NDArray[np.int64],
    scores: Array,
    called: NDArray[np.bool_],
    codes: NDArray[np.intp],
    values: dict[str, float],
) -> dict[str, Interval]:
    """The closed-form interval beside each bootstrap; see the head of this module."""
    fractured, accuracy = truth == 1, proportion(truth == called, np.ones(len(truth), bool), codes)
    overlap = proportion(fractured & called, fractured | called, codes)
    forms = {
        "roc_auc": auc_interval(truth, scores, codes),
        "pr_auc": UNDEFINED,
        "accuracy": accuracy,
        "precision": proportion(fractured, called, codes),
        "recall": proportion(called, fractured, codes),
        "specificity": proportion(~called, ~fractured, codes),
        "f1": Interval(*(None if j is None else 2 * j / (1 + j) for j in overlap)),
        "weighted_f1": _moved(accuracy, values["weighted_f1"]),
        "kappa": UNDEFINED,
    }
    if np.isfinite(values["pr_auc"]):
        size = effective_size(auc_influence(truth, scores), fractured, codes)
        forms["pr_auc"] = wilson(min(values["pr_auc"], 1.0) * size, size)
    expected = np.mean(fractured) * np.mean(called) + np.mean(~fractured) * np.mean(~called)
    if expected < 1:
        forms["kappa"] = _moved(accuracy, values["kappa"], stretch=1 / (1 - expected))
    return forms


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The scores of one model on one set of images. A notebook shows them as a table.

    Attributes:
        n: Images.
        n_groups: Independent groups among them.
        threshold: At or above it an image is called fractured.
        metrics: `roc_auc`, `pr_auc` (average precision), `accuracy`, `precision`, `recall`, `specificity`, `f1`,
            `weighted_f1`, `kappa` and `brier`, each an `Interval`.
        confusion_matrix: [[tn, fp], [fn, tp]].
        warnings: Sentences about faults that these scores can hide.
    """

    n: int
    n_groups: int
    threshold: float
    metrics: dict[str, Interval]
    confusion_matrix: list[list[int]]
    warnings: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The metrics as rows, by their names for people; columns value, low and high. NaN where undefined."""
        rows = {metric_name(name): interval for name, interval in self.metrics.items()}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"], dtype=float)

    def __repr__(self) -> str:
        metrics = "\n".join(f"{metric_name(name):<14}{interval}" for name, interval in self.metrics.items())
        return f"{self._heading()}\n{metrics}"

    def _repr_html_(self) -> str:
        return f"<p>{self._heading()}</p>" + self.table.to_html(float_format="{:.3f}".format, na_rep="undefined")

    def _heading(self) -> str:
        groups = f" in {count(self.n_groups, 'group')}" if self.n_groups < self.n else ""
        return f"{count(self.n, 'image')}{groups}, threshold {self.threshold:.3f}"

    def to_dict(self) -> dict[str, object]:
        """`n`, `threshold`, `metrics` (the nine of `METRICS`) and `confusion_matrix`, ready for JSON."""
        metrics = {name: self.metrics[name].to_dict() for name in METRICS}
        table = self.confusion_matrix
        return {"n": self.n, "threshold": self.threshold, "metrics": metrics, "confusion_matrix": table}

    def to_record(self) -> dict[str, object]:
        """As `to_dict`, with the weighted F1, the number of groups and the warnings beside them."""
        record = self.to_dict()
        record["metrics"] = {name: interval.to_dict() for name, interval in self.metrics.items()}
        return {**record, "n_groups": self.n_groups, "warnings": list(self.warnings)}


def evaluate(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float,
    groups: ArrayLike | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> Evaluation:
    """Score a two-class model with 95% intervals, and warn of faults that the scores can hide.

    Args:
        labels: (n,) 0 normal, 1 fractured.
        probabilities: (n,) or (n, 1) P(fractured).
        threshold: At or above it an image is called fractured. Choose it on validation data, not on these.
        groups: (n,) patient or near-copy group of each image; None or NA is a group of its own.
        seed: Of the bootstrap; the same seed gives the same intervals.
        n_bootstrap: Resamples of whole groups.

    Returns:
        The `Evaluation`. What is undefined (an AUC of one class) is all None.

    Raises:
        FracturelabError: Labels other than 0 and 1, numbers that are no probabilities, or lengths that differ.

    Examples:
        >>> found = evaluate([0, 0, 1, 1], [0.2, 0.6, 0.4, 0.9], threshold=0.5)
        >>> found.metrics["roc_auc"].value
        0.75
        >>> found.confusion_matrix
        [[1, 1], [1, 1]]
        >>> found.table.loc["accuracy"].round(3).to_dict()
        {'value': 0.5, 'low': 0.15, 'high': 0.85}
    """
    truth = binary_labels(labels)
    scores, codes = finite_probabilities(probabilities, n=len(truth)), group_codes(groups, n=len(truth))
    called = scores >= usable_threshold(threshold)
    ranked, tables = RankedScores(truth, scores), confusion_tables(truth, called, 2)

    def score(counts: Array) -> Array:
        by_name = confusion_scores(tables(counts))
        of_class = [by_name["precision"][:, 1], by_name["recall"][:, 1], by_name["recall"][:, 0], by_name["f1"][:, 1]]
        return np.column_stack(
            [ranked(counts), by_name["accuracy"], *of_class, by_name["weighted_f1"], by_name["kappa"]]
        )

    every = np.ones((1, len(truth)))
    values = dict(zip(_NAMES, score(every)[0].tolist(), strict=True))
    closed = _closed_forms(truth, scores, called, codes, values)
    resampled = bootstrap(score, codes, n_resamples=n_bootstrap, seed=seed)
    n_groups = int(codes.max()) + 1
    metrics: dict[str, Interval] = {}
    for (name, value), drawn in zip(values.items(), resampled.T, strict=True):
        if not np.isfinite(value):
            metrics[name] = UNDEFINED
        elif n_groups == len(codes) and name in ("accuracy", "precision", "recall", "specificity"):
            metrics[name] = closed[name]
        else:
            metrics[name] = widest(value, closed[name], percentile_interval(value, drawn))
    metrics["brier"] = bounded_mean_interval((scores - truth) ** 2, codes, n_resamples=n_bootstrap, seed=seed)
    warnings = evaluation_warnings(truth, scores, threshold=threshold, metrics=metrics)
    table = tables(every)[0].astype(int).tolist()
    return Evaluation(len(truth), n_groups, float(threshold), metrics, table, tuple(warnings))
