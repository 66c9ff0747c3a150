"""Tables that describe images (`labels.csv`, `_classes.csv` and others): their cells, columns and each line's image."""

from __future__ import annotations

import io
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.datasets.choices import IGNORE, SKIP, Choices, ask, some
from fracturelab.datasets.csv_labels import flag_of, line_meanings, merged
from fracturelab.datasets.names import NORMAL, Meaning, column_of, label_of, meaning_of, normalise, split_of
from fracturelab.datasets.walking import Files, ImageIndex, Parts, is_image_name
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

_MOST_TABLES, _FIRST_LINES, _LAST = 50, 50, 1_000
_Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table that names images.

    Attributes:
        path: The file.
        below: The folders it is in, below the root.
        cells: All cells as text; the index is the number of the line.
        columns: What columns are used as: "path", "group" ... to the column's name.
        labels: The columns that may hold the label, the surest first.
    """

    path: Path
    below: Parts
    cells: pd.DataFrame
    columns: dict[str, str]
    labels: list[str]


def find_tables(files: Files, index: ImageIndex) -> list[Table]:
    """Return the folder's `labels.csv`, or else all tables that name images and have a label column."""
    names = [name for name in files.others if os.path.splitext(name)[1].lower() in (".csv", ".tsv")]
    ours = [name for name in names if name.lower() == "labels.csv"]
    if ours:
        return [open_table(files, ours[0], index)]
    tables = []
    for name in sorted(names, key=lambda name: (name.count(os.sep), name))[:_MOST_TABLES]:
        with suppress(FracturelabError):
            table = open_table(files, name, index)
            if table.labels and any(
                index.find(text, table.below) for text in table.cells[table.columns["path"]][:_FIRST_LINES]
            ):
                tables.append(table)
    return tables


def open_table(files: Files, name: str, index: ImageIndex) -> Table:
    """Read a table and find the role of each column, from the cells where there is no header.

    Args:
        files: The folder's files.
        name: The table, relative to the folder.
        index: The folder's images.

    Raises:
        FracturelabError: It cannot be read, or no column names images.
    """
    path, below = files.root / name, Path(name).parent.parts
    cells = read_cells(path)
    first = list(cells.iloc[0])
    header = any(column_of(text, "path") is not None for text in first) or not any(
        is_image_name(text) or index.find(text, below) for text in first
    )
    cells = with_header(cells, header)
    known = _places(cells, "path")
    hits = {text: sum(bool(index.find(cell, below)) for cell in cells[text][:_FIRST_LINES]) for text in cells}
    likely = [text for text in known if hits[text]] or [text for text in hits if hits[text]] or list(known)
    if not likely:
        raise FracturelabError(f"expected the columns path and label in {path}. Received: {', '.join(cells)}")
    columns = {"path": min(likely, key=lambda text: (known.get(text, _LAST), -hits[text]))}
    rest = cells.drop(columns=columns["path"])
    if header:
        places = {**{text: _LAST for text in rest if flag_of(text)}, **_places(rest, "label")}
        labels = sorted(places, key=lambda text: places[text])
    else:
        labels = [text for text in rest if all(label_of(cell) for cell in rest[text])]
    rest = rest.drop(columns=labels)
    for role in ("group", "split", "kind", "source", "study", "box"):
        places = _places(rest, role)
        if role == "split":
            places = {text: place for text, place in places.items() if not place or any(map(split_of, rest[text]))}
        if places:
            columns[role] = min(places, key=lambda text: places[text])
            rest = rest.drop(columns=columns[role])
    return Table(path, below, cells, columns, labels)


def _places(cells: pd.DataFrame, role: str) -> dict[str, int]:
    """The columns whose names are known for a role, with their places in the list of such names."""
    return {name: place for name in cells if (place := column_of(name, role)) is not None}


def table_rows(
    files: Files, index: ImageIndex, tables: list[Table], choices: Choices, *, unlabelled: bool
) -> list[_Row]:
    """Return the rows of the images that tables name.

    Args:
        files: The folder's files.
        index: The folder's images.
        tables: As `find_tables` gives them.
        choices: What names mean, by the user; what was read is noted there.
        unlabelled: Empty labels are kept, without a label, instead of being an error.

    Raises:
        FracturelabError: A column, file or label is missing or unknown, or lines or columns contradict each other. The
            message names the line.
    """
    rows: dict[str, _Row] = {}
    for table in tables:
        if not (table.labels or unlabelled):
            raise FracturelabError(
                f"expected the columns path and label in {table.path}. Received: {', '.join(table.cells)}"
            )
        if table.cells.empty:
            raise FracturelabError(f"expected lines below the header of {table.path}. Received: none")
        _note(table, files, choices)
        for row in _rows_of(table, files, index, choices, unlabelled=unlabelled):
            before = rows.setdefault(row["path"], row)
            before["meaning"] = merged(before, row, boxes="box" in table.columns)
    if any("box" in table.columns for table in tables):  # an image whose boxes all mark something else
        for row in rows.values():
            row["meaning"] = Meaning(NORMAL) if row["meaning"] == IGNORE else row["meaning"]
    unnamed = [os.path.relpath(path, files.root) for path in index.parts if path not in rows]
    if unnamed:
        choices.reading.left_out[f"not named in {tables[0].path.name}"] += len(unnamed)
        warnings.warn(
            f"{tables[0].path} does not name {len(unnamed)} images, which are left out: {some(unnamed)}", stacklevel=4
        )
    choices.reading.left_out["skipped by their label"] += sum(row["meaning"] == SKIP for row in rows.values())
    return [row for row in rows.values() if row["meaning"] != SKIP]


def _note(table: Table, files: Files, choices: Choices) -> None:
    reading = choices.reading
    reading.tables.append(os.path.relpath(table.path, files.root))
    reading.columns |= {name: role for role, name in table.columns.items()} | dict.fromkeys(table.labels, "label")
    reading.without_meaning.update(f"column {name}" for name in table.cells if name not in reading.columns)


def _rows_of(table: Table, files: Files, index: ImageIndex, choices: Choices, *, unlabelled: bool) -> list[_Row]:
    """One row for each line: where it stands, the image, what its label means, and the rest."""
    missing, rows = [], []
    boxes = "box" in table.columns
    meaning_at = line_meanings(table.path, table.cells, table.labels, choices, boxes=boxes, unlabelled=unlabelled)
    for number, cells in table.cells.to_dict("index").items():
        where = f"{table.path}, line {number}"
        text = cells[table.columns["path"]]
        paths = index.find(text, table.below)
        if not text:
            raise FracturelabError(f"{where}: expected a path. Received: {text!r}; write it there or take the line out")
        if len(paths) > 1:
            names = some(os.path.relpath(path, files.root) for path in paths)
            raise FracturelabError(f"{where}: {text!r} may be {names}; write the path below the folder")
        if not paths:
            missing.append(text)
            continue
        row = {"path": paths[0], "where": where, "meaning": meaning_at(number), "split": split_of(table.path.stem)}
        texts = {role: cells[column] for role, column in table.columns.items() if role != "path" and cells[column]}
        row |= {role: texts[role] for role in ("group", "source", "study") if role in texts}
        if "split" in texts:
            row["split"] = choices.split(texts["split"])
            if row["split"] is None:
                line = ask("--split-names", [texts["split"]], "train|val|test|skip")
                raise FracturelabError(
                    f"{where}: expected a split of train, val or test. Received: {texts['split']!r}; {line}"
                )
        if "kind" in texts:
            known = meaning_of(texts["kind"]) or meaning_of(f"{texts['kind']} fracture")
            row["kind"] = known.kind if known else normalise(texts["kind"])
        rows.append(row)
    if missing:
        raise FracturelabError(
            f"{table.path} names {len(missing)} files that are not there: {some(missing)}; "
            "restore them or take their lines out"
        )
    return rows


def read_cells(path: Path) -> pd.DataFrame:
    """Read the cells of a table as text, whether its first line is a header or not.

    The separator may be a comma, a semicolon, a tab or a bar; the encoding UTF-8, UTF-16 with its mark, or else
    Windows-1252. A first line "sep=;" is followed.

    Returns:
        Text without blanks at its ends, "" where a cell is empty. The index is the number of the line; lines and
        columns without any text are left out.

    Raises:
        FracturelabError: The file is not a table, or cannot be read.
    """
    import pandas as pd

    try:
        text = _decoded(path.read_bytes())
        lines = text.splitlines() or [""]
        named = lines[0].lower().startswith("sep=")
        separator = lines[0][4:5] if named else max(",;\t|", key=lines[0].count)
        width = max(line.count(separator) for line in lines) + 1
        options = {"dtype": str, "keep_default_na": False, "skip_blank_lines": False, "skipinitialspace": True}
        content = io.StringIO("".join(text.splitlines(keepends=True)[named:]))
        cells = pd.read_csv(content, sep=separator, header=None, names=range(width), **options)
    except (OSError, ValueError) as error:
        raise FracturelabError(f"the table {path} cannot be read: {' '.join(str(error).split())}") from error
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    cells.index += 1 + named
    cells = cells.loc[(cells != "").any(axis="columns"), (cells != "").any(axis="index")]
    if cells.empty or "\0" in text:
        raise FracturelabError(
            f"expected a header line in {path}. Received: none; write the names of its columns there"
        )
    return cells


def with_header(cells: pd.DataFrame, header: bool = True) -> pd.DataFrame:
    """Name the columns by the first line, or "column 1" and so on; a second column of one name is left out."""
    names = [
        text or f"column {place + 1}" for place, text in enumerate(cells.iloc[0] if header else [""] * cells.shape[1])
    ]
    cells = cells.iloc[int(header) :].set_axis(names, axis="columns")
    return cells.loc[:, ~cells.columns.duplicated()]


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")
