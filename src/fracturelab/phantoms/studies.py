"""Synthetic patients with a study of two views each, to show what scoring studies instead of images does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.phantoms.defaults import LONG_BONES
from fracturelab.phantoms.render import render
from fracturelab.phantoms.sources import GENERATOR_VERSION
from fracturelab.phantoms.writer import FIRST_SEED, write_images

PATIENTS = 210
SIZE = (240, 400)
_SEED = 500_000  # a set of its own: no other set of phantoms has its images
_EDITION = 2  # part of the name of the default set; raise it when what is drawn changes
_CLOSE_BY: dict[str, Any] = {"zoom": (2.0, 3.5), "difficulty": (0.0, 0.2)}


def write_studies(folder: str | Path, *, patients: int = PATIENTS, size: tuple[int, int] = SIZE) -> Path:
    """Render plates with two views of one synthetic patient beside each other, and cut them into two images.

    The label is the study's, as in MURA: a fracture may show well in one view and hardly in the other. The images show
    long bones from close by. Half of the patients are fractured.

    Args:
        folder: Where to; left alone where it holds such a set.
        patients: How many.
        size: Height and width of a plate in pixels; a view is half as wide.

    Returns:
        The folder, with images and `labels.csv`.

    Raises:
        FracturelabError: The folder holds something else, or cannot be written.
    """

    def rows() -> Iterator[tuple[NDArray[np.uint8], dict[str, Any]]]:
        for number in range(patients):
            seed, fractured = FIRST_SEED + _SEED * 1_000_000 + number, bool(number % 2)
            region = LONG_BONES[number // 2 % len(LONG_BONES)]
            plate = render(
                seed, size=size, fractured=fractured, region=region, nuisances={"two_views": True}, **_CLOSE_BY
            )
            patient = f"patient{number:04d}"
            for view, pixels in enumerate(np.split(plate.image, 2, axis=1)):
                row = {"path": f"images/{patient}-{view}.png", "label": plate.label, "group": patient}
                yield pixels, row | {"study": "study1", "source": "synthetic studies"}

    manifest = {"generator": GENERATOR_VERSION, "edition": _EDITION, "patients": patients, "size": size}
    return write_images(folder, manifest, rows())


def default_studies() -> Path:
    """The embedded default with studies: `PATIENTS` patients, rendered on first use and kept in the image cache."""
    from fracturelab.images import default_cache_dir

    return write_studies(default_cache_dir() / f"phantoms-studies-v{GENERATOR_VERSION}.{_EDITION}")
