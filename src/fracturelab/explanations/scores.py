"""How well maps point at the fracture, with intervals.

* Pointing game (Zhang et al. 2018): does the maximum fall on the fracture, with a stated tolerance.
* Share of heat inside the fracture's box; for a map of noise it is about the box's share of the picture.
* Deletion and insertion (Petsiuk et al. 2018): the hottest parts are blurred first and the fall of the answer is
  measured; or they are brought back first and its rise is measured. They need no truth, and test only whether the
  answer depends on what the map shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fracturelab.evaluation import Interval, wilson
from fracturelab.evaluation.resampling import bounded_mean_interval
from fracturelab.explanations.occlusion import Predict, blurred

TOLERANCE = 0.05
"""How far beside the fracture's box the maximum may lie, as a share of the image's side: 11 pixels of 224."""


class MapScores(NamedTuple):
    """Scores of one method over a set of images, each the mean with its 95% interval.

    Attributes:
        n: Images.
        pointing: Share of maps whose maximum lies on the fracture, within the tolerance.
        inside: Mean share of heat inside the fracture's box.
        empty: Maps without any heat; they count as misses.
    """

    n: int
    pointing: Interval
    inside: Interval
    empty: int


def _checked(maps: NDArray, boxes: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    if maps.ndim != 3 or len(corners) != len(maps):
        raise ValueError(f"expected (n, h, w) maps and a box for each. Received: {maps.shape} and {len(corners)} boxes")
    if (corners[:, 2:] <= corners[:, :2]).any():
        raise ValueError("expected boxes (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    if not np.isfinite(maps).all() or (maps < 0).any():
        raise ValueError("expected finite maps that are nowhere negative")
    return corners


def pointing_hits(
    maps: NDArray, boxes: Sequence[Sequence[float]], *, tolerance: float = TOLERANCE
) -> NDArray[np.float64]:
    """Does the maximum of each map fall on the fracture.

    Args:
        maps: (n, h, w), nowhere negative.
        boxes: (x0, y0, x1, y1) of each fracture in pixels of the map, x1 and y1 outside.
        tolerance: How far outside the box the maximum may lie, in x and in y, as a share of the longer side.

    Returns:
        (n,) 1 for a hit and 0 for a miss. Where several pixels share the maximum (superpixels), the share of them that
        hit; a map without heat points nowhere and is a miss.
    """
    corners, slack = _checked(maps, boxes), tolerance * max(maps.shape[1:])
    hits = np.zeros(len(maps))
    for number, (heat, (x0, y0, x1, y1)) in enumerate(zip(maps, corners, strict=True)):
        if heat.max() > 0:
            y, x = np.nonzero(heat == heat.max())
            inside = (x >= x0 - slack) & (x <= x1 - 1 + slack) & (y >= y0 - slack) & (y <= y1 - 1 + slack)
            hits[number] = inside.mean()
    return hits


def heat_inside(maps: NDArray, boxes: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Share of each map's heat inside the fracture's box, (n,) in 0..1; 0 for a map without heat.

    Args:
        maps: (n, h, w), nowhere negative.
        boxes: (x0, y0, x1, y1) of each fracture in pixels of the map, x1 and y1 outside.
    """
    shares = np.zeros(len(maps))
    for number, (heat, (x0, y0, x1, y1)) in enumerate(zip(maps, _checked(maps, boxes).astype(int), strict=True)):
        total = float(heat.sum(dtype=np.float64))
        if total > 0:
            shares[number] = heat[max(y0, 0) : y1, max(x0, 0) : x1].sum(dtype=np.float64) / total
    return np.clip(shares, 0, 1)


def _curves(predict: Predict, images: NDArray, maps: NDArray, *, steps: int, delete: bool) -> NDArray[np.float64]:
    if maps.shape != images.shape[:3] or steps < 1:
        raise ValueError(f"expected a map of {images.shape[1:3]} for each image. Received: {maps.shape}")
    pixels = images.shape[1] * images.shape[2]
    curves = np.zeros((len(images), steps + 1))
    veils = blurred(images)
    cuts = np.linspace(0, pixels, steps + 1).round().astype(int)
    for number, image in enumerate(np.asarray(images, np.float32)):
        order = np.argsort(-maps[number].ravel(), kind="stable")
        start, end = (image, veils[number]) if delete else (veils[number], image)
        stages = np.repeat(start[np.newaxis], steps + 1, axis=0).reshape(steps + 1, pixels)
        for stage, cut in zip(stages, cuts, strict=True):
            stage[order[:cut]] = end.ravel()[order[:cut]]
        curves[number] = predict(stages.reshape(steps + 1, *image.shape))
    return curves


def deletion_curves(predict: Predict, images: NDArray, maps: NDArray, *, steps: int = 16) -> NDArray[np.float64]:
    """P(fractured) while the hottest pixels are blurred first.

    Args:
        predict: Images to P(fractured).
        images: (n, size, size, 1), grey levels 0..255.
        maps: (n, size, size).
        steps: Steps from nothing hidden to all hidden.

    Returns:
        (n, steps + 1); the mean of a row, its area, is low where the answer depends on what the map shows.
    """
    return _curves(predict, images, maps, steps=steps, delete=True)


def insertion_curves(predict: Predict, images: NDArray, maps: NDArray, *, steps: int = 16) -> NDArray[np.float64]:
    """P(fractured) while the hottest pixels of a blurred image come back first; see `deletion_curves`."""
    return _curves(predict, images, maps, steps=steps, delete=False)


def areas(curves: NDArray) -> NDArray[np.float64]:
    """Area under each curve over 0..1, by trapezoids: (n, steps + 1) to (n,)."""
    return (curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2


def mean_interval(values: NDArray, *, hits: bool | None = None, seed: int = 0) -> Interval:
    """The mean of numbers in 0..1 with its interval: Wilson's for hits, a bounded bootstrap for shares.

    Args:
        values: (n,) in 0..1.
        hits: Whether the values are hits and misses; True if None and all are 0 or 1.
        seed: Of the bootstrap.
    """
    numbers = np.asarray(values, np.float64)
    if len(numbers) == 0:
        return Interval(None, None, None)
    if np.isin(numbers, (0, 1)).all() if hits is None else hits:
        return wilson(float(numbers.sum()), len(numbers))
    return bounded_mean_interval(numbers, np.arange(len(numbers)), n_resamples=2000, seed=seed)


def score_maps(maps: NDArray, boxes: Sequence[Sequence[float]], *, seed: int = 0) -> MapScores:
    """Score one method's maps of images that show a fracture.

    Args:
        maps: (n, size, size), nowhere negative.
        boxes: (x0, y0, x1, y1) of each fracture in pixels of the map.
        seed: Of the bootstrap.
    """
    return MapScores(
        n=len(maps),
        pointing=mean_interval(pointing_hits(maps, boxes), seed=seed),
        inside=mean_interval(heat_inside(maps, boxes), seed=seed),
        empty=int((maps.reshape(len(maps), -1).max(axis=1, initial=0) == 0).sum()),
    )
