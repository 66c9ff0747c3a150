"""Pages of radiographs: montages, pairs of copies, predictions, heat maps.

Images are uint8 arrays (height, width) or (height, width, 1), bone bright.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from fracturelab.plots.style import GREY, RIGHT, WIDTH, WRONG, own_axes, panels, shortened, styled, titled

T = TypeVar("T")
Images = Sequence[ArrayLike]
Titles = Sequence[str] | None
Boxes = Sequence[Sequence[float] | None] | None


def _flat(image: ArrayLike) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2:
        raise ValueError(f"expected an image of shape (height, width) or (height, width, 1). Received: {pixels.shape}")
    return pixels


def _show(ax: Axes, image: ArrayLike, title: str = "") -> None:
    ax.imshow(_flat(image), cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title:
        ax.set_title(shortened(title), fontsize=8.5, loc="center", pad=4)


def _height(images: Images, width: float, *, text: float) -> float:
    """Height of a panel that fits the images' median aspect ratio, within reason."""
    aspects = [height / width for height, width in (_flat(image).shape for image in images)]
    return width * float(np.clip(np.median(aspects), 0.5, 1.7)) + text


def _checked(images: Sequence[Any], titles: Sequence[T] | None, *, what: str, none: T) -> Sequence[T]:
    """The titles, or as many empty ones."""
    if len(images) == 0:
        raise ValueError(f"expected at least one image for {what}. Received: none")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"expected a title for each of {len(images)} images. Received: {len(titles)}")
    return [none] * len(images) if titles is None else titles


def _page(images: Images, *, columns: int, text: float, title: str, least: int = 3) -> tuple[Figure, list[Axes]]:
    """A titled figure with a panel for each image; `text` is the height of the words above one, in inches."""
    if columns < 1:
        raise ValueError(f"expected at least one column. Received: {columns}")
    width = WIDTH / min(columns, max(len(images), least))
    figure, axes = panels(len(images), columns=columns, panel=(width, _height(images, width, text=text)))
    if title:
        across, down = figure.get_size_inches()
        figure.set_size_inches(across, down + 0.35)
    titled(figure, title)
    return figure, axes


@styled
def montage(images: Images, titles: Titles = None, *, boxes: Boxes = None, columns: int = 6, title: str = "") -> Figure:
    """A page of images with a short title each.

    Args:
        images: Grey images; sizes may differ.
        titles: One for each image, at most two lines; None for none.
        boxes: Where the fracture is, (x0, y0, x1, y1) in pixels, or None, for each image.
        columns: Images in a row.
        title: Of the page.

    Returns:
        The figure.
    """
    words = _checked(images, titles, what="a montage", none="")
    text = 0.06 if titles is None else 0.45 if any("\n" in line for line in words) else 0.28
    figure, axes = _page(images, columns=columns, text=text, title=title)
    for ax, image, line, box in zip(axes, images, words, boxes or [None] * len(images), strict=True):
        _show(ax, image, line)
        _draw_box(ax, box)
    return figure


def _draw_box(ax: Axes, box: Sequence[float] | None) -> None:
    """Draws where the fracture is, so that it can be seen on bone, on black and on heat."""
    if box is not None:
        x0, y0, x1, y1 = box
        for colour, dashes in (("black", "-"), ("#8FD3FF", "--")):
            look: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": 1.5, "linestyle": dashes}
            ax.add_patch(plt.Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, **look))


@styled
def duplicate_pairs(pairs: Sequence[tuple[ArrayLike, ArrayLike]], titles: Sequence[tuple[str, str]]) -> Figure:
    """Pairs of copies, two pairs in a row, a line between the two of a pair.

    Args:
        pairs: Two images each.
        titles: Two titles each, such as "train: img_1.png".

    Returns:
        The figure.
    """
    words = _checked(pairs, titles, what="pairs of copies", none=("", ""))
    flat, lines, width = list(chain(*pairs)), chain(*words), WIDTH / 4
    figure, axes = panels(len(flat), columns=4 if len(pairs) > 1 else 2, panel=(width, _height(flat, width, text=0.45)))
    for ax, image, line in zip(axes, flat, lines, strict=True):
        _show(ax, image, line)
    for ax in axes[1::2]:
        ax.text(-0.04, 0.5, "=", transform=ax.transAxes, ha="center", va="center", fontsize=14, color=GREY)
    return figure


@styled
def prediction_montage(
    images: Images,
    probabilities: Sequence[float],
    *,
    threshold: float,
    labels: Sequence[int | None] | None = None,
    columns: int = 6,
) -> Figure:
    """A page of images with P(fractured), framed by whether the model is right.

    Right answers have a green frame and a tick, wrong ones a dashed red frame and a cross, images without a label a
    grey frame.

    Args:
        images: Grey images; sizes may differ.
        probabilities: P(fractured) of each.
        threshold: At or above it an image is called fractured.
        labels: 0 normal, 1 fractured, None unknown; None for all unknown.
        columns: Images in a row.

    Returns:
        The figure.
    """
    _checked(images, None, what="a page of predictions", none="")
    truth = [None] * len(images) if labels is None else labels
    if not len(probabilities) == len(truth) == len(images):
        raise ValueError(
            f"expected a probability and a label for each of {len(images)} images. "
            f"Received: {len(probabilities)} and {len(truth)}"
        )
    figure, axes = _page(images, columns=columns, text=0.44, title="")
    for ax, image, p, label in zip(axes, images, probabilities, map(_known, truth), strict=True):
        called = int(p >= threshold)
        fact = "label unknown" if label is None else f"{'✓' if called == label else '✗'} is {_word(label)}"
        _show(ax, image, f"p = {p:.2f}: {_word(called)}\n{fact}")
        colour = GREY if label is None else RIGHT if called == label else WRONG
        for spine in ax.spines.values():
            spine.set(visible=True, color=colour, linewidth=3)
            spine.set_linestyle((0, (1.6, 1.2)) if colour == WRONG else "-")
        ax.title.set_color(colour)
    return figure


def _known(label: Any) -> int | None:
    """A label as 0 or 1; None, NA and nan are unknown."""
    return None if pd.isna(label) or label not in (0, 1) else int(label)


def _word(label: int) -> str:
    return "fractured" if label else "normal"


@styled
def heat_overlay(
    image: ArrayLike,
    heat: ArrayLike,
    *,
    alpha: float = 0.5,
    box: Sequence[float] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A heat map over a radiograph, at the radiograph's resolution; where there is no heat the bone stays visible.

    Args:
        image: Grey image (h, w) or (h, w, 1).
        heat: (h', w') in [0, 1], stretched over the image.
        alpha: Opacity where the heat is 1.
        box: (x0, y0, x1, y1) in pixels of the image, drawn dashed: where the fracture is.
        title: Above the image.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    pixels, warm = _flat(image), np.asarray(heat, dtype=float)
    if warm.ndim != 2 or not np.isfinite(warm).all() or warm.min() < 0 or warm.max() > 1:
        raise ValueError(f"expected heat of shape (h, w) in [0, 1]. Received: shape {warm.shape}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected alpha in [0, 1]. Received: {alpha}")
    height, width = pixels.shape
    ax = own_axes(ax, width=3.6, height=3.6 * float(np.clip(height / width, 0.4, 2)) + 0.4)
    _show(ax, pixels, title)
    colours = plt.get_cmap("autumn_r")(warm)  # yellow to red: seen on white bone and on black background
    colours[..., 3] = alpha * np.sqrt(warm)
    drawn = ax.imshow(colours, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="bilinear")
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if len(rows):  # padding is no part of the X-ray and gets no colour
        corner, sides = (columns[0] - 0.5, rows[0] - 0.5), (np.ptp(columns) + 1, np.ptp(rows) + 1)
        drawn.set_clip_path(plt.Rectangle(corner, *sides, transform=ax.transData))
    _draw_box(ax, box)
    return ax


@styled
def heat_page(
    images: Images, heats: dict[str, Sequence[ArrayLike]], *, titles: Titles = None, boxes: Boxes = None
) -> Figure:
    """A row for each image: the image itself, then one column for each kind of heat map.

    Args:
        images: Grey images.
        heats: Name of the method to its maps, one for each image, in [0, 1].
        titles: One for each image.
        boxes: Where the fracture is, or None, for each image.

    Returns:
        The figure.
    """
    words = _checked(images, titles, what="a page of heat maps", none="")
    across = 1 + len(heats)
    width = min(WIDTH / across, 2.3)
    figure, axes = panels(len(images) * across, columns=across, panel=(width, _height(images, width, text=0.32)))
    for row, (image, box) in enumerate(zip(images, boxes or [None] * len(images), strict=True)):
        first, *others = axes[row * across : (row + 1) * across]
        _show(first, image, words[row])
        for ax, (name, maps) in zip(others, heats.items(), strict=True):
            heat_overlay(image, maps[row], alpha=0.6, box=box, title=name if row == 0 else "", ax=ax)
    return figure


@styled
def overlay_page(
    images: Images, heats: Images, *, titles: Titles = None, boxes: Boxes = None, columns: int = 3, title: str = ""
) -> Figure:
    """A page of radiographs with heat over them, several in a row.

    Args:
        images: Grey images; sizes may differ.
        heats: A map for each, in [0, 1].
        titles: One for each image, at most two lines.
        boxes: Where the fracture is, or None, for each image.
        columns: Images in a row.
        title: Of the page.

    Returns:
        The figure.
    """
    words = _checked(images, titles, what="a page of overlays", none="")
    figure, axes = _page(images, columns=columns, text=0.06 if titles is None else 0.45, title=title, least=2)
    for ax, image, heat, line, box in zip(axes, images, heats, words, boxes or [None] * len(images), strict=True):
        heat_overlay(image, heat, alpha=0.6, box=box, title=line, ax=ax)
    return figure
