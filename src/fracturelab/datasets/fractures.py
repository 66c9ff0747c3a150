"""Outlines of fractures in FracAtlas' annotations, drawn at the size of the images that a network gets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from fracturelab.datasets.fracatlas import annotations_folder
from fracturelab.datasets.outlines import Outline, read_outlines
from fracturelab.errors import FracturelabError
from fracturelab.images import image_facts, letterbox
from fracturelab.images.letterbox import picture_area

if TYPE_CHECKING:
    import pandas as pd

HALF = 128  # of 255: a pixel of the mask is at least half inside the outline


@dataclass(frozen=True)
class Fractures:
    """The places of fractures, in pixels of letterboxed squares; entry i belongs to the table's row i.

    Attributes:
        masks: uint8 (n, size, size), 1 inside a fracture's outline, 0 elsewhere.
        boxes: For each image float (k, 4): left, top, right and bottom of each fracture.
        known: bool (n,), whether it is known where the image has fractures, or that it has none.
    """

    masks: np.ndarray
    boxes: list[np.ndarray]
    known: np.ndarray


def fracture_masks(table: pd.DataFrame, size: int) -> Fractures:
    """Draw the published outlines of FracAtlas' fractures through the letterbox that the pixels take.

    Args:
        table: Rows of FracAtlas, as published or of reduced copies with the annotations beside them.
        size: Side of the squares, in pixels.

    Returns:
        Masks and boxes. Of a normal X-ray both are empty and known; a fractured one without an outline is not known.

    Raises:
        FracturelabError: There are no annotations, or an outline belongs to a picture of another shape than the file.
    """
    folder = annotations_folder(table["path"])
    if folder is None:
        raise FracturelabError(
            "expected FracAtlas' folder Annotations above the images, or in <folder>-annotations beside them. "
            f"Received: none near {table['path'].iloc[0] if len(table) else 'an empty table'}"
        )
    outlines = read_outlines(folder)
    masks = np.zeros((len(table), size, size), np.uint8)
    boxes = [np.zeros((0, 4)) for _ in range(len(table))]
    known = (table["label"] == 0).fillna(False).to_numpy(bool).copy()
    for row, path in enumerate(table["path"]):
        outline = outlines.get(os.path.basename(path))
        if outline is not None and outline.polygons and not known[row]:
            masks[row], boxes[row] = _drawn(outline, path, size)
            known[row] = True
    return Fractures(masks, boxes, known)


def fracture_sizes(table: pd.DataFrame) -> np.ndarray | None:
    """Measure the longer side of each image's largest fracture, as a share of the picture's longer side.

    Returns:
        float (n,), NaN for normal images and where the fracture's place is not known; None without annotations.
    """
    if annotations_folder(table["path"]) is None:
        return None
    size = 320
    boxes = fracture_masks(table, size).boxes
    return np.array([(of_image[:, 2:] - of_image[:, :2]).max(initial=0) / size or np.nan for of_image in boxes])


def _drawn(outline: Outline, path: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The mask (size, size) and the boxes (k, 4) of one image."""
    facts = image_facts(path)
    width, height = outline.width or facts.width, outline.height or facts.height
    scale = np.array([facts.width / width, facts.height / height])
    if width > 1 and abs(scale[0] / scale[1] - 1) > 0.02:
        raise FracturelabError(
            f"{path}: expected a picture of the shape {width} x {height}, for which its outlines were drawn. "
            f"Received: {facts.width} x {facts.height}"
        )
    canvas = Image.new("L", (facts.width, facts.height))
    draw = ImageDraw.Draw(canvas)
    for polygon in outline.polygons:
        draw.polygon([tuple(corner) for corner in polygon * scale], fill=255)
    cover = letterbox(np.asarray(canvas), size)[..., 0]
    rows, columns = picture_area((facts.height, facts.width), size)
    sides = [(columns.stop - columns.start) / facts.width, (rows.stop - rows.start) / facts.height]
    boxes = outline.boxes * np.tile(scale * sides, 2) + np.tile([columns.start, rows.start], 2)
    return (cover >= min(HALF, max(cover.max(), 1))).astype(np.uint8), boxes
