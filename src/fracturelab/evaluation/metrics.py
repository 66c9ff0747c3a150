"""The scores of a two-class model, each with a 95% interval.

Where the numbers come from: every value equals scikit-learn's. Where the intervals come from:

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
"""The metrics of `Evaluation.to_dict()`, in order; `binary_metrics` adds `weighted_f1`."""

_COUNTED = ("accuracy", "precision", "recall", "specificity", "f1", "weighted_f1", "kappa")


def confusion_scores(counts: Array) -> dict[str, Array]:
    """Scores of confusion counts, as scikit-learn has them, nan where undefined.

    Args:
        counts: (..., 4) of tn, fp, fn, tp.

    Returns:
        accuracy, precision, recall, specificity, f1, weighted_f1 and kappa, each with the shape of the leading axes.
        Precision is undefined when nothing is called fractured, F1 when nothing is and nothing should be.
    """
    tn, fp, fn, tp = np.moveaxis(np.asarray(counts, float), -1, 0)
    n = tn + fp + fn + tp
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * tp / (2 * tp + fp + fn)
        f1_normal = 2 * tn / (2 * tn + fp + fn)
        expected = ((tn + fp) * (tn + fn) + (tp + fn) * (tp + fp)) / n**2
        agreement = (tn + tp) / n
        return {
            "accuracy": agreement,
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "f1": f1,
            "weighted_f1": (np.nan_to_num(f1) * (tp + fn) + np.nan_to_num(f1_normal) * (tn + fp)) / n,
            "kappa": (agreement - expected) / (1 - expected),
        }


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


def _groups_in(codes: NDArray[np.intp], members: NDArray[np.bool_]) -> int:
    return len(np.unique(codes[members]))


def proportion(right: NDArray[np.bool_], among: NDArray[np.bool_], codes: NDArray[np.intp]) -> Interval:
    """Wilson's interval of `right` among `among`, at the effective number of independent images."""
    n = int(among.sum())
    if n == 0:
        return UNDEFINED
    share = float(right[among].mean())
    size = effective_size(n, _groups_in(codes, among), np.where(among, right - share, 0.0) / n, codes)
    return wilson(share * size, size)._replace(value=share)


def auc_interval(labels: NDArray[np.int64], probabilities: Array, codes: NDArray[np.intp]) -> Interval:
    """Newcombe's interval of the ROC AUC at the effective class sizes; undefined with one class."""
    positive, negative = labels == 1, labels == 0
    if not positive.any() or not negative.any():
        return UNDEFINED
    influence = auc_influence(labels, probabilities)
    auc = float(RankedScores(labels, probabilities)(np.ones((1, len(labels))))[0, 0])
    sizes = [
        effective_size(int(side.sum()), _groups_in(codes, side), np.where(side, influence, 0.0), codes)
        for side in (positive, negative)
    ]
    return auc_score_interval(auc, *sizes)


def _moved(anchor: Interval, value: float, *, stretch: float = 1.0) -> Interval:
    """The interval of a proportion, stretched and moved to another value; the upper end stays at or below 1."""
    if anchor.value is None or anchor.low is None or anchor.high is None:
        return UNDEFINED
    low = value - stretch * (anchor.value - anchor.low)
    return Interval(value, max(low, -1.0), min(value + stretch * (anchor.high - anchor.value), 1.0))


def binary_metrics(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float,
    groups: ArrayLike | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> dict[str, Interval]:
    """Scores a two-class model, each score with a 95% interval.

    Args:
        labels: (n,) 0 normal, 1 fractured.
        probabilities: (n,) or (n, 1) P(fractured).
        threshold: At or above it an image is called fractured. Choose it on validation data, not on these.
        groups: (n,) patient or near-copy group of each image; None or NA is a group of its own.
        seed: Of the bootstrap; the same seed gives the same intervals.
        n_bootstrap: Resamples of whole groups.

    Returns:
        `roc_auc`, `pr_auc` (average precision), `accuracy`, `precision`, `recall`, `specificity`, `f1`,
        `weighted_f1`, `kappa` and `brier`, each an `Interval`; what is undefined (an AUC of one class) is all None.

    Raises:
        FracturelabError: Labels other than 0 and 1, numbers that are no probabilities, or lengths that differ.
    """
    truth = binary_labels(labels)
    scores = finite_probabilities(probabilities, n=len(truth))
    codes = group_codes(groups, n=len(truth))
    called = (scores >= usable_threshold(threshold)).astype(np.int64)
    cells = np.eye(4)[2 * truth + called]  # tn, fp, fn, tp
    ranked = RankedScores(truth, scores)

    def score(counts: Array) -> Array:
        table = confusion_scores(counts @ cells)
        return np.concatenate([ranked(counts), np.stack([table[name] for name in _COUNTED], axis=1)], axis=1)

    names = ("roc_auc", "pr_auc", *_COUNTED)
    values = dict(zip(names, score(np.ones((1, len(truth))))[0], strict=True))
    closed = _closed_forms(truth, scores, called, codes, values)
    resampled = bootstrap(score, codes, n_resamples=n_bootstrap, seed=seed)
    alone = codes.max() + 1 == len(codes)
    metrics: dict[str, Interval] = {}
    for column, name in enumerate(names):
        if not np.isfinite(values[name]):
            metrics[name] = UNDEFINED
        elif alone and name in ("accuracy", "precision", "recall", "specificity"):
            metrics[name] = closed[name]
        else:
            value = float(values[name])
            metrics[name] = widest(value, closed[name], percentile_interval(value, resampled[:, column]))
    loss = (scores - truth) ** 2
    metrics["brier"] = bounded_mean_interval(loss, codes, n_resamples=n_bootstrap, seed=seed)
    return metrics


def _closed_forms(
    truth: NDArray[np.int64],
    scores: Array,
    called: NDArray[np.int64],
    codes: NDArray[np.intp],
    values: dict[str, float],
) -> dict[str, Interval]:
    """The closed-form interval beside each bootstrap; see the head of this module."""
    right = truth == called
    fractured, said = truth == 1, called == 1
    accuracy = proportion(right, np.ones_like(right), codes)
    forms = {
        "roc_auc": auc_interval(truth, scores, codes),
        "accuracy": accuracy,
        "precision": proportion(fractured, said, codes),
        "recall": proportion(said, fractured, codes),
        "specificity": proportion(~said, ~fractured, codes),
    }
    overlap = proportion(fractured & said, fractured | said, codes)
    f1_limits = [None if j is None else 2 * j / (1 + j) for j in overlap]
    forms["f1"] = Interval(*f1_limits)
    forms["pr_auc"] = UNDEFINED
    if np.isfinite(values["pr_auc"]):
        n = int(fractured.sum())
        influence = np.where(fractured, auc_influence(truth, scores), 0.0)
        size = effective_size(n, _groups_in(codes, fractured), influence, codes)
        forms["pr_auc"] = wilson(min(float(values["pr_auc"]), 1.0) * size, size)
    forms["weighted_f1"] = _moved(accuracy, values["weighted_f1"])
    chance = np.mean(fractured) * np.mean(said) + np.mean(~fractured) * np.mean(~said)
    forms["kappa"] = _moved(accuracy, values["kappa"], stretch=1 / (1 - chance)) if chance < 1 else UNDEFINED
    return forms


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The scores of one model on one set of images. A notebook shows it as a table.

    Attributes:
        n: Images.
        n_groups: Independent groups among them.
        threshold: At or above it an image is called fractured.
        metrics: Name to `Interval`, as `binary_metrics` gives them.
        confusion_matrix: [[tn, fp], [fn, tp]].
        warnings: Sentences about what these scores may hide.
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
    """Scores a two-class model and says what the scores may hide.

    Args:
        labels: (n,) 0 normal, 1 fractured.
        probabilities: (n,) or (n, 1) P(fractured).
        threshold: At or above it an image is called fractured. Choose it on validation data, not on these.
        groups: (n,) patient or near-copy group of each image; None or NA is a group of its own.
        seed: Of the bootstrap.
        n_bootstrap: Resamples of whole groups.

    Returns:
        The `Evaluation`.

    Raises:
        FracturelabError: As in `binary_metrics`.

    Examples:
        >>> found = evaluate([0, 0, 1, 1], [0.2, 0.6, 0.4, 0.9], threshold=0.5)
        >>> found.metrics["roc_auc"].value
        0.75
        >>> found.confusion_matrix
        [[1, 1], [1, 1]]
        >>> found.table.loc["accuracy"].round(3).to_dict()
        {'value': 0.5, 'low': 0.15, 'high': 0.85}
    """
    metrics = binary_metrics(
        labels, probabilities, threshold=threshold, groups=groups, seed=seed, n_bootstrap=n_bootstrap
    )
    truth = binary_labels(labels)
    scores = finite_probabilities(probabilities, n=len(truth))
    table = np.bincount(2 * truth + (scores >= threshold), minlength=4).reshape(2, 2)
    n_groups = int(group_codes(groups, n=len(truth)).max()) + 1
    warnings = evaluation_warnings(truth, scores, threshold=threshold, metrics=metrics)
    return Evaluation(len(truth), n_groups, float(threshold), metrics, table.tolist(), tuple(warnings))
