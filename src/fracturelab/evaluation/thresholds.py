"""The threshold of a model, chosen on validation data and kept with the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fracturelab.evaluation.checks import binary_labels, finite_probabilities
from fracturelab.evaluation.resampling import RankedScores


def choose_threshold(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Choose the threshold with the largest Youden's J (sensitivity + specificity - 1).

    The threshold lies half way between two neighbouring probabilities, so that no validation image lies on it. Among
    equally good thresholds the function takes the one with the most even sensitivity and specificity, then the one
    nearest to 0.5. Source: Youden (1950), "Index for rating diagnostic tests", Cancer 3.

    Args:
        labels: (n,) 0 normal, 1 fractured, of **validation** images.
        probabilities: (n,) or (n, 1) P(fractured).

    Returns:
        The threshold: at or above it an image is called fractured. It is 0.5 where the data cannot choose one: with one
        class only, with equal probabilities, or where no threshold is better than one answer for all images.

    Examples:
        >>> choose_threshold([0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9])
        0.4

    Raises:
        FracturelabError: Labels other than 0 and 1, numbers that are no probabilities, or lengths that differ.
    """
    truth = binary_labels(labels)
    scores = finite_probabilities(probabilities, n=len(truth))
    ranked = RankedScores(truth, scores)
    positives, negatives = (tally[0] for tally in ranked.tallies(np.ones((1, len(truth)))))
    if positives.sum() == 0 or negatives.sum() == 0 or len(ranked.scores) == 1:
        return 0.5
    # Cut k lies between distinct scores k and k + 1: what is above is called fractured.
    sensitivity = 1 - np.cumsum(positives)[:-1] / positives.sum()
    specificity = np.cumsum(negatives)[:-1] / negatives.sum()
    below, above = ranked.scores[:-1], ranked.scores[1:]
    cuts = below + (above - below) / 2
    cuts = np.where(cuts > below, cuts, above)  # neighbours one rounding step apart
    gain = np.round(sensitivity + specificity - 1, 12)
    if gain.max() <= 0:
        return 0.5
    best = np.flatnonzero(gain == gain.max())
    uneven = np.round(np.abs(sensitivity - specificity), 12)
    chosen = best[np.lexsort((np.abs(cuts[best] - 0.5), uneven[best]))[0]]
    return float(cuts[chosen])
