"""Confusion matrices, one or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from fracturelab.plots.style import own_axes, panels, shortened, styled


@styled
def confusion_matrix(
    matrix: ArrayLike, class_names: Sequence[str] = ("normal", "fractured"), *, title: str = "", ax: Axes | None = None
) -> Axes:
    """A confusion matrix: counts, and below them the percentage of the row (over four classes, on the diagonal only).

    Args:
        matrix: (k, k) counts; rows are what the images are, columns the answers of the model.
        class_names: In the order of the rows.
        title: Above the matrix.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    counts = np.asarray(matrix)
    k = len(class_names)
    if counts.shape != (k, k):
        raise ValueError(f"expected a matrix of shape ({k}, {k}). Received: {counts.shape}")
    side = max(3.2, 0.62 * k + 1.6)
    ax = own_axes(ax, width=side + 0.4, height=side)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    size = 11 if k <= 3 else 9 if k <= 6 else 7.5
    for row in range(k):
        for column in range(k):
            if k > 4 and counts[row, column] == 0:
                continue
            shown = totals[row, 0] > 0 and (k <= 4 or row == column)
            percent = f"\n{100 * shares[row, column]:.0f}%" if shown else ""
            colour = "white" if shares[row, column] > 0.55 else "black"
            ax.text(
                column, row, f"{counts[row, column]:,}{percent}", ha="center", va="center", color=colour, fontsize=size
            )
    names = [shortened(name, width=20) for name in class_names]
    ax.set_xticks(range(k), names, rotation=0 if k <= 3 else 40, ha="center" if k <= 3 else "right")
    ax.set_yticks(range(k), names, rotation=90 if k <= 3 else 0, va="center")
    ax.set(xlabel="predicted label", ylabel="true label", title=title)
    ax.tick_params(length=0)
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


@styled
def confusion_matrices(
    matrices: Mapping[str, ArrayLike], class_names: Sequence[str] = ("normal", "fractured"), *, columns: int = 3
) -> Figure:
    """Several confusion matrices side by side.

    Args:
        matrices: Title to its matrix.
        class_names: In the order of the rows.
        columns: Matrices in a row.

    Returns:
        The figure.
    """
    k = len(class_names)
    side = min(max(2.9, 0.5 * k + 1.6), 5.6)
    figure, axes = panels(len(matrices), columns=columns if k <= 4 else 2, panel=(side, side + 0.2))
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        confusion_matrix(matrix, class_names, title=title, ax=ax)
        place = ax.get_subplotspec()
        if place is not None and not place.is_first_col():
            ax.set_ylabel("")
    return figure
