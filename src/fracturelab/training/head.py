"""A linear head solved exactly: logistic regression on standardised features, written into the Keras model.

Fine-tuning from a head that has not converged distorts pretrained features (Kumar et al., *Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution*, 2022). So the head is solved first, which for a linear layer
takes seconds. Its strength of L2 is chosen by cross-validation over groups of training images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.transfer import STANDARDISE

if TYPE_CHECKING:
    import keras

# Stronger than 30 is left out: with 100 X-rays of FracAtlas, where cross-validation then took more, the test AUC fell.
STRENGTHS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)  # of L2, strongest first; each solution starts the next
_CHUNK = 512
_MEMORY = 2**26  # bytes of features up to which they are held in memory; beyond, they are read anew in every step


@dataclass(frozen=True)
class Head:
    """A linear head on standardised features.

    Attributes:
        mean: (d,) of the training features.
        variance: (d,) of the training features, floored where a feature hardly varies.
        kernel: (d, outputs); one output for two classes.
        bias: (outputs,)
        strength: Strength of L2.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    kernel: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float

    def logits(self, features: ArrayLike) -> NDArray[np.float64]:
        """(n, outputs) for (n, d) features."""
        scaled = self.kernel / np.sqrt(self.variance)[:, None]
        return np.asarray(features, np.float64) @ scaled + (self.bias - self.mean @ scaled)


def moments(views: Sequence[NDArray], rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of each feature over some rows of every view.

    The standard deviation of a feature is at least 1% of the median one. Otherwise a feature that is nearly constant
    over the training images would dominate on an image unlike them.
    """
    total = np.zeros(views[0].shape[1])
    squares = np.zeros_like(total)
    for block in _blocks(views, rows):
        total += block.sum(0, dtype=np.float64)
    mean = total / (len(rows) * len(views))
    for block in _blocks(views, rows):
        squares += np.square(block - mean.astype(np.float32), dtype=np.float64).sum(0)
    variance = squares / (len(rows) * len(views))
    floor = (0.01 * np.median(np.sqrt(variance[variance > 0]))) ** 2 if (variance > 0).any() else 1.0
    return mean, np.maximum(variance, max(floor, 1e-8))


def _blocks(views: Sequence[NDArray], rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """The rows of every view in blocks, without a copy where the rows are all rows."""
    whole = _all_rows(views, rows)
    for view in views:
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield np.asarray(view[part] if whole else view[rows[part]], np.float32)


def _loaded(
    views: Sequence[NDArray], labels: NDArray[np.int64], rows: NDArray[np.int64], *, share: int = 1
) -> tuple[Sequence[NDArray], NDArray[np.int64], NDArray[np.int64]]:
    """Views, labels and rows, reduced to these rows in memory where they fit; else unchanged.

    `share` such sets share the memory for features equally.
    """
    in_memory = all(type(view) is np.ndarray and view.dtype == np.float32 for view in views)
    if len(rows) * views[0].shape[1] * 4 * len(views) > _MEMORY // share or (in_memory and _all_rows(views, rows)):
        return views, labels, rows
    return [np.asarray(view[rows], np.float32) for view in views], labels[rows], np.arange(len(rows))


def _all_rows(views: Sequence[NDArray], rows: NDArray[np.int64]) -> bool:
    return len(rows) == len(views[0]) and np.array_equal(rows, np.arange(len(rows)))


def solve(
    views: Sequence[NDArray],
    labels: ArrayLike,
    *,
    rows: NDArray[np.int64],
    strength: float,
    classes: int = 2,
    start: Head | None = None,
    tolerance: float = 1e-8,
) -> Head:
    """Minimise the mean cross-entropy, every class weighing the same, plus `strength / 2 * |kernel|^2`.

    It equals scikit-learn's `LogisticRegression(C=1 / (strength * n), class_weight="balanced")` on standardised
    features; the features may be memory maps and are never in memory as a whole.

    Args:
        views: Features (n, d) of each view; row i of each view is image i.
        labels: (n,) class of each image.
        rows: Indices of the images to fit.
        strength: Strength of L2.
        classes: 2 for one logit, more for a softmax.
        start: Head to start from; its moments are used as well.
        tolerance: Relative improvement of the loss below which L-BFGS stops.
    """
    from scipy.optimize import minimize

    labels = np.asarray(labels, np.int64)
    missing = sorted(set(range(classes)) - set(labels[rows].tolist()))
    if missing:
        raise FracturelabError(
            f"expected every class among {len(rows)} images for a head. Received: none of class {missing[0]}"
        )
    views, labels, rows = _loaded(views, labels, rows)
    mean, variance = (start.mean, start.variance) if start is not None else moments(views, rows)
    scale = 1 / np.sqrt(variance)
    outputs = 1 if classes == 2 else classes
    targets = np.tile(labels[rows], len(views))
    weights = (1 / (classes * np.bincount(labels[rows], minlength=classes)))[targets] / len(views)

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        kernel, bias = parameters[:-outputs].reshape(-1, outputs), parameters[-outputs:]
        scaled = kernel * scale[:, None]
        offset = bias - mean @ scaled
        value, gradient, residuals, done = 0.0, np.zeros_like(kernel), np.zeros(outputs), 0
        for block in _blocks(views, rows):
            part = slice(done, done + len(block))
            done += len(block)
            logits = (block @ scaled.astype(np.float32)).astype(np.float64) + offset
            loss, residual = _cross_entropy(logits, targets[part])
            value += float(weights[part] @ loss)
            residual *= weights[part][:, None]
            gradient += block.T @ residual.astype(np.float32)
            residuals += residual.sum(0)
        gradient = (gradient - np.outer(mean, residuals)) * scale[:, None] + strength * kernel
        return value + strength / 2 * float(np.sum(kernel**2)), np.concatenate([gradient.ravel(), residuals])

    first = np.zeros(len(mean) * outputs + outputs)
    if start is not None:
        first = np.concatenate([start.kernel.ravel(), start.bias])
    options = {"maxiter": 500, "ftol": tolerance, "gtol": 1e-6}
    best = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
    return Head(mean, variance, best.x[:-outputs].reshape(-1, outputs), best.x[-outputs:], strength)


def _cross_entropy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Loss (n,) and its derivative by the logits (n, outputs)."""
    if logits.shape[1] == 1:
        sign = np.where(labels == 1, 1.0, -1.0)
        margin = sign * logits[:, 0]
        return np.logaddexp(0, -margin), (-sign / (1 + np.exp(np.clip(margin, -500, 500))))[:, None]
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    residual = np.exp(log_probabilities)
    place = np.arange(len(labels)), labels
    loss = -log_probabilities[place]
    residual[place] -= 1
    return loss, residual


def cross_validated_strength(
    views: Sequence[NDArray],
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    rows: NDArray[np.int64],
    seed: int = 0,
    classes: int = 2,
    folds: int = 4,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[float, dict[float, float]]:
    """Choose the strength of L2 on training images alone, by folds that keep groups whole.

    Args:
        views: Features (n, d) of each view.
        labels: (n,) class of each image.
        groups: (n,) group of each image.
        rows: The training images.
        seed: Decides the folds.
        classes: Number of classes.
        folds: Number of folds; fewer where a class has fewer groups.
        strengths: To choose from.

    Returns:
        The strength with the lowest mean held-out loss (of the first view, every class weighing the same), and that
        loss for each strength that was tried, from the strongest until the loss rises. Without enough groups for two
        folds the strongest is taken.
    """
    from fracturelab.splits import assign_groups

    labels, groups = np.asarray(labels, np.int64), np.asarray(groups).astype(str)
    strengths = sorted(strengths, reverse=True)
    fewest = min(len(np.unique(groups[rows][labels[rows] == value])) for value in range(classes))
    folds = min(folds, fewest)
    if folds < 2:
        return strengths[0], {}
    side = assign_groups(labels[rows], groups[rows], [1.0] * folds, seed=seed)
    parts = []
    for fold in range(folds):
        held, fit = rows[side == fold], rows[side != fold]
        if all(len(np.unique(labels[part])) == classes for part in (held, fit)):
            parts.append((_loaded(views, labels, fit, share=folds), held))
    heads: list[Head | None] = [None] * len(parts)
    losses: dict[float, float] = {}
    for strength in strengths:
        held_out = []
        for number, ((fit_views, fit_labels, fit_rows), held) in enumerate(parts):
            settings: dict[str, Any] = {"strength": strength, "classes": classes, "tolerance": 1e-5}
            heads[number] = head = solve(fit_views, fit_labels, rows=fit_rows, start=heads[number], **settings)
            logits = np.concatenate([head.logits(block) for block in _blocks(views[:1], held)])
            loss, _ = _cross_entropy(logits, labels[held])
            held_out.append(np.mean([loss[labels[held] == value].mean() for value in range(classes)]))
        losses[strength] = float(np.mean(held_out)) if held_out else float("inf")
        if losses[strength] > 1.02 * min(losses.values()):
            break  # weaker ones overfit more, and take longest
    return min(losses, key=lambda strength: losses[strength]), losses


def write_head(model: keras.Model, head: Head) -> None:
    """Write a head into a transfer model, whose probabilities are then those of the head on its features."""
    standardise, dense = model.get_layer(STANDARDISE), model.layers[-1]
    standardise.set_weights([head.mean.astype(np.float32), (head.variance - standardise.epsilon).astype(np.float32)])
    dense.set_weights([head.kernel.astype(np.float32), head.bias.astype(np.float32)])
