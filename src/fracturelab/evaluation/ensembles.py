"""Ensembles: the mean of the probabilities of several models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError
from fracturelab.evaluation.checks import binary_labels, finite_probabilities
from fracturelab.evaluation.resampling import RankedScores


def average(probabilities: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """Average the members' probabilities of the same images.

    The gain is largest where the members make different errors. Probabilities near 0 and 1 outweigh those near 0.5.

    Args:
        probabilities: Name of each member to its (n,) P(fractured).

    Returns:
        (n,) P(fractured) of the ensemble.

    Examples:
        >>> average({"v1": [0.2, 0.6], "v2": [0.4, 1.0]}).round(2).tolist()
        [0.3, 0.8]

    Raises:
        FracturelabError: Fewer than two members, other numbers of images, or no probabilities.
    """
    if len(probabilities) < 2:
        raise FracturelabError(f"expected an ensemble of at least two members. Received: {list(probabilities)}")
    n = len(np.asarray(next(iter(probabilities.values()))).ravel())
    return np.mean([finite_probabilities(values, n=n) for values in probabilities.values()], axis=0)


def best_member(labels: ArrayLike, probabilities: Mapping[str, ArrayLike]) -> str:
    """Name the member with the highest ROC AUC on validation images.

    Args:
        labels: (n,) 0 normal, 1 fractured; both must occur.
        probabilities: Name of each member to its (n,) P(fractured).

    Returns:
        The name of the member; of equal members the first.

    Raises:
        FracturelabError: No member, one class only, or no probabilities.
    """
    truth = binary_labels(labels)
    if not probabilities or truth.min() == truth.max():
        raise FracturelabError("expected members, and images of both classes to choose by")
    every = np.ones((1, len(truth)))
    aucs = {
        name: float(RankedScores(truth, finite_probabilities(values, n=len(truth)))(every)[0, 0])
        for name, values in probabilities.items()
    }
    return max(aucs, key=lambda name: aucs[name])
