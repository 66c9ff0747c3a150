"""FracAtlas: its table, and where its annotations lie.

Abedeen et al., *FracAtlas: A Dataset for Fracture Classification, Localization and Segmentation of Musculoskeletal
Radiographs*, Scientific Data 10:521 (2023), CC BY 4.0. The paper counts 4,083 radiographs, the record of the seventh
release 4,073; what lies in a folder is what is read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fracturelab.datasets.choices import some
from fracturelab.datasets.csv_tables import read_cells, with_header
from fracturelab.datasets.names import label_of, meaning_of, normalise
from fracturelab.datasets.walking import Files
from fracturelab.errors import FracturelabError

REGIONS = ("hand", "leg", "hip", "shoulder")
VIEWS = ("frontal", "lateral", "oblique")
_NOT_IMAGES = frozenset({"annotations", "utilities"})


def fracatlas_csv(files: Files) -> Path | None:
    """Find FracAtlas' `dataset.csv` in the folder or up to two folders below it; None where there is none."""
    for name in files.others:
        path = files.root / name
        near = path.name.lower() == "dataset.csv" and len(Path(name).parts) <= 3 and path.is_file()
        if near and {"image id", "fractured"} <= {normalise(cell) for cell in read_cells(path).iloc[0]}:
            return path
    return None


def is_part_of_fracatlas(name: str) -> bool:
    """Return whether a file, named relative to its data set, is one of FracAtlas' annotations or tools."""
    return any(part.lower() in _NOT_IMAGES for part in Path(name).parts[:-1])


def fracatlas_rows(files: Files) -> list[dict[str, Any]]:
    """Return the rows of FracAtlas as published: `dataset.csv` labels the files below `images/` by name.

    Where a name lies in both class folders, as two do in one release, the table decides which file counts. Files that
    the table names and that are not there are left out with a warning.

    Raises:
        FracturelabError: The table and the files do not belong together.
    """
    table = fracatlas_csv(files)
    if table is None:
        raise FracturelabError(
            f"expected FracAtlas's dataset.csv with the columns image_id and fractured in {files.root}. Received: none"
        )
    below = table.parent.relative_to(files.root).parts
    images: dict[str, list[str]] = {}
    for path, parts in files.paths():
        if parts[: len(below)] == below:
            images.setdefault(os.path.basename(path), []).append(path)
    rows, missing = [], []
    for name, cells in _named_lines(table).items():
        meaning = label_of(cells["fractured"])
        if meaning is None:
            raise FracturelabError(
                f"{table}, {name}: expected fractured to be 0 or 1. Received: {cells['fractured']!r}"
            )
        paths = images.pop(name, [])
        folders = [meaning_of(os.path.basename(os.path.dirname(path))) for path in paths]
        agreeing = [
            path for path, folder in zip(paths, folders, strict=True) if folder is None or folder.label == meaning.label
        ]
        if not paths:
            missing.append(name)
        elif len(agreeing) == 1:
            rows.append({"path": agreeing[0], "meaning": meaning, **_facts(cells)})
        else:
            raise FracturelabError(f"{table} says fractured={cells['fractured']} of {name}, but the files are {paths}")
        if len(paths) > 1:
            warnings.warn(f"{name} lies in several folders: {agreeing[0]} agrees with {table.name}", stacklevel=3)
    if missing:
        warnings.warn(
            f"{table} names {len(missing)} files that are not there, and they are left out: {some(missing)}; "
            "unpack the set again if you did not remove them",
            stacklevel=3,
        )
    if images:
        raise FracturelabError(f"{table} does not name {len(images)} images beside it: {some(images)}; move them out")
    return rows


def add_facts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add region, hardware and view to rows of copies of FracAtlas that have its annotations beside them."""
    folder = annotations_folder(row["path"] for row in rows)
    if folder is None or not (folder.parent / "dataset.csv").is_file():
        return rows
    lines = _named_lines(folder.parent / "dataset.csv")
    return [{**row, **_facts(lines.get(os.path.basename(row["path"]), {}))} for row in rows]


def _named_lines(table: Path) -> dict[str, dict[str, str]]:
    """The lines of a `dataset.csv` by image name: each a mapping from column to cell."""
    lines = with_header(read_cells(table)).rename(columns=normalise).to_dict("records")
    return {line.get("image id", ""): {"fractured": "", **line} for line in lines}


def _facts(cells: dict[str, str]) -> dict[str, Any]:
    """Region, hardware and view; several regions or views stand with a plus sign between them."""
    region, view = ("+".join(name for name in names if cells.get(name) == "1") or None for names in (REGIONS, VIEWS))
    return {"region": region, "view": view, "hardware": {"1": True, "0": False}.get(cells.get("hardware", ""))}


def annotations_folder(paths: Iterable[str]) -> Path | None:
    """Find FracAtlas' folder `Annotations`, above the images or in `<folder>-annotations` beside a copy."""
    for folder in {os.path.dirname(path) for path in paths}:
        for parent in [Path(folder), *Path(folder).parents][:4]:
            for place in (parent / "Annotations", Path(f"{parent}-annotations", "Annotations")):
                if os.path.isdir(place):  # False too where looking is not allowed
                    return place
    return None
