"""Where the fractures are: boxes and outlines over radiographs."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from fracturelab.plots.images import montage


def fracture_page(
    images: Sequence[ArrayLike],
    boxes: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    titles: Sequence[str] | None = None,
    *,
    columns: int = 4,
) -> Figure:
    """A page of radiographs with the box and the outline of each fracture.

    Args:
        images: Grey images.
        boxes: For each image (k, 4): left, top, right and bottom of each fracture, in pixels of the image.
        masks: For each image (h, w), 1 inside a fracture's outline.
        titles: One for each image.
        columns: Images in a row.

    Returns:
        The figure.
    """
    figure = montage(images, titles, columns=columns)
    for ax, mask, of_image in zip(figure.axes, masks, boxes, strict=False):
        ax.contour(np.asarray(mask), levels=[0.5], colors="#8FD3FF", linewidths=0.8)
        for box in np.asarray(of_image, float).reshape(-1, 4):
            corner = box[0] - 0.5, box[1] - 0.5  # a pixel's centre is drawn at its number: its edge lies half before
            ax.add_patch(plt.Rectangle(corner, *(box[2:] - box[:2]), fill=False, edgecolor="orange"))
    return figure
