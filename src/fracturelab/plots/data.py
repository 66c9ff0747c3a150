"""Pictures of a data set: classes, sizes, shortcuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from fracturelab.plots.style import BESIDE, COLOURS, FRACTURED, GREY, NORMAL, note, nth, own_axes, rows_of, styled


def _colour(name: str, position: int) -> str:
    return {"normal": NORMAL, "fractured": FRACTURED}.get(name, COLOURS[position % len(COLOURS)])


@styled
def class_balance(counts: Mapping[str, Mapping[str, int]], *, ax: Axes | None = None) -> Axes:
    """How many images of each class there are, in each part of the data.

    Args:
        counts: Part (a split, a source) to class name to images, such as {"train": {"normal": 210, "fractured": 190}}.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes: a stacked bar for each part, with the numbers in it.
    """
    ax = own_axes(ax, height=1.1 + 0.45 * len(counts))
    classes = list(dict.fromkeys(name for row in counts.values() for name in row))
    rows = np.arange(len(counts))
    left = np.zeros(len(counts))
    longest = max((sum(row.values()) for row in counts.values()), default=0)
    for i, name in enumerate(classes):
        sizes = np.array([row.get(name, 0) for row in counts.values()], float)
        ax.barh(rows, sizes, left=left, height=0.7, color=_colour(name, i), label=name, edgecolor="white")
        for row, size, start in zip(rows.tolist(), sizes, left, strict=True):
            if size > 0.05 * longest:
                ax.text(start + size / 2, row, f"{int(size):,}", ha="center", va="center", color="white", fontsize=9)
        left += sizes
    for row, part in enumerate(counts.values()):
        slim = [f"{size:,} {name}" for name, size in part.items() if size <= 0.05 * longest]
        note(ax, ", ".join(slim), (left[row], row), (4, 0), va="center", fontsize=9)
    rows_of(ax, list(counts))
    ax.set_xlabel("images")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(classes), 5))
    return ax


@styled
def size_scatter(
    widths: ArrayLike, heights: ArrayLike, kinds: Sequence[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Width and height of each image.

    Args:
        widths: (n,) pixels.
        heights: (n,) pixels.
        kinds: Class or source of each image, for colours and symbols.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = own_axes(ax, width=6.0, height=4.2)
    across, down = np.asarray(widths, float), np.asarray(heights, float)
    names = np.array(["images"] * len(across) if kinds is None else [str(kind) for kind in kinds])
    for i, name in enumerate(dict.fromkeys(names.tolist())):
        here = names == name
        look = {**nth(i), "linestyle": "none", "color": _colour(name, i), "alpha": 0.45, "markersize": 5}
        ax.plot(across[here], down[here], markeredgewidth=0, label=f"{name} ({int(here.sum()):,})", **look)
    limit = 1.05 * max(across.max(initial=1), down.max(initial=1))
    ax.plot([0, limit], [0, limit], color=GREY, linestyle=":", linewidth=1, label="square")
    ax.set(xlim=(0, limit), ylim=(0, limit), xlabel="width (pixels)", ylabel="height (pixels)")
    ax.set_aspect("equal")
    ax.legend(**BESIDE)
    return ax


@styled
def shortcuts(names: Sequence[str], aucs: ArrayLike, *, strong: float = 0.7, ax: Axes | None = None) -> Axes:
    """How well something that is not the bone tells the classes apart.

    Args:
        names: Of the shortcuts, such as "file size".
        aucs: Cross-validated ROC AUC of each alone; 0.5 is guessing.
        strong: From where on a bar is orange; the audit's limit by default.
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
