"""Closed forms of 95% intervals that also hold for few images.

They complement the bootstrap, which fails on a perfect score: with four images and no error every resample is perfect
too, and the interval of the bootstrap would be [1, 1].

* Proportions: Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22.
* ROC AUC: Newcombe (2006), "Confidence intervals for an effect size measure based on the Mann-Whitney statistic.
  Part 2", Statistics in Medicine 25, method 5: the score form of the Hanley-McNeil variance, solved for the AUC.
* Differences: Zou (2007), "Toward using confidence intervals to compare correlations", Psychological Methods 12
  (the method of variance estimates recovery, MOVER).

All intervals are two-sided 95% intervals.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.records.names import interval_text

Z = 1.959963984540054  # the 97.5% point of the normal distribution
FEW_GROUPS = 30


class Interval(NamedTuple):
    """A value with its 95% interval; all three are None where the value is undefined."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def width(self) -> float:
        """The length of the interval; infinite where it is undefined."""
        return math.inf if self.low is None or self.high is None else self.high - self.low

    def to_dict(self) -> dict[str, float | None]:
        """The interval as `{"value", "low", "high"}`, ready for JSON."""
        return self._asdict()

    def __repr__(self) -> str:
        return f"Interval({self})"

    def __str__(self) -> str:
        return interval_text(self._asdict()) or "undefined"


UNDEFINED = Interval(None, None, None)


def wilson(successes: float, n: float) -> Interval:
    """Wilson's score interval of a proportion.

    Args:
        successes: Number of successes. Fractions are allowed, for effective sample sizes.
        n: Number of trials. With 0 the proportion is undefined.

    Returns:
        The proportion with its interval, within [0, 1].

    Examples:
        >>> wilson(4, 4)
        Interval(1.000 (0.51–1.00))
    """
    if not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n. Received: successes={successes}, n={n}")
    if n == 0:
        return UNDEFINED
    p = successes / n
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    # At the ends the limits are exact: no rounding error may push a limit past the value.
    low = 0.0 if successes == 0 else max(0.0, min(p, centre - half))
    high = 1.0 if successes == n else min(1.0, max(p, centre + half))
    return Interval(p, low, high)


def wilson_bounds(successes: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson's limits for many proportions at once: two arrays, low and high, nan where `n` is 0."""
    k, size = np.broadcast_arrays(np.asarray(successes, float), np.asarray(n, float))
    pairs = [wilson(float(a), float(b)) for a, b in zip(k.flat, size.flat, strict=True)]
    low, high = (np.array([pair[i] for pair in pairs], float).reshape(k.shape) for i in (1, 2))
    return low, high


def auc_score_interval(auc: float, n_positive: float, n_negative: float) -> Interval:
    """Newcombe's method 5 for the area under the ROC curve.

    The limits are the areas whose own standard error (Hanley and McNeil 1982, both cross terms weighted with the mean
    of the two class sizes) puts the observed area just 1.96 of them away. It stays within [0, 1] and has a width even
    when the scores separate the two classes perfectly.

    Args:
        auc: The observed area, in [0, 1].
        n_positive: Fractured images (or their effective number).
        n_negative: Normal images (or their effective number).

    Returns:
        The area with its interval.
    """
    if not 0 <= auc <= 1 or n_positive <= 0 or n_negative <= 0:
        raise ValueError(
            f"expected auc in [0, 1] and two positive counts. Received: {auc}, {n_positive} and {n_negative}"
        )
    extra = max((n_positive + n_negative) / 2 - 1, 0.0)

    def beyond(area: float) -> bool:
        variance = area * (1 - area) * (1 + extra * ((1 - area) / (2 - area) + area / (1 + area)))
        return (area - auc) ** 2 > Z * Z * variance / (n_positive * n_negative)

    def limit(end: float) -> float:
        if auc == end:
            return end
        excluded, included = end, auc
        for _ in range(60):
            middle = (excluded + included) / 2
            excluded, included = (middle, included) if beyond(middle) else (excluded, middle)
        return included

    return Interval(auc, limit(0.0), limit(1.0))


def mover_difference(a: Interval, b: Interval, *, correlation: float = 0.0) -> Interval:
    """Interval of `b - a` from the intervals of `a` and `b` (MOVER).

    Args:
        a: The first value, defined.
        b: The second value, defined.
        correlation: Between the two estimates; 0 is the careful choice where it is positive but unknown.

    Returns:
        The difference `b - a` with its interval.
    """
    (value_a, low_a, high_a), (value_b, low_b, high_b) = np.array([a, b], float).tolist()

    def half(first: float, second: float) -> float:
        return math.sqrt(max(first * first + second * second - 2 * correlation * first * second, 0.0))

    difference = value_b - value_a
    low = difference - half(value_b - low_b, high_a - value_a)
    return Interval(difference, low, difference + half(high_b - value_b, value_a - low_a))


def widest(value: float, *intervals: Interval) -> Interval:
    """Return the smallest interval that holds the value and all intervals; undefined ones are left out."""
    lows = [value, *(i.low for i in intervals if i.low is not None)]
    highs = [value, *(i.high for i in intervals if i.high is not None)]
    return Interval(float(value), float(min(lows)), float(max(highs)))


def effective_size(influence: NDArray[np.float64], members: NDArray[np.bool_], codes: NDArray[np.intp]) -> float:
    """Estimate how many independent images would give the same variance as the members of a score.

    Images of one group (a patient, near copies) carry less information than independent images. The design effect is
    the variance of the score over whole groups, divided by its variance if all images were independent (Kish 1965; for
    the AUC Obuchowski 1997). Both follow from the influence of each image on the score. With fewer than 30 groups it
    cannot be estimated, and each group counts once; so it does for a perfect score, which no image influences. Franco
    et al. (2019), "Comparative study of confidence intervals for proportions in complex sample surveys", recommend
    Wilson's interval at this size.

    Args:
        influence: (images,) the influence of each image; over the members they sum to about 0.
        members: (images,) which images take part in the score.
        codes: (images,) group of each image as 0, 1, ...

    Returns:
        The effective number, between the number of groups and the number of members.
    """
    n, n_groups = int(members.sum()), len(np.unique(codes[members]))
    if n_groups >= n:
        return float(n)
    own = np.where(members, influence, 0.0)
    images = float(np.sum(own**2))
    if n_groups < FEW_GROUPS or images == 0:
        return float(n_groups)
    groups = float(np.sum(np.bincount(codes, weights=own) ** 2))
    return float(np.clip(n * images / groups if groups > 0 else n, n_groups, n))
