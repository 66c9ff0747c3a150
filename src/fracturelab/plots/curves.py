"""ROC, precision-recall and calibration curves with their 95% bands.

They take the curve data of `fracturelab.evaluation`, or anything with the same attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from fracturelab.plots.style import DASHES, GREY, band, colour_of, nth, own_axes, styled, whiskers

if TYPE_CHECKING:
    from fracturelab.evaluation import Calibration, Curve


_GUESSING: dict[str, Any] = {"color": GREY, "linewidth": 1, "linestyle": (0, (1, 2))}


@styled
def roc(curves: Mapping[str, Curve], *, ax: Axes | None = None) -> Axes:
    """ROC curves with their bands; the legend holds the area and its interval.

    Args:
        curves: Model to its curve, from `evaluation.roc_curve`.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = _drawn(curves, "AUC", ax)
    ax.plot([0, 1], [0, 1], **_GUESSING, label="guessing: 0.50")
    return _square(ax, xlabel="1 - specificity", ylabel="sensitivity")


@styled
def precision_recall(curves: Mapping[str, Curve], *, ax: Axes | None = None) -> Axes:
    """Precision-recall curves from `evaluation.precision_recall_curve`, drawn as `roc` draws its curves."""
    ax = _drawn(curves, "AP", ax, step="pre")
    for share in sorted({round(float(curve.share), 6) for curve in curves.values()}):
        ax.axhline(share, **_GUESSING, label=f"guessing: {share:.2f}")
    return _square(ax, xlabel="sensitivity (recall)", ylabel="precision")


def _drawn(curves: Mapping[str, Curve], area: str, ax: Axes | None, *, step: str | None = None) -> Axes:
    ax = own_axes(ax, width=5.2, height=5.2)
    for i, (name, curve) in enumerate(curves.items()):
        look: dict[str, Any] = {"color": colour_of(i, name), "drawstyle": f"steps-{step}" if step else "default"}
        ax.plot(curve.x, curve.y, linestyle=DASHES[i % 4], label=f"{name}: {area} {curve.area}", **look)
        band(ax, curve.grid, curve.low, curve.high, colour=look["color"], step=step)
    return ax


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
        look: dict[str, Any] = {"color": colour, "linestyle": DASHES[i % 4], "capsize": 2, "linewidth": 1.2}
        label = f"{name}: calibration error {curve.ece:.2f}\n(if calibrated: {curve.ece_calibrated:.2f})"
        ax.errorbar(x, y, yerr=whiskers(y, curve.low, curve.high), label=label, **look)
        ax.scatter(x, y, s=15 + 100 * curve.counts / most, **nth(i, name), alpha=0.75, linewidths=0, zorder=3)
    return _square(ax, xlabel="P(fractured)", ylabel="share of fractured images")
