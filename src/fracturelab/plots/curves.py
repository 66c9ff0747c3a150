"""ROC, precision-recall and calibration curves with their 95% bands.

They take the curve data of `fracturelab.evaluation`, or anything with the same attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from fracturelab.plots.style import COLOURS, GREY, own_axes, styled

if TYPE_CHECKING:
    from fracturelab.evaluation import Calibration, Curve

_DASHES = ("-", "--", "-.", ":")
_MARKERS = "osD^vPX*"


@styled
def roc(curves: Mapping[str, Curve], *, ax: Axes | None = None) -> Axes:
    """ROC curves with their bands; the legend holds the area and its interval.

    Args:
        curves: Model to its curve, from `evaluation.roc_curve`.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = own_axes(ax, width=5.2, height=5.2)
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        label = f"{name}: AUC {curve.area}"
        ax.plot(curve.x, curve.y, color=colour, linestyle=_DASHES[i % 4], label=label)
        ax.fill_between(curve.grid, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (1, 2)), label="guessing: 0.50")
    ax.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_aspect("equal")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.12))  # curves may run anywhere
    return ax


@styled
def precision_recall(curves: Mapping[str, Curve], *, ax: Axes | None = None) -> Axes:
    """Precision-recall curves with their bands; the legend holds the average precision and its interval.

    Args:
        curves: Model to its curve, from `evaluation.precision_recall_curve`.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = own_axes(ax, width=5.2, height=5.2)
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        label = f"{name}: AP {curve.area}"
        ax.plot(curve.x, curve.y, color=colour, linestyle=_DASHES[i % 4], label=label, drawstyle="steps-pre")
        ax.fill_between(curve.grid, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0, step="pre")
    for share in sorted({round(float(curve.share), 6) for curve in curves.values()}):
        ax.axhline(share, color=GREY, linewidth=1, linestyle=(0, (1, 2)), label=f"guessing: {share:.2f}")
    ax.set(xlabel="sensitivity (recall)", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_aspect("equal")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.12))  # curves may run anywhere
    return ax


@styled
def calibration(curves: Mapping[str, Calibration], *, ax: Axes | None = None) -> Axes:
    """Observed share of fractures against P(fractured), a bin a point, with Wilson's 95% interval.

    Args:
        curves: Model to its `evaluation.calibration_curve`.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes; the points' areas grow with the images in a bin.
    """
    ax = own_axes(ax, width=5.2, height=5.2)
    most = max((int(curve.counts.max()) for curve in curves.values() if len(curve.counts)), default=1)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (1, 2)), label="calibrated")
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        error = np.stack([curve.observed - curve.low, curve.high - curve.observed])
        ax.errorbar(
            curve.predicted,
            curve.observed,
            yerr=np.maximum(error, 0),
            color=colour,
            linestyle=_DASHES[i % 4],
            capsize=2,
            linewidth=1.2,
            label=f"{name}: calibration error {curve.ece:.2f}\n(if calibrated: {curve.chance:.2f})",
        )
        ax.scatter(
            curve.predicted,
            curve.observed,
            s=15 + 100 * curve.counts / most,
            color=colour,
            marker=_MARKERS[i % 8],
            alpha=0.75,
            linewidths=0,
            zorder=3,
        )
    ax.set(xlabel="P(fractured)", ylabel="share of fractured images", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_aspect("equal")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.12))  # curves may run anywhere
    return ax


@styled
def hiding_curves(
    curves: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str = "share of the image hidden, hottest first",
    ylabel: str = "P(fractured)",
    ax: Axes | None = None,
) -> Axes:
    """An answer while more and more of an image is hidden, or comes back, with bands.

    Args:
        curves: Name of the map to `value`, `low` and `high`, each one number for each step from 0 to 1.
        xlabel: What the steps are.
        ylabel: The answer.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = own_axes(ax, width=7.5, height=3.6)
    for i, (name, curve) in enumerate(curves.items()):
        value, low, high = (np.asarray(curve[key], float) for key in ("value", "low", "high"))
        steps = np.linspace(0, 1, len(value))
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(steps, value, color=colour, linestyle=_DASHES[i % 4], marker=_MARKERS[i % 8], markersize=4, label=name)
        ax.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1))
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax
