"""Platt scaling of probabilities on validation images, written into the last layer of the model.

A head that was trained with equal weight for both classes gives probabilities as if half of all X-rays were fractured.
Platt's scaling (*Probabilistic outputs for support vector machines*, 1999) fits `sigmoid(slope * logit + shift)` to
validation labels. With a positive slope it changes no ranking and no AUC. It is linear in the logit, so the last layer
can hold it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from fracturelab.errors import FracturelabError
from fracturelab.training.epochs import predict
from fracturelab.training.fitting import Fit

if TYPE_CHECKING:
    import keras

_EPSILON = 1e-7
FEWEST = 50
"""Validation images of each class that a calibration needs: on a handful the slope has no bound, probabilities become 0
and 1, and images that differed tie."""


@dataclass(frozen=True)
class PlattScaling:
    """A straight line from logit to logit.

    Attributes:
        slope: Below 1 if the probabilities were too close to 0 and 1.
        shift: Below 0 if fractures are rarer than the probabilities imply.
    """

    slope: float
    shift: float

    def __call__(self, probabilities: ArrayLike) -> np.ndarray:
        """Calibrated probabilities, of the shape given."""
        return expit(self.slope * _logit(probabilities) + self.shift)


def _logit(probabilities: ArrayLike) -> np.ndarray:
    return logit(np.clip(np.asarray(probabilities, np.float64), _EPSILON, 1 - _EPSILON))


def fit_platt(labels: ArrayLike, probabilities: ArrayLike) -> PlattScaling:
    """Fit slope and shift on images that were not trained on.

    Args:
        labels: (n,) 0 or 1, both present.
        probabilities: (n,) P(fractured).

    Returns:
        The scaling.

    Raises:
        FracturelabError: One class only, or probabilities that rank fractured images below normal ones.
    """
    from sklearn.linear_model import LogisticRegression

    labels = np.asarray(labels, np.int64)
    if len(np.unique(labels)) < 2:
        raise FracturelabError("expected validation images of both classes to calibrate on. Received: one class")
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(_logit(probabilities)[:, None], labels)
    scaling = PlattScaling(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))
    if scaling.slope <= 0:
        raise FracturelabError("expected a model that ranks fractured X-rays higher. Received: one to be turned around")
    return scaling


def check_enough(labels: ArrayLike) -> None:
    """Refuse to calibrate on a handful of images.

    Args:
        labels: (n,) 0 or 1, of the validation images.

    Raises:
        FracturelabError: Fewer than `FEWEST` of a class.
    """
    normal, fractured = np.bincount(np.asarray(labels, np.int64), minlength=2)
    if min(normal, fractured) < FEWEST:
        raise FracturelabError(
            f"expected at least {FEWEST} validation images of each class to calibrate on, since a slope from fewer may "
            f"have any size. Received: {normal} normal, {fractured} fractured; leave --calibrate out, or bring more"
        )


def fold_in(model: keras.Model, scaling: PlattScaling) -> None:
    """Make a scaling part of a binary model's last layer.

    Raises:
        FracturelabError: The last layer is not a dense layer with one sigmoid.
    """
    dense = model.layers[-1]
    if getattr(dense, "units", None) != 1 or getattr(dense.activation, "__name__", "") != "sigmoid":
        raise FracturelabError(f"expected a last layer with one sigmoid. Received: {dense.name}")
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel * scaling.slope, bias * scaling.slope + scaling.shift])


def calibrated(fit: Fit) -> Fit:
    """Calibrate a fit on its validation images; its model changes in place, and the threshold with it.

    Returns:
        The fit with its new threshold, and `calibration` in its recipe.

    Raises:
        FracturelabError: Too few validation images, or a model that ranks them in reverse.
    """
    rows = fit.prepared.rows("val")
    check_enough(fit.prepared.labels[rows])
    scaling = fit_platt(fit.prepared.labels[rows], predict(fit.model, fit.prepared.images, rows=rows))
    fold_in(fit.model, scaling)
    recipe = {**fit.recipe, "calibration": {"slope": scaling.slope, "shift": scaling.shift, "images": len(rows)}}
    return replace(fit, threshold=float(scaling(fit.threshold)), recipe=recipe)
