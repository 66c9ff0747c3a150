"""Synthetic patients with a study of two views each, to show what scoring studies instead of images does."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from fracturelab.errors import FracturelabError

PATIENTS = 210
SIZE = (240, 400)
_SEED = 500_000  # a set of its own: no other set of phantoms has its images


def write_studies(folder: str | Path, *, patients: int = PATIENTS, size: tuple[int, int] = SIZE) -> Path:
    """Render plates with two views of one synthetic patient beside each other, and cut them into two images.

    The label is the study's, as in MURA: a fracture may show well in one view and hardly in the other. Shoulders and
    pelves come with one view. Half of the patients are fractured.

    Args:
        folder: Where to; left alone where it holds such a set.
        patients: How many.
        size: Height and width of a plate in pixels; a view is half as wide.

    Returns:
        The folder, with images and `labels.csv`.

    Raises:
        FracturelabError: The folder holds something else, or cannot be written.
    """
    from PIL import Image

    from fracturelab.phantoms import render
    from fracturelab.phantoms.writer import FIRST_SEED

    folder = Path(folder)
    done = f"{patients} synthetic patients, two views of {size[0]} x {size[1] // 2} pixels each; Apache-2.0\n"
    if folder.is_dir() and any(folder.iterdir()):
        if (folder / "README.txt").is_file() and (folder / "README.txt").read_text(encoding="utf-8") == done:
            return folder
        raise FracturelabError(f"expected an empty or new folder. Received: {folder}, which holds something else")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = Path(temporary, "set")
            (made / "images").mkdir(parents=True)
            with open(made / "labels.csv", "w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(("path", "label", "group", "study", "source"))
                for number in range(patients):
                    plate = render(
                        FIRST_SEED + _SEED * 1_000_000 + number,
                        size=size,
                        fractured=bool(number % 2),
                        nuisances={"two_views": True},
                    )
                    views = np.split(plate.image, 2, axis=1) if plate.nuisances["two_views"] else [plate.image]
                    for view, pixels in enumerate(views):
                        path = f"images/patient{number:04d}-{view}.png"
                        Image.fromarray(np.ascontiguousarray(pixels)).save(made / path, compress_level=4)
                        table.writerow((path, plate.label, f"patient{number:04d}", "study1", "synthetic studies"))
            (made / "README.txt").write_text(done, encoding="utf-8")
            if folder.is_dir():
                folder.rmdir()
            try:
                os.replace(made, folder)
            except OSError:
                if not (folder / "README.txt").is_file():  # another run may have put the same set there meanwhile
                    raise
                shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise FracturelabError(f"{folder}: phantoms cannot be written ({error.strerror or error})") from error
    return folder


def default_studies() -> Path:
    """The embedded default with studies: `PATIENTS` patients, rendered on first use and kept in the image cache."""
    from fracturelab.images import default_cache_dir
    from fracturelab.phantoms.sources import GENERATOR_VERSION

    return write_studies(default_cache_dir() / f"phantoms-studies-v{GENERATOR_VERSION}")
