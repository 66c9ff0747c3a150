"""Comparisons of two models, or of two recipes over seeds, on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from fracturelab.errors import FracturelabError
from fracturelab.evaluation.checks import binary_labels, finite_probabilities, group_codes, usable_threshold
from fracturelab.evaluation.intervals import FEW_GROUPS, UNDEFINED, Interval, Z, mover_difference, widest
from fracturelab.evaluation.metrics import auc_influence, auc_interval
from fracturelab.evaluation.resampling import Array, RankedScores, bootstrap, percentile_interval
from fracturelab.system.plain import plain

_RESAMPLES = 2000


class McNemar(NamedTuple):
    """McNemar's exact test.

    Attributes:
        only_a: Images (or groups) that only the first model classifies correctly.
        only_b: Images (or groups) that only the second model classifies correctly.
        p: Two-sided p value; 1 where the two never differ.
    """

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """Two models, a and b, on the same images.

    Attributes:
        n: Images.
        n_groups: Independent groups among them.
        auc_a: ROC AUC of a with its interval.
        auc_b: ROC AUC of b with its interval.
        difference: AUC of b minus AUC of a, with its paired interval.
        mcnemar: The exact test of their answers, each model at its own threshold.
        identical: Whether both models give the same probability for every image.
    """

    n: int
    n_groups: int
    auc_a: Interval
    auc_b: Interval
    difference: Interval
    mcnemar: McNemar
    identical: bool

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, ready for JSON."""
        return plain(vars(self))


def mcnemar(
    labels: ArrayLike, predicted_a: ArrayLike, predicted_b: ArrayLike, *, groups: ArrayLike | None = None
) -> McNemar:
    """Test whether two classifiers err equally often on the same images.

    Exact binomial form (McNemar 1947; Dietterich 1998). With groups of several images each group counts once, for the
    model that classifies more of its images correctly, and for neither where both classify as many. This is the sign
    test over groups, because images of one patient are not independent trials. It works for any number of classes.

    Args:
        labels: (n,) true classes.
        predicted_a: (n,) answers of the first model.
        predicted_b: (n,) answers of the second model.
        groups: (n,) patient or near-copy group; None or NA is a group of its own.

    Returns:
        The counts and the two-sided p value.

    Raises:
        FracturelabError: The lengths differ.

    Examples:
        >>> mcnemar([1, 1, 0, 0], predicted_a=[1, 0, 0, 1], predicted_b=[1, 1, 0, 0])
        McNemar(only_a=0, only_b=2, p=0.5)
    """
    truth, a, b = (np.asarray(values).ravel() for values in (labels, predicted_a, predicted_b))
    if not len(truth) == len(a) == len(b) or len(truth) == 0:
        raise FracturelabError(
            f"expected as many predictions of both models as labels. Received: {len(truth)}, {len(a)} and {len(b)}"
        )
    codes = group_codes(groups, n=len(truth))
    lead = np.bincount(codes, weights=(b == truth).astype(float) - (a == truth))
    only_a, only_b = int((lead < 0).sum()), int((lead > 0).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def compare(
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    threshold_a: float,
    threshold_b: float,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same images.

    The interval of the AUC difference is the percentile interval of a paired, grouped bootstrap, widened to hold the
    linear one (DeLong et al. 1988; for groups Obuchowski 1997). With fewer than 30 groups of a class, or a model that
    is perfect on these images, it also holds the one that MOVER (Zou 2007) makes of the two models' own intervals,
    which has a width where the others have none. Simulated coverage, 20 to 1,000 images, AUCs from 0.75 to 0.99,
    correlation of the two models' scores 0.5 to 0.95: 92% to 100%.

    Args:
        labels: (n,) 0 normal, 1 fractured.
        a: (n,) P(fractured) of the first model.
        b: (n,) P(fractured) of the second model.
        threshold_a: Of the first model, from its validation data.
        threshold_b: Of the second model.
        groups: (n,) patient or near-copy group; None or NA is a group of its own.
        seed: Of the bootstrap.

    Returns:
        The `Comparison`; with one class only, the AUCs and their difference are undefined.

    Raises:
        FracturelabError: As in `evaluate`.
    """
    truth = binary_labels(labels)
    first, second = finite_probabilities(a, n=len(truth)), finite_probabilities(b, n=len(truth))
    codes = group_codes(groups, n=len(truth))
    test = mcnemar(truth, first >= usable_threshold(threshold_a), second >= usable_threshold(threshold_b), groups=codes)
    _, auc_a, auc_b, difference = _mean_differences(truth, [first], [second], codes, seed=seed)
    identical = bool(np.array_equal(first, second))
    return Comparison(len(truth), int(codes.max()) + 1, auc_a, auc_b, difference, test, identical)


@dataclass(frozen=True)
class SeedsComparison:
    """Recipes a and b, fitted with the same seeds.

    Attributes:
        n: Images.
        n_groups: Independent groups among them.
        aucs_a: ROC AUC of a, one a seed.
        aucs_b: ROC AUC of b, one a seed.
        mean_a: Mean of a over seeds, with its interval over images.
        mean_b: The same of b.
        difference: Mean over seeds of AUC of b minus AUC of a, with its paired interval over images. It is true of
            these seeds; `differences` shows how much seeds differ.
    """

    n: int
    n_groups: int
    aucs_a: tuple[float, ...]
    aucs_b: tuple[float, ...]
    mean_a: Interval
    mean_b: Interval
    difference: Interval

    @property
    def differences(self) -> tuple[float, ...]:
        """AUC of b minus AUC of a, seed by seed."""
        return tuple(b - a for a, b in zip(self.aucs_a, self.aucs_b, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, ready for JSON."""
        return plain(vars(self))


def compare_seeds(
    labels: ArrayLike, a: Sequence[ArrayLike], b: Sequence[ArrayLike], *, groups: ArrayLike | None = None, seed: int = 0
) -> SeedsComparison:
    """Compare two recipes over seeds on the same images.

    Images are resampled in whole groups, and in each resample every fit of both recipes is scored. The interval holds
    what other images could have shown of these fits; it is widened as that of `compare` is.

    Args:
        labels: (n,) 0 normal, 1 fractured.
        a: (n,) P(fractured) of the first recipe, one for each seed.
        b: (n,) P(fractured) of the second recipe, for the same seeds in the same order.
        groups: (n,) patient or near-copy group; None or NA is a group of its own.
        seed: Of the bootstrap.

    Returns:
        The comparison; with one class only, everything in it is undefined.

    Raises:
        FracturelabError: No seeds, or not the same number for both; else as in `compare`.
    """
    if not len(a) == len(b) or not len(a):
        raise FracturelabError(f"expected as many fits of one recipe as of the other. Received: {len(a)} and {len(b)}")
    truth = binary_labels(labels)
    first, second = ([finite_probabilities(fit, n=len(truth)) for fit in fits] for fits in (a, b))
    codes = group_codes(groups, n=len(truth))
    aucs, mean_a, mean_b, difference = _mean_differences(truth, first, second, codes, seed=seed)
    aucs_a, aucs_b = (tuple(row) for row in aucs.tolist())
    return SeedsComparison(len(truth), int(codes.max()) + 1, aucs_a, aucs_b, mean_a, mean_b, difference)


def _mean_differences(
    truth: NDArray[np.int64], first: Sequence[Array], second: Sequence[Array], codes: NDArray[np.intp], *, seed: int
) -> tuple[Array, Interval, Interval, Interval]:
    """ROC AUCs of the fits of two recipes, and the means over fits with their intervals over images: see `compare`.

    The limits of the closed interval of a mean are the means of the limits of the fits. They are careful: fits that
    err differently would allow a narrower interval.

    Args:
        truth: (n,) 0 or 1.
        first: (n,) P(fractured), one for each fit of the first recipe.
        second: The same of as many fits of the second recipe.
        codes: (n,) group of each image as 0, 1, ... without gaps.
        seed: Of the bootstrap.

    Returns:
        (2, fits) AUCs; the mean of each recipe; and the second mean minus the first. The difference is 0 without a
        width where both recipes give the same answers. With one class there are no AUCs and no intervals.
    """
    if truth.min() == truth.max():
        return np.empty((2, 0)), UNDEFINED, UNDEFINED, UNDEFINED
    fits = [*first, *second]
    ranked = [RankedScores(truth, scores) for scores in fits]

    def areas(counts: Array) -> Array:
        return np.stack([rank(counts)[:, 0] for rank in ranked], axis=1)

    def means(each: Array) -> Array:
        return each.reshape(*each.shape[:-1], 2, len(first)).mean(axis=-1)

    values = areas(np.ones((1, len(truth))))[0]
    resampled = means(bootstrap(areas, codes, n_resamples=_RESAMPLES, seed=seed))
    limits = means(np.array([auc_interval(truth, scores, codes)[1:] for scores in fits], float).T)
    both = value_a, value_b = means(values).tolist()
    closed = [Interval(*limits_of_fit) for limits_of_fit in zip(both, *limits.tolist(), strict=True)]
    parts = zip(both, closed, resampled.T, strict=True)
    full_a, full_b = (widest(value, own, percentile_interval(value, drawn)) for value, own, drawn in parts)
    difference = value_b - value_a
    if all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
        return values.reshape(2, -1), full_a, full_b, Interval(0.0, 0.0, 0.0)
    of_groups = [np.bincount(codes, weights=auc_influence(truth, scores)) for scores in fits]
    influence_a, influence_b = means(np.stack(of_groups, axis=-1)).T
    n_groups = len(influence_a)
    half = Z * float(np.sqrt(np.sum((influence_b - influence_a) ** 2) * n_groups / max(n_groups - 1, 1)))
    linear = Interval(difference, difference - half, difference + half)
    held = [percentile_interval(difference, resampled[:, 1] - resampled[:, 0]), linear]
    smaller = min(len(np.unique(codes[truth == label])) for label in (0, 1))
    if smaller < FEW_GROUPS or max(value_a, value_b) == 1:
        scale = float(np.sqrt(np.sum(influence_a**2) * np.sum(influence_b**2)))
        correlation = float(np.sum(influence_a * influence_b)) / scale if scale > 0 else 0.0
        held.append(mover_difference(*closed, correlation=min(correlation, 0.5)))
    low, high = np.clip(np.array(widest(difference, *held)[1:], float), -1, 1).tolist()
    return values.reshape(2, -1), full_a, full_b, Interval(difference, low, high)
