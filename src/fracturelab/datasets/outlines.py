"""The outlines of fractures in FracAtlas' four formats of annotations."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from fracturelab.errors import FracturelabError


class Outline(NamedTuple):
    """The outlines of the fractures of one X-ray.

    Attributes:
        polygons: float (k, 2) each: x and y of the corners in pixels of a picture of this size.
        width: Of the picture, in pixels; 1 where the corners are shares of its sides, 0 where the size is not given.
        height: Likewise.
    """

    polygons: list[np.ndarray]
    width: int
    height: int

    @property
    def boxes(self) -> np.ndarray:
        """Left, top, right and bottom of each polygon: float (n, 4)."""
        corners = [[*polygon.min(axis=0), *polygon.max(axis=0)] for polygon in self.polygons]
        return np.array(corners, float).reshape(-1, 4)


@cache
def read_outlines(folder: Path, kind: str | None = None) -> dict[str, Outline]:
    """Read the outlines in a folder of annotations, by image name.

    Args:
        folder: `Annotations` of FracAtlas.
        kind: "coco" and "vgg" are polygons, "voc" and "yolo" boxes. None takes the first of them that is there.

    Returns:
        The outlines. COCO and VGG list fractured X-rays alone, VOC and YOLO normal ones too.

    Raises:
        FracturelabError: There are no annotations of that kind, or they cannot be read.
    """
    for name, (place, reader) in _FORMATS.items():
        if kind in (None, name) and (paths := sorted(folder.glob(place))):
            try:
                return {image: outline for path in paths for image, outline in reader(path).items()}
            except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise FracturelabError(f"the annotations {folder / place} cannot be read: {error!r}") from error
    raise FracturelabError(f"expected annotations of FracAtlas ({', '.join(_FORMATS)}) in {folder}. Received: none")


def _coco(path: Path) -> dict[str, Outline]:
    document = json.loads(path.read_text(encoding="utf-8"))
    outlines = {row["id"]: Outline([], row["width"], row["height"]) for row in document["images"]}
    for row in document["annotations"]:
        flat = row["segmentation"]
        polygons = flat if isinstance(flat[0], list) else [flat]
        outlines[row["image_id"]].polygons.extend(np.reshape(polygon, (-1, 2)) for polygon in polygons)
    return {row["file_name"]: outlines[row["id"]] for row in document["images"]}


def _vgg(path: Path) -> dict[str, Outline]:
    outlines = {}
    for entry in json.loads(path.read_text(encoding="utf-8")).values():
        regions = entry["regions"]
        shapes = [region["shape_attributes"] for region in (regions.values() if isinstance(regions, dict) else regions)]
        polygons = [np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1) for shape in shapes]
        outlines[entry["filename"]] = Outline(polygons, 0, 0)
    return outlines


def _voc(path: Path) -> dict[str, Outline]:
    tree = ElementTree.parse(path).getroot()
    width, height = (int(float(tree.findtext(f"size/{name}", "0"))) for name in ("width", "height"))
    sides = ("xmin", "ymin", "xmax", "ymax")
    boxes = [[float(item.findtext(f"bndbox/{side}", "")) for side in sides] for item in tree.findall("object")]
    return {f"{path.stem}.jpg": Outline([_corners(*box) for box in boxes], width, height)}


def _yolo(path: Path) -> dict[str, Outline]:
    lines = [[float(cell) for cell in line.split()[1:5]] for line in path.read_text(encoding="utf-8").splitlines()]
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in filter(None, lines)]
    return {f"{path.stem}.jpg": Outline([_corners(*box) for box in boxes], 1, 1)}


def _corners(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


_FORMATS: dict[str, tuple[str, Callable[[Path], dict[str, Outline]]]] = {
    "coco": ("COCO JSON/*.json", _coco),
    "vgg": ("VGG JSON/*.json", _vgg),
    "voc": ("PASCAL VOC/*.xml", _voc),
    "yolo": ("YOLO/IMG*.txt", _yolo),
}
