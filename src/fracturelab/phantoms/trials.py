"""Images to test heat maps on: phantoms whose fracture lies anywhere, each beside its twin without the fracture.

A magnified phantom is centred on the bone that could break, as radiographers do, and a map that always points at the
middle would be right. So a larger picture is rendered, and a window is cut from it that holds the whole fracture at a
random place. The twin is the same seed unbroken, cut in the same way: the two differ in the fracture and in nothing
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.phantoms.render import render

_MARGIN = 2  # pixels of the window around the fracture's box
_WINDOW = 0.6  # side of the window as a share of the picture: what it shows is magnified by its inverse
FIRST_SEED = 3_000_000_000  # written sets and pretraining draw from below


@dataclass(frozen=True)
class Trials:
    """Fractured phantoms with their twins and their ground truth; row i of everything is the same patient.

    Attributes:
        fractured: uint8 (n, size, size, 1).
        intact: uint8 (n, size, size, 1), the twins.
        boxes: int (n, 4), (x0, y0, x1, y1) of each fracture in pixels, x1 and y1 outside.
        masks: bool (n, size, size), the fracture.
        seeds: (n,) of the phantoms.
    """

    fractured: NDArray[np.uint8]
    intact: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    masks: NDArray[np.bool_]
    seeds: NDArray[np.int64]

    def both(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Images, labels and seeds of fractured ones and twins together, a pair after a pair."""
        images = np.stack([self.fractured, self.intact], axis=1).reshape(-1, *self.fractured.shape[1:])
        return images, np.tile([1, 0], len(self.seeds)), np.repeat(self.seeds, 2)


def fracture_trials(n: int, *, size: int, seed: int = 0) -> Trials:
    """Render fractured phantoms with their twins, the fracture anywhere in the picture.

    A phantom whose fracture is larger than the window is left out for the next.

    Args:
        n: How many.
        size: Side of the images in pixels.
        seed: Of the set; sets of different seeds share no phantom.

    Raises:
        FracturelabError: The fractures mostly do not fit the window.
    """
    from joblib import Parallel, delayed

    options = {"source": "clinic", "size": round(size / _WINDOW), "zoom": (1.2, 2.0), "difficulty": (0.0, 0.3)}
    pairs: list[tuple[Any, ...]] = []
    start = FIRST_SEED + seed * 1_000_000
    run = Parallel(n_jobs=2 if n > 20 else 1)
    for attempt in range(4):
        wanted = n - len(pairs)
        if wanted <= 0:
            break
        count = wanted if attempt == 0 else 2 * wanted + 4
        pairs += [pair for pair in run(delayed(_pair)(start + i, size, options) for i in range(count)) if pair]
        start += count
    if len(pairs) < n:
        raise FracturelabError(f"expected fractures that fit a window of {_WINDOW}. Received: {len(pairs)} of {n} do")
    columns = list(zip(*pairs[:n], strict=True)) or [()] * 5
    return Trials(
        fractured=np.array(columns[0], np.uint8).reshape(-1, size, size, 1),
        intact=np.array(columns[1], np.uint8).reshape(-1, size, size, 1),
        boxes=np.array(columns[2], np.int64).reshape(-1, 4),
        masks=np.array(columns[3], bool).reshape(-1, size, size),
        seeds=np.array(columns[4], np.int64),
    )


@dataclass(frozen=True)
class Switched:
    """Phantoms without and with one thing, everything else the same; row i of everything is the same patient.

    Attributes:
        without: uint8 (n, size, size, 1).
        with_it: uint8 (n, size, size, 1).
        changed: bool (n, size, size), pixels that differ by `CHANGED` grey levels or more: where the thing is.
    """

    without: NDArray[np.uint8]
    with_it: NDArray[np.uint8]
    changed: NDArray[np.bool_]


CHANGED = 20
"""Grey levels of 255; a thing that is added also shifts the exposure of the rest a little."""


def switched(n: int, thing: str, *, size: int, seed: int = 0) -> Switched:
    """Render phantoms twice: without one thing, and with it.

    The change of the answer when a cast appears, and nothing else changes, tells more than a picture of a heat map.

    Args:
        n: How many.
        thing: "fracture", or one of `phantoms.NUISANCES`. Without a fracture all are normal, but for "fracture".
        size: Side of the images in pixels.
        seed: Of the set; the same seed gives the same patients for every thing.
    """
    from joblib import Parallel, delayed

    start = FIRST_SEED + (500 + seed) * 1_000_000
    options = {"size": size, "source": "clinic"}
    pairs = Parallel(n_jobs=2 if n > 20 else 1)(delayed(_switch)(start + i, thing, options) for i in range(n))
    without, with_it = (np.array([pair[k] for pair in pairs], np.uint8).reshape(-1, size, size) for k in (0, 1))
    changed = np.abs(with_it.astype(np.int16) - without) >= CHANGED
    return Switched(without[..., np.newaxis], with_it[..., np.newaxis], changed)


def _switch(seed: int, thing: str, options: Mapping[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if thing == "fracture":
        broken = render(seed, fractured=True, **options)
        return render(seed, fractured=False, view=broken.view, **options).image, broken.image
    pair = [render(seed, fractured=False, nuisances={thing: on}, **options).image for on in (False, True)]
    return pair[0], pair[1]


def _pair(seed: int, size: int, options: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """One fractured phantom and its twin in the same window; None where the fracture does not fit the window."""
    alone = {"two_views": False}  # two views would show two fractures
    broken = render(seed, fractured=True, nuisances=alone, **options)
    if broken.box is None:
        return None
    x0, y0, x1, y1 = broken.box
    rng = np.random.default_rng(seed)
    corner = []
    for low, high, side in ((x0, x1, broken.image.shape[1]), (y0, y1, broken.image.shape[0])):
        first, last = max(0, high + _MARGIN - size), min(low - _MARGIN, side - size)
        if first > last:
            return None
        corner.append(int(rng.integers(first, last + 1)))
    left, top = corner
    cut = np.s_[top : top + size, left : left + size]
    intact = render(seed, fractured=False, nuisances=alone, view=broken.view, **options)
    return broken.image[cut], intact.image[cut], (x0 - left, y0 - top, x1 - left, y1 - top), broken.mask[cut], seed
