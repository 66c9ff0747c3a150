"""A picture of the shortcuts of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from fracturelab.plots.style import FRACTURED, NORMAL, own_axes, rows_of, styled


@styled
def shortcuts(names: Sequence[str], aucs: ArrayLike, *, strong: float = 0.7, ax: Axes | None = None) -> Axes:
    """Bars that show how well a fact other than the bone separates the classes.

    Args:
        names: Names of the shortcuts, such as "file size".
        aucs: Cross-validated ROC AUC of each shortcut alone; 0.5 is chance.
        strong: AUC from which a bar is red; the limit of the audit by default.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes: a bar from 0.5 to each AUC, the strongest on top.
    """
    values = np.asarray(aucs, float)
    order = np.argsort(-np.abs(np.nan_to_num(values, nan=0.5) - 0.5), kind="stable")
    ax = own_axes(ax, height=1.0 + 0.32 * len(values))
    rows = np.arange(len(values))
    gain = np.nan_to_num(values[order], nan=0.5) - 0.5
    colours = [FRACTURED if g >= strong - 0.5 else NORMAL for g in gain]
    ax.barh(rows, gain, left=0.5, height=0.65, color=colours)
    for row, value, step in zip(rows.tolist(), values[order], gain, strict=True):
        shown, side = "undefined" if np.isnan(value) else f"{value:.2f}", 1 if step >= 0 else -1
        ax.text(0.5 + step + side * 0.008, row, shown, va="center", ha="left" if side > 0 else "right", fontsize=9)
    ax.axvline(0.5, color="black", linewidth=1)
    rows_of(ax, [names[i] for i in order])
    ax.set(xlim=(min(0.4, 0.5 + gain.min(initial=0) - 0.08), 1.05), xlabel="AUC of this alone (0.5: says nothing)")
    return ax
