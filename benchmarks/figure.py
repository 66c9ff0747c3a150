"""The figure of all comparisons, with the ratio of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from fracturelab.plots.style import FRACTURED, RIGHT, note, own_axes, rows_of, styled


@styled
def ratios(names: Sequence[str], values: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw ratios on a logarithmic scale; bars above 1 are better and green.

    Args:
        names: Names of the comparisons.
        values: Positive ratios.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    measured = np.asarray(values, float)
    if not (measured > 0).all():
        raise ValueError(f"expected positive ratios. Received: {measured.tolist()}")
    ax = own_axes(ax, height=0.9 + 0.34 * len(measured))
    rows = np.arange(len(measured))
    better = measured >= 1
    ax.barh(rows, measured - 1, left=1, height=0.65, color=np.where(better, RIGHT, FRACTURED))
    for row, value in zip(rows, measured, strict=True):
        text, right = f"{value:.1f}×" if value >= 0.95 else f"{value:.2f}×", value >= 1
        note(ax, text, (value, row), (4 if right else -4, 0), va="center", ha="left" if right else "right", fontsize=9)
    ax.set_xscale("log")
    ax.axvline(1, color="black", linewidth=1)
    rows_of(ax, [name.replace("_", " ") for name in names])
    low, high = min(measured.min(initial=1) / 1.8, 0.8), max(measured.max(initial=1) * 1.8, 2)
    ax.set(xlim=(low, high), xlabel="times better (1: the same)")
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= t <= high]
    ax.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    ax.minorticks_off()
    return ax
