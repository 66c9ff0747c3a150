"""Read tables as offices and export tools write them: encodings, separators, with or without a header."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

MAX_TABLE_BYTES = 200_000_000


def read_cells(path: Path) -> pd.DataFrame:
    """The cells of a table as text, without looking for a header.

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
        if path.stat().st_size > MAX_TABLE_BYTES or not path.is_file():
            raise ValueError(f"expected a table of at most {MAX_TABLE_BYTES // 1_000_000} MB")
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


def with_header(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells below the first line, which names the columns; of columns of one name the first."""
    names = [text or f"column {place + 1}" for place, text in enumerate(cells.iloc[0])]
    cells = cells.iloc[1:].set_axis(names, axis="columns")
    return cells.loc[:, ~cells.columns.duplicated()]


def without_header(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with numbered columns: "column 1" and so on."""
    return cells.set_axis([f"column {place + 1}" for place in range(len(cells.columns))], axis="columns")


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")
