"""Curve data with pointwise 95% bands, for plots and records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError
from fracturelab.evaluation.checks import binary_labels, finite_probabilities, group_codes
from fracturelab.evaluation.intervals import Interval, wilson_bounds
from fracturelab.evaluation.metrics import evaluate
from fracturelab.evaluation.resampling import Array, RankedScores, draw_counts

GRID = np.linspace(0, 1, 101)
"""Where bands are given: along the false positive rate for ROC, along recall for precision-recall."""

_RESAMPLES = 500
_LOTS = 200  # draws of labels for the calibration error of chance


@dataclass(frozen=True)
class Curve:
    """A curve with its band and its area.

    Attributes:
        x: False positive rate (ROC) or recall (precision-recall), ascending.
        y: True positive rate or precision at `x`.
        thresholds: The probability at and above which images are called fractured, at each point.
        grid: (101,) where the band is given.
        low: (101,) lower limit of the pointwise 95% band.
        high: (101,) upper limit.
        area: ROC AUC or average precision with its interval.
        share: Share of fractured images, which is the precision by chance.
        n: Images.
    """

    x: Array
    y: Array
    thresholds: Array
    grid: Array
    low: Array
    high: Array
    area: Interval
    share: float
    n: int


@dataclass(frozen=True)
class Calibration:
    """Predicted against observed share of fractures.

    Attributes:
        predicted: (bins,) mean P(fractured) of the images in a bin; empty bins are left out.
        observed: (bins,) share of fractured images among them.
        low: (bins,) Wilson's lower limit of the share.
        high: (bins,) its upper limit.
        counts: (bins,) images in each bin.
        ece: Expected calibration error: mean gap between the two, weighted by images (Naeini et al. 2015).
        ece_calibrated: Mean error of calibrated answers with the same probabilities, on as many images.
    """

    predicted: Array
    observed: Array
    low: Array
    high: Array
    counts: NDArray[np.int64]
    ece: float
    ece_calibrated: float


def roc_curve(labels: ArrayLike, probabilities: ArrayLike, *, groups: ArrayLike | None = None) -> Curve:
    """Compute the ROC curve with a pointwise 95% band of its true positive rate.

    The band comes from the grouped bootstrap (vertical averaging, Fawcett 2006). It is widened to hold Wilson's
    interval of the true positive rate over the fractured groups: a perfect curve on few images has a band too.

    Args:
        labels: (n,) 0 normal, 1 fractured.
        probabilities: (n,) P(fractured).
        groups: (n,) patient or near-copy group; None or NA is a group of its own.

    Returns:
        The `Curve`; its area is that of `evaluate`.

    Raises:
        FracturelabError: One class only, or as in `evaluate`.
    """

    def points(hits: Array, false: Array) -> tuple[Array, Array]:
        return false / false[-1], hits / hits[-1]

    def on_grid(rate: Array, sensitivity: Array) -> Array:
        return np.interp(GRID, rate, sensitivity)

    return _curve("roc_auc", labels, probabilities, groups, points, on_grid)


def precision_recall_curve(labels: ArrayLike, probabilities: ArrayLike, *, groups: ArrayLike | None = None) -> Curve:
    """Compute the precision-recall curve with a pointwise 95% band of its precision; see `roc_curve`.

    Its area is the average precision, a sum of steps, so draw it with steps.
    """

    def points(hits: Array, false: Array) -> tuple[Array, Array]:
        called = hits + false
        return hits / hits[-1], np.where(called > 0, hits / np.maximum(called, 1), 1.0)

    def on_grid(recall: Array, precision: Array) -> Array:
        return precision[np.searchsorted(recall, GRID - 1e-12)]

    return _curve("pr_auc", labels, probabilities, groups, points, on_grid)


def _curve(
    area: str,
    labels: ArrayLike,
    probabilities: ArrayLike,
    groups: ArrayLike | None,
    points: Callable[[Array, Array], tuple[Array, Array]],
    on_grid: Callable[[Array, Array], Array],
) -> Curve:
    """The curve through `points` of the counts of calls, and its band `on_grid`."""
    truth = binary_labels(labels)
    if truth.min() == truth.max():
        raise FracturelabError("expected images of both classes for a curve. Received: one class only")
    scores, codes = finite_probabilities(probabilities, n=len(truth)), group_codes(groups, n=len(truth))
    ranked = RankedScores(truth, scores)

    def curves(counts: Array) -> list[tuple[Array, Array]]:
        """The curve of each resample that has both classes, from nothing called on."""
        calls = (np.insert(each, 0, 0, axis=1) for each in ranked.calls(counts))
        return [points(hits, false) for hits, false in zip(*calls, strict=True) if hits[-1] > 0 and false[-1] > 0]

    [(x, y)] = curves(np.ones((1, len(truth))))
    blocks = draw_counts(codes, n_resamples=_RESAMPLES, seed=0)
    rows = [on_grid(*curve) for drawn in blocks for curve in curves(drawn)]
    centre, n = on_grid(x, y), len(np.unique(codes[truth == 1]))
    low, high = wilson_bounds(np.clip(centre, 0, 1) * n, n)
    spread = np.quantile(rows, [0.025, 0.975], axis=0) if rows else np.stack([centre, centre])
    low, high = np.minimum(np.minimum(low, spread[0]), centre), np.maximum(np.maximum(high, spread[1]), centre)
    whole = evaluate(truth, scores, threshold=0.5, groups=codes).metrics[area]
    thresholds = np.r_[np.inf, ranked.scores[::-1]]
    return Curve(x, y, thresholds, GRID, low, high, area=whole, share=float(truth.mean()), n=len(truth))


def calibration_curve(
    labels: ArrayLike, probabilities: ArrayLike, *, n_bins: int = 10, strategy: str = "uniform"
) -> Calibration:
    """Compare the predicted with the observed share of fractures in bins of P(fractured).

    Args:
        labels: (n,) 0 normal, 1 fractured.
        probabilities: (n,) P(fractured).
        n_bins: Bins of equal width, or of equally many images.
        strategy: "uniform" (equal width) or "quantile" (equally many images, better with few).

    Returns:
        The `Calibration`, with Wilson's interval for each bin.

    Raises:
        FracturelabError: As in `evaluate`.
    """
    if strategy not in ("uniform", "quantile") or n_bins < 1:
        raise ValueError(f'expected strategy "uniform" or "quantile", n_bins >= 1. Received: {strategy!r}, {n_bins}')
    truth = binary_labels(labels)
    scores = finite_probabilities(probabilities, n=len(truth))
    if strategy == "uniform":
        edges = np.linspace(0, 1, n_bins + 1)
    else:
        edges = np.unique(np.quantile(scores, np.linspace(0, 1, n_bins + 1)))
    bins = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, max(len(edges) - 2, 0))
    counts = np.bincount(bins)
    used = counts > 0
    fractured = np.bincount(bins, weights=truth)[used]
    predicted = np.bincount(bins, weights=scores)[used] / counts[used]
    low, high = wilson_bounds(fractured, counts[used])
    observed = fractured / counts[used]
    shares = counts[used] / len(truth)
    ece = float(shares @ np.abs(predicted - observed))
    # What the same answers would show if each were exactly right about its image's odds.
    member = (bins[:, None] == np.flatnonzero(used)).astype(np.float32)
    lots = (np.random.default_rng(0).random((_LOTS, len(scores))) < scores).astype(np.float32)
    ece_calibrated = float(np.mean(np.abs(lots @ member / counts[used] - predicted) @ shares))
    return Calibration(predicted, observed, low, high, counts[used].astype(np.int64), ece, ece_calibrated)
