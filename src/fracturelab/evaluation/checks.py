"""Checks of labels, probabilities and groups before a score is computed from them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError


def binary_labels(labels: ArrayLike) -> NDArray[np.int64]:
    """Return the labels as an integer array of 0 (normal) and 1 (fractured).

    Raises:
        FracturelabError: There are no labels, or some are missing or neither 0 nor 1.
    """
    series = pd.Series(np.asarray(labels).ravel()) if not isinstance(labels, pd.Series) else labels
    if len(series) == 0:
        raise FracturelabError("expected at least one labelled image. Received: none")
    if series.isna().any():
        raise FracturelabError(f"expected a label for every image. Received: {int(series.isna().sum())} without one")
    values = series.to_numpy()
    others = sorted({str(v) for v in values if v not in (0, 1)})
    if others:
        raise FracturelabError(f"expected labels 0 (normal) and 1 (fractured). Received: {', '.join(others[:5])}")
    return values.astype(np.int64)


def finite_probabilities(probabilities: ArrayLike, *, n: int) -> NDArray[np.float64]:
    """Return the probabilities as float64 (n,). A column (n, 1), as models give, is flattened.

    Raises:
        FracturelabError: There are not `n` probabilities, or one is not a number between 0 and 1.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (n,):
        raise FracturelabError(f"expected one probability for each of {n} labels. Received: shape {values.shape}")
    if not np.isfinite(values).all():
        raise FracturelabError(
            f"expected finite probabilities. Received: {int((~np.isfinite(values)).sum())} of {n} that are not "
            "numbers; the model diverged, train it again with a lower learning rate"
        )
    if values.min() < 0 or values.max() > 1:
        raise FracturelabError(
            f"expected probabilities between 0 and 1. Received: {values.min():.4g} to {values.max():.4g}"
        )
    return values


def group_codes(groups: ArrayLike | None, *, n: int) -> NDArray[np.intp]:
    """Number the groups 0, 1, ... in order of appearance. An image without a group (None, NA) is a group of its own.

    Raises:
        FracturelabError: There are not `n` groups.
    """
    if groups is None:
        return np.arange(n, dtype=np.intp)
    series = groups if isinstance(groups, pd.Series) else pd.Series(np.asarray(groups).ravel())
    if len(series) != n:
        raise FracturelabError(f"expected one group for each of {n} labels. Received: {len(series)}")
    named = series.to_numpy(dtype=object, copy=True)
    for i in np.flatnonzero(series.isna()):
        named[i] = ("alone", i)
    return np.asarray(pd.factorize(named)[0], dtype=np.intp)


def usable_threshold(threshold: float) -> float:
    """Return the threshold as a float.

    Raises:
        FracturelabError: The threshold is not a finite number.
    """
    if not math.isfinite(threshold):
        raise FracturelabError(f"expected a finite threshold. Received: {threshold}")
    return float(threshold)


def check_predictions(probabilities: ArrayLike, *, threshold: float = 0.5) -> list[str]:
    """Look for faults of the predictions that a score can hide.

    Args:
        probabilities: (n,) or (n, 1) P(fractured).
        threshold: At or above it an image is called fractured.

    Returns:
        A sentence for each fault; an empty list where there is none.
    """
    values = np.asarray(probabilities, dtype=np.float64).ravel()
    if values.size == 0:
        return ["There are no predictions."]
    finite = np.isfinite(values)
    if not finite.all():
        return [f"{int((~finite).sum())} of {values.size} predictions are not numbers: the model diverged."]
    faults = []
    if values.min() < 0 or values.max() > 1:
        faults.append(f"Predictions lie between {values.min():.3g} and {values.max():.3g}: these are no probabilities.")
    if values.size > 1 and np.ptp(values) < 1e-6:
        faults.append(f"All {values.size} predictions are {values[0]:.3f}: the model does not look at the image.")
    elif values.size > 1 and len(np.unique(values >= threshold)) == 1:
        name = "fractured" if values[0] >= threshold else "normal"
        faults.append(f"All {values.size} predictions are {name} at the threshold {threshold:.3f}.")
    return faults
