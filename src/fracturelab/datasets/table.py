"""The one table of a data set, and what identifies its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fracturelab.errors import UnreadableImageError
from fracturelab.images.opening import open_regular

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "label", "group", "split", "source", "kind", "study", "region", "hardware", "view")
"""The columns of every table, in order."""


def make_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Make a table from rows, with every column present, sorted by path.

    Args:
        rows: Mappings with `path` and any of the other columns; what is missing or None becomes <NA>.

    Returns:
        One row an image, with a RangeIndex: `path` (str, absolute), `label` (Int64: 0 normal, 1 fractured, <NA>
        unknown), and as strings or <NA>: `group` (what must not be split apart, such as a patient; the study where no
        patient is known), `split` ("train", "val" or "test" where published), `source` (the data set), `kind` (fracture
        type), `study`, `region` and `view` (several with a plus sign between them); `hardware` (boolean: metal).
    """
    import pandas as pd

    ordered = sorted(rows, key=lambda row: row["path"])
    # Plain Python strings: a file name need not be valid Unicode, which Arrow's strings would refuse.
    types = dict.fromkeys(COLUMNS, pd.StringDtype("python")) | {"path": object}
    types |= {"label": pd.Int64Dtype(), "hardware": pd.BooleanDtype()}
    table = pd.DataFrame({name: pd.Series([row.get(name) for row in ordered], dtype=types[name]) for name in COLUMNS})
    # A study without a patient is a group. One with a patient is that patient's. Where several patients have a study of
    # that name, the patient is not known, and the image stays without a group.
    patients = table.groupby("study")["group"]
    known, patient = patients.transform("nunique"), patients.transform("first")
    owner = patient.mask(known > 1).mask(known == 0, table["study"])
    return table.assign(group=table["group"].fillna(owner))


def file_hashes(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the sha256 of each file's bytes: 64 hexadecimal digits a file, in the order of the paths.

    Raises:
        UnreadableImageError: A file cannot be read.
    """
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(_hash, map(os.fspath, paths)))


def fingerprint(table: pd.DataFrame) -> str:
    """Return one sha256 for a data set: of the bytes of its files and their labels.

    Names, folders and the order of the rows do not matter, so a copy elsewhere has the same fingerprint.

    Args:
        table: A table with `path` and `label`.

    Returns:
        64 hexadecimal digits.

    Raises:
        UnreadableImageError: A file cannot be read.
    """
    labels = table["label"].astype("Int64").astype(object).where(table["label"].notna(), "?")
    lines = sorted(f"{digest} {label}" for digest, label in zip(file_hashes(list(table["path"])), labels, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hash(name: str) -> str:
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        raise UnreadableImageError(name, "there is no such file (moved, deleted, or a broken link)") from None
    return _hash_of_version(name, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=200_000)
def _hash_of_version(name: str, length: int, mtime_ns: int) -> str:
    """Read a file once for each length and modification time it had."""
    with open_regular(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
