"""Groups and the project's fixed parts of FracAtlas, with one reading of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fracturelab.audit.groups import fill_groups, find_copies
from fracturelab.audit.hashing import ORIENTATIONS, frequencies, hashes, oriented
from fracturelab.audit.reading import Readings, read_files
from fracturelab.splits import with_fracatlas_parts

if TYPE_CHECKING:
    import pandas as pd


def with_groups_and_parts(table: pd.DataFrame, *, progress: bool = False, workers: int | None = None) -> pd.DataFrame:
    """Fill a table's `group` as `with_groups` does, and mark FracAtlas' fixed parts as `with_fracatlas_parts` does.

    Args:
        table: The data set's table.
        progress: Show a progress bar.
        workers: Processes that read files; see `read_files`.

    Returns:
        A copy of the table with `group`, `split` and `fixed` filled.
    """
    readings = read_files(list(table["path"]), progress=progress, workers=workers)
    return with_fracatlas_parts(
        fill_groups(table, readings, find_copies(readings, table["label"])), hashes=picture_hashes(readings)
    )


def picture_hashes(readings: Readings) -> np.ndarray:
    """The perceptual hash of each picture in all eight orientations: uint64 (n, 8), 0 where unreadable."""
    coefficients = frequencies(readings.thumbnails)
    turned = [hashes(oriented(coefficients, orientation)) for orientation in range(len(ORIENTATIONS))]
    return np.where(readings.readable[:, None], np.stack(turned, axis=1), np.uint64(0))
