"""Boxes around the fractures of a written set of phantoms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image

from fracturelab.images.letterbox import picture_area

Box = tuple[float, float, float, float]


def fracture_boxes(paths: Sequence[str | Path], *, size: int) -> list[Box | None]:
    """Boxes around the fractures of X-rays from a written set, in the square that networks see.

    Args:
        paths: Image files of sets that `write_set` wrote.
        size: Side of the square in pixels.

    Returns:
        For each file (x0, y0, x1, y1) in pixels of the square, or None where it has no fracture or no known box.
    """
    boxes: list[Box | None] = []
    for path in map(Path, paths):
        root = next((folder for folder in path.parents if (folder / "labels.csv").is_file()), None)
        box = _boxes(root).get(path.relative_to(root).as_posix()) if root is not None else None
        if box is not None:
            with Image.open(path) as image:
                width, height = image.size
            rows, columns = picture_area((height, width), size)
            scale = size / max(height, width)
            left, top = columns.start, rows.start
            box = (box[0] * scale + left, box[1] * scale + top, box[2] * scale + left, box[3] * scale + top)
        boxes.append(box)
    return boxes


@lru_cache(maxsize=16)
def _boxes(root: Path) -> dict[str, Box]:
    import pandas as pd

    table = pd.read_csv(root / "labels.csv")
    if not {"x0", "y0", "x1", "y1"} <= set(table.columns):
        return {}
    table = table.dropna(subset=["x0", "y0", "x1", "y1"])
    corners = zip(table["x0"], table["y0"], table["x1"], table["y1"], strict=True)
    return dict(zip(table["path"], corners, strict=True))
