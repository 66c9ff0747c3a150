"""The grouped bootstrap: whole groups are drawn with replacement, and all resamples are scored at once.

A resample is a row of counts, how often each image is in it, so that every score is a weighted score and a thousand of
them are a few matrix products. Groups (patients, near copies) are drawn whole (Davison and Hinkley 1997, section 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fracturelab.evaluation.intervals import Interval

Array = NDArray[np.float64]
_CELLS = 2_000_000  # counts held at a time: 16 MB


def draw_counts(codes: NDArray[np.intp], *, n_resamples: int, seed: int) -> Iterator[Array]:
    """Draw resamples of whole groups.

    Args:
        codes: (images,) group of each image as 0, 1, ... without gaps.
        n_resamples: Number of resamples.
        seed: The same seed gives the same resamples.

    Yields:
        Blocks of (resamples, images) counts.
    """
    rng = np.random.default_rng(seed)
    n_groups = int(codes.max()) + 1
    alone = n_groups == len(codes) and bool(np.all(codes == np.arange(n_groups)))
    block = max(1, _CELLS // len(codes))
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        drawn = rng.integers(0, n_groups, size=(rows, n_groups)) + np.arange(rows)[:, None] * n_groups
        counts = np.bincount(drawn.ravel(), minlength=rows * n_groups).reshape(rows, n_groups).astype(float)
        yield counts if alone else counts[:, codes]


def bootstrap(
    score: Callable[[Array], Array], codes: NDArray[np.intp], *, n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Score resamples of whole groups.

    Args:
        score: Turns (resamples, images) counts into (resamples, scores); nan where a score is undefined.
        codes: (images,) group of each image as 0, 1, ... without gaps.
        n_resamples: Number of resamples.
        seed: The same seed gives the same resamples.

    Returns:
        (n_resamples, scores).
    """
    return np.concatenate([score(counts) for counts in draw_counts(codes, n_resamples=n_resamples, seed=seed)])


def percentile_interval(value: float, scores: Array) -> Interval:
    """The middle 95% of the resampled scores; undefined ones are left out."""
    defined = scores[np.isfinite(scores)]
    if defined.size == 0:
        return Interval(value, None, None)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(value, float(low), float(high))


class RankedScores:
    """Weighted ROC AUC and average precision of one set of probabilities, for many resamples at once.

    Args:
        labels: (images,) 0 or 1.
        probabilities: (images,) scores, higher for class 1; equal ones are ties.
    """

    def __init__(self, labels: NDArray[np.int64], probabilities: Array) -> None:
        self._order = np.argsort(probabilities, kind="stable")
        ranked = probabilities[self._order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self.scores = ranked[self.starts]
        self._labels = labels[self._order].astype(float)

    def tallies(self, counts: Array) -> tuple[Array, Array]:
        """Positives and negatives at each distinct score, ascending: two (resamples, scores) arrays."""
        ordered = counts[:, self._order]
        positives = ordered * self._labels
        negatives = ordered - positives
        if len(self.starts) < len(self._order):
            positives = np.add.reduceat(positives, self.starts, axis=1)
            negatives = np.add.reduceat(negatives, self.starts, axis=1)
        return positives, negatives

    def calls(self, counts: Array) -> tuple[Array, Array]:
        """Fractured and normal images called fractured, at descending thresholds: two (resamples, scores) arrays."""
        positives, negatives = (np.cumsum(tally[:, ::-1], axis=1) for tally in self.tallies(counts))
        return positives, negatives

    def __call__(self, counts: Array) -> Array:
        """(resamples, 2): ROC AUC and average precision; nan where a resample has only one class.

        Ties count one half in the AUC. The average precision is the sum of precision times the step in recall.
        """
        positives, negatives = self.tallies(counts)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        hits, false = self.calls(counts)
        called, fractured, normal = hits + false, positives.sum(axis=1), negatives.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            roc = np.sum(positives * below, axis=1) / (fractured * normal)
            precision = np.where(called > 0, hits / called, 0.0)
            area = np.sum(positives[:, ::-1] * precision, axis=1) / fractured
        return np.stack([roc, np.where(normal > 0, area, np.nan)], axis=1)


def bounded_mean_interval(values: Array, codes: NDArray[np.intp], *, n_resamples: int, seed: int) -> Interval:
    """Interval of the mean of numbers in [0, 1], valid for few numbers too.

    The Bayesian bootstrap (random weights for whole groups) with one more group, whose value is 1 for the upper limit
    and 0 for the lower. It stands for what these images do not show. Learned-Miller and Thomas (2019), "A new
    confidence interval for the mean of a bounded random variable"; Phan et al. (2021) prove it for independent values.

    Args:
        values: (images,) in [0, 1].
        codes: (images,) group of each image as 0, 1, ... without gaps.
        n_resamples: Number of sets of weights.
        seed: The same seed gives the same weights.

    Returns:
        The mean with its interval.
    """
    rng = np.random.default_rng(seed)
    sizes = np.bincount(codes).astype(float)
    sums = np.bincount(codes, weights=values)
    unseen = sizes.mean()
    low: list[Array] = []
    high: list[Array] = []
    block = max(1, _CELLS // (len(sizes) + 1))
    for start in range(0, n_resamples, block):
        weights = rng.standard_exponential((min(block, n_resamples - start), len(sizes) + 1))
        seen, extra = weights[:, :-1] @ sums, weights[:, -1] * unseen
        whole = weights[:, :-1] @ sizes + extra
        low.append(seen / whole)
        high.append((seen + extra) / whole)
    mean = float(values.mean())
    bounds = np.quantile(np.concatenate(low), 0.025), np.quantile(np.concatenate(high), 0.975)
    return Interval(mean, min(float(bounds[0]), mean), max(float(bounds[1]), mean))
