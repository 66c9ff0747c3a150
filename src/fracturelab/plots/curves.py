"""ROC, precision-recall and calibration curves with their 95% bands.

They take the curve data of `fracturelab.evaluation`, or anything with the same attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from fracturelab.plots.style import BESIDE, COLOURS, DASHES, GREY, colour_of, nth, own_axes, styled, whiskers

if TYPE_CHECKING:
    from fracturelab.evaluation import Calibration, Curve


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
        _with_band(ax, i, curve, name, f"{name}: AUC {curve.area}")
    ax.plot([0, 1], [0, 1], **_GUESSING, label="guessing: 0.50")
    return _square(ax, xlabel="1 - specificity", ylabel="sensitivity")


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
        _with_band(ax, i, curve, name, f"{name}: AP {curve.area}", step="pre")
    for share in sorted({round(float(curve.share), 6) for curve in curves.values()}):
        ax.axhline(share, **_GUESSING, label=f"guessing: {share:.2f}")
    return _square(ax, xlabel="sensitivity (recall)", ylabel="precision")


_GUESSING: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": (0, (1, 2))}


def _with_band(ax: Axes, i: int, curve: Curve, name: str, label: str, *, step: Literal["pre"] | None = None) -> None:
    colour = colour_of(i, name)
    drawstyle = "default" if step is None else f"steps-{step}"
    ax.plot(curve.x, curve.y, color=colour, linestyle=DASHES[i % 4], label=label, drawstyle=drawstyle)
    ax.fill_between(curve.grid, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0, step=step)


def _square(ax: Axes, *, xlabel: str, ylabel: str) -> Axes:
    """Axes from 0 to 1 both ways; the legend stands below, because curves may run anywhere."""
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_aspect("equal")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.12))
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
    ax.plot([0, 1], [0, 1], **_GUESSING, label="calibrated")
    for i, (name, curve) in enumerate(curves.items()):
        x, y, colour = curve.predicted, curve.observed, colour_of(i, name)
        look = {"color": colour, "linestyle": DASHES[i % 4], "capsize": 2, "linewidth": 1.2}
        label = f"{name}: calibration error {curve.ece:.2f}\n(if calibrated: {curve.chance:.2f})"
        ax.errorbar(x, y, yerr=whiskers(y, curve.low, curve.high), label=label, **look)
        ax.scatter(x, y, s=15 + 100 * curve.counts / most, **nth(i, name), alpha=0.75, linewidths=0, zorder=3)
    return _square(ax, xlabel="P(fractured)", ylabel="share of fractured images")


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
        ax.plot(steps, value, **nth(i), linestyle=DASHES[i % 4], markersize=4, label=name)
        ax.fill_between(steps, low, high, color=COLOURS[i % len(COLOURS)], alpha=0.12, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1))
    ax.legend(**BESIDE)
    return ax
