"""Tables that say what images are: `labels.csv`."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fracturelab.datasets.names import label_of, meaning_of, normalise, split_of
from fracturelab.datasets.walking import Found
from fracturelab.errors import FracturelabError

MAX_TABLE_BYTES = 200_000_000

_ALIASES = {
    "path": ("path", "file", "filename", "file name", "filepath", "file path", "image", "image path", "image id"),
    "label": ("label", "labels", "class", "target", "fractured", "fracture", "diagnosis", "y"),
    "group": ("group", "patient", "patient id", "patientid", "subject", "subject id"),
    "split": ("split", "set", "subset", "partition"),
    "kind": ("kind", "type", "fracture type"),
    "source": ("source", "dataset", "data set", "origin"),
    "study": ("study", "study id"),
}


def labels_csv(root: Path) -> Path | None:
    """The folder's `labels.csv`, in any spelling of capitals, or None."""
    return next((path for path in sorted(root.iterdir()) if path.name.lower() == "labels.csv"), None)


def labels_rows(root: Path, found: Found, *, allow_unlabelled: bool) -> list[dict[str, Any]]:
    """Rows from a `labels.csv`.

    Columns may be called by their usual other names (file, class, patient ...), the separator may be a comma, a
    semicolon or a tab. Paths are relative to the folder and stay inside it. Labels are 0 or 1, or any name that a class
    folder may have; a fracture type is a label too.

    Raises:
        FracturelabError: A column, file or label is missing or unknown, a path leaves the folder, or a file is named
            twice. The message names the line.
    """
    table = labels_csv(root)
    if table is None:
        raise FracturelabError(f"expected a labels.csv with the columns path and label in {root}. Received: none")
    header, lines = read_csv(table)
    columns = {name: _column(header, aliases) for name, aliases in _ALIASES.items()}
    if columns["path"] is None or (columns["label"] is None and not allow_unlabelled):
        raise FracturelabError(f"expected the columns path and label in {table}. Received: {', '.join(header)}")
    rows, missing, seen = [], [], dict[str, int]()
    for number, line in lines:
        cells = {name: line[at].strip() if at is not None and at < len(line) else "" for name, at in columns.items()}
        where = f"{table}, line {number}"
        path = _inside(root, cells["path"], where)
        if path in seen:
            raise FracturelabError(f"{where}: names the same file as line {seen[path]}; keep one of them")
        seen[path] = number
        if not os.path.lexists(path):
            missing.append(cells["path"])
            continue
        rows.append({"path": path, **_values(cells, where, allow_unlabelled=allow_unlabelled)})
    if missing:
        raise FracturelabError(
            f"{table} names {len(missing)} files that are not there: {_some(missing)}; "
            "restore them or take their lines out"
        )
    if not rows:
        raise FracturelabError(f"expected lines below the header of {table}. Received: none")
    unnamed = [path for path in _files(root, found) if path not in seen]
    if unnamed:
        names = [os.path.relpath(path, root) for path in unnamed]
        warnings.warn(f"{table} does not name {len(names)} images, which are left out: {_some(names)}", stacklevel=3)
    return rows


def _files(root: Path, found: Found) -> Iterator[str]:
    for parts, names in found.images.items():
        for name in names:
            yield os.path.join(root, *parts, name)


def _values(cells: dict[str, str], where: str, *, allow_unlabelled: bool) -> dict[str, Any]:
    meaning = label_of(cells["label"]) if cells["label"] else None
    if meaning is None and (cells["label"] or not allow_unlabelled):
        raise FracturelabError(
            f"{where}: expected a label of 0, 1, normal or fractured. Received: {cells['label']!r}; "
            "write there which one it is, or take the line out"
        )
    split = split_of(cells["split"]) if cells["split"] else None
    if cells["split"] and split is None:
        raise FracturelabError(f"{where}: expected a split of train, val or test. Received: {cells['split']!r}")
    kind = cells["kind"] or None
    if kind is not None:
        known = meaning_of(kind) or meaning_of(f"{kind} fracture")
        kind = known.kind if known and known.kind else (normalise(kind) if known is None else None)
    return {
        "label": meaning.label if meaning else None,
        "kind": kind or (meaning.kind if meaning else None),
        "split": split,
        **{name: cells[name] or None for name in ("group", "source", "study")},
    }


def _inside(root: Path, text: str, where: str) -> str:
    if not text or "\0" in text:
        raise FracturelabError(f"{where}: expected a path. Received: {text!r}")
    path = os.path.normpath(os.path.join(root, text))
    if os.sep == "/" and "\\" in text and not os.path.lexists(path):  # written on Windows
        path = os.path.normpath(os.path.join(root, text.replace("\\", "/")))
    if not path.startswith(os.path.join(root, "")):
        raise FracturelabError(f"{where}: expected a path inside {root}. Received: {text!r}")
    return path


def read_csv(path: Path, *, rows: bool = True) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a CSV file whose separator is a comma, a semicolon or a tab.

    Returns:
        The header, and each non-empty line with its number in the file.

    Raises:
        FracturelabError: The file is not a table, or cannot be read.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES or not path.is_file():
            raise FracturelabError(f"expected a table of at most {MAX_TABLE_BYTES // 1_000_000} MB: {path}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count))
            header = next(reader, [])
            lines = [(reader.line_num, line) for line in reader if any(line)] if rows else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FracturelabError(f"the table {path} cannot be read: {error}") from error
    if not header or any("\0" in cell for cell in header):
        raise FracturelabError(f"expected a header line in {path}. Received: none")
    return header, lines


def _column(header: list[str], aliases: tuple[str, ...]) -> int | None:
    names = [normalise(cell) for cell in header]
    return next((names.index(alias) for alias in aliases if alias in names), None)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
