"""From the folders people have to one table: path, label, group, split, source, kind, study."""

from __future__ import annotations

import os
from pathlib import Path

from fracturelab.datasets.choices import reading_lines
from fracturelab.datasets.fetching.archives import extract_archive
from fracturelab.datasets.fetching.kaggle import PUBLISHED, fetch
from fracturelab.datasets.layouts import LAYOUTS, read_dataset
from fracturelab.datasets.table import COLUMNS, combine, file_hashes, fingerprint, make_table
from fracturelab.datasets.walking import is_image_name, list_other_files
from fracturelab.errors import FracturelabError

__all__ = [
    "COLUMNS",
    "LAYOUTS",
    "PUBLISHED",
    "combine",
    "extract_archive",
    "fetch",
    "file_hashes",
    "find_fracatlas",
    "fingerprint",
    "is_image_name",
    "list_other_files",
    "make_table",
    "read_dataset",
    "reading_lines",
]


def find_fracatlas() -> Path | None:
    """A copy of FracAtlas on this machine, for what shows more with real X-rays and does without where there are none.

    Looked for in the environment's FRACTURELAB_FRACATLAS, then in `data/fracatlas` of the checkout, then in
    `shared/data/fracatlas` beside it.

    Returns:
        The folder, or None.

    Raises:
        FracturelabError: FRACTURELAB_FRACATLAS names something that is not a folder.
    """
    chosen = os.environ.get("FRACTURELAB_FRACATLAS")
    if chosen:
        folder = Path(chosen).expanduser()
        if not folder.is_dir():
            raise FracturelabError(f"expected FRACTURELAB_FRACATLAS to name a folder. Received: {chosen}")
        return folder
    checkout = Path(__file__).resolve().parents[3]
    places = (checkout / "data" / "fracatlas", checkout.parent / "shared" / "data" / "fracatlas")
    return next((place for place in places if place.is_dir()), None)
