"""The look of every figure: quiet, readable at the width of a notebook, safe for colour-blind readers.

Colours are those of Okabe and Ito (2008), "Color Universal Design".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError
from fracturelab.system.files import whole_file

WIDTH = 9.0
"""Inches across a notebook cell."""

NORMAL, FRACTURED = "#767676", "#CC3311"
V1, V2, SHIPPED = "#E69F00", "#0072B2", "#009E73"
"""One colour a model in every notebook: the CNN from scratch, transfer learning, and the model that comes along."""
MODEL_COLOURS = {"v1": V1, "v2": V2, "shipped": SHIPPED, "leaking v1": "#CC79A7"}
MODEL_COLOURS |= {"ImageNet": "#8C6D31", "random weights": "#000000"}
MODEL_COLOURS |= {"ResNet50": V2, "EfficientNetLite2": SHIPPED, "EfficientNetLite0": "#D55E00"}
MODEL_COLOURS |= {"MobileNetV2": "#CC79A7", "ensemble": "#000000"}
"""Names of models that have the same colour in every plot, whatever their place in it."""
RIGHT, WRONG = "#009E73", "#CC3311"
GREY = "#666666"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")

MARKERS = "osD^vPX*"
DASHES = ("-", "--", "-.", ":")
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
"""Place of a legend to the right of the Axes."""
ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4}
"""Place of a legend above the Axes."""

_STYLE = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "image.cmap": "gray",
    "image.interpolation": "antialiased",
}

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def style() -> Iterator[None]:
    """The look of this project's figures, for a `with` block around plots of one's own.

    It puts back the settings of the look and no others: the first figure of a notebook also chooses the backend, which
    must stay interactive for later figures to be shown.
    """
    before = {name: mpl.rcParams[name] for name in _STYLE}
    mpl.rcParams.update(_STYLE)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


def styled(plot: Callable[P, T]) -> Callable[P, T]:
    """Runs a plot function in `style()`."""

    @functools.wraps(plot)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        with style():
            return plot(*args, **kwargs)

    return inside


def own_axes(ax: Axes | None, *, width: float = WIDTH, height: float = 3.6) -> Axes:
    """The given Axes, or those of a new figure whose layout leaves room for every label."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def colour_of(i: int, name: str = "") -> str:
    """Colour of the i-th series; a model of `MODEL_COLOURS` has its own."""
    return MODEL_COLOURS.get(name, COLOURS[i % len(COLOURS)])


def nth(i: int, name: str = "") -> dict[str, Any]:
    """Colour and marker of the i-th series; see `colour_of`."""
    return {"color": colour_of(i, name), "marker": MARKERS[i % len(MARKERS)]}


def whiskers(value: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """Lengths of error bars, (2, n) and never negative, from values and their limits."""
    middle, below, above = (np.atleast_1d(np.asarray(each, float)) for each in (value, low, high))
    return np.maximum([middle - below, above - middle], 0)


def band(ax: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, colour: str, step: Any = None) -> None:
    """Draw the band of a curve."""
    ax.fill_between(np.asarray(x), np.asarray(low), np.asarray(high), color=colour, alpha=0.13, linewidth=0, step=step)


def rows_of(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows of a plot, the first on top, at y = 0, 1, ..."""
    ax.set_yticks(range(len(names)), [shortened(name, width=36) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def note(ax: Axes, text: str, place: tuple[Any, Any], shift: tuple[float, float], **look: Any) -> None:
    """Write a text at a place in data coordinates, moved by a shift in points."""
    ax.annotate(text, place, xytext=shift, textcoords="offset points", **look)


def shortened(text: str, *, width: int = 24, lines: int = 2) -> str:
    """Text cut to `lines` lines of at most `width` characters, each long one with dots in its middle."""
    kept = []
    for line in text.split("\n")[:lines]:
        if len(line) > width:
            half = (width - 1) // 2
            line = f"{line[:half]}…{line[-(width - 1 - half) :]}"
        kept.append(line.replace("$", r"\$"))
    return "\n".join(kept)


def titled(figure: Figure, title: str) -> None:
    """Write the title of a figure, if there is one."""
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")


def line_at(ax: Axes, reference: float | None, *, across: bool = False) -> None:
    """Draw a dashed line at a reference value; none where it is None."""
    if reference is not None:
        (ax.axhline if across else ax.axvline)(reference, color=GREY, linewidth=1, linestyle="--")


def panels(count: int, *, columns: int, panel: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows of `columns`; panels that are left over are removed.

    Args:
        count: Panels, at least one.
        columns: Most panels in a row.
        panel: Width and height of one, in inches.

    Returns:
        The figure and its `count` Axes.
    """
    across = max(1, min(columns, count))
    rows = -(-count // across)
    figure, grid = plt.subplots(
        rows, across, figsize=(panel[0] * across, panel[1] * rows), squeeze=False, layout="constrained"
    )
    for spare in list(grid.flat)[count:]:
        spare.remove()
    return figure, list(grid.flat)[:count]


def save_figure(figure: Figure | Axes, path: str | Path, *, dpi: int = 120) -> Path:
    """Saves a figure as PNG, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: The figure, or Axes of it.
        path: The file, ending in `.png`; its folders are made.
        dpi: Dots an inch.

    Returns:
        The file.

    Raises:
        FracturelabError: It is not called `.png`, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise FracturelabError(f"expected a file name ending in .png. Received: {path.name}")
    whole = cast(Figure, figure.get_figure(root=True) if isinstance(figure, Axes) else figure)
    with whole_file(path) as part, style():
        whole.savefig(part, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
    return path
