"""Synthetic X-rays of displaced breaks, close up: what a small network can learn within minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fracturelab.training.prepare import Prepared

KINDS = ("comminuted", "oblique", "spiral", "fracture dislocation")
ZOOM, DIFFICULTY = (3.0, 4.5), (0.0, 0.1)
SOURCE = "phantoms-breaks"
N = 1000
_SEED = 9  # other images than in any other set
_LONG_SIDE = 160  # pixels


def default_breaks(n: int = N) -> Path:
    """The set, rendered on first use and kept in the image cache.

    The embedded default that most notebooks share has every kind of fracture at every distance, and hundreds of images
    of it teach a small network nothing. Here the same generator draws the kinds that move the bone, from close by.

    Args:
        n: Number of images; half of them are fractured.

    Returns:
        Folder with `images/` and `labels.csv`.
    """
    from fracturelab.images import default_cache_dir
    from fracturelab.phantoms import write_set
    from fracturelab.phantoms.sources import GENERATOR_VERSION

    return write_set(
        default_cache_dir() / f"{SOURCE}-v{GENERATOR_VERSION}-{n}",
        n=n,
        seed=_SEED,
        size=_LONG_SIDE,
        kinds=KINDS,
        zoom=ZOOM,
        difficulty=DIFFICULTY,
    )


def breaks_data(folder: str | Path | None = None, *, size: int, seed: int = 0, n: int = N) -> Prepared:
    """Read what students and their teacher learn from and are tested on.

    Args:
        folder: A folder of X-rays, whose published or fixed test part is kept; None for `default_breaks`.
        size: Side of the square images in pixels.
        seed: Decides the split.
        n: Number of synthetic images.

    Returns:
        The images in parts train, val and test, split by group.

    Raises:
        FracturelabError: As `datasets.read_dataset` and `prepare`.
    """
    from fracturelab.datasets import read_dataset
    from fracturelab.training.prepare import prepare

    table = read_dataset(folder) if folder is not None else read_dataset(default_breaks(n), source=SOURCE)
    return prepare(table, size=size, seed=seed, val=0.15, test=0.25, progress=False)
