"""The one table of a data set or of several, and what identifies its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError, UnreadableImageError
from fracturelab.images.opening import open_regular

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "label", "group", "split", "source", "kind", "study", "region", "hardware", "view")
"""The columns of every table, in order."""


def make_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A table from rows, with every column present, sorted by path.

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
    types = {name: pd.StringDtype("python") for name in COLUMNS} | {
        "label": pd.Int64Dtype(),
        "hardware": pd.BooleanDtype(),
    }
    values = {name: [row.get(name) for row in ordered] for name in COLUMNS}
    values["group"] = _groups(values["group"], values["study"])
    columns = {name: pd.Series(values[name], dtype=types[name]) for name in COLUMNS}
    columns["path"] = pd.Series([row["path"] for row in ordered], dtype=object)
    return pd.DataFrame(columns, columns=list(COLUMNS))


def _groups(groups: list[str | None], studies: list[str | None]) -> list[str | None]:
    """The groups, filled from studies: a study without a patient is a group, and one with a patient is that patient's.

    Where several patients have a study of that name, nobody knows whose the image is, and it stays without a group.
    """
    patients: dict[str, set[str]] = {}
    for group, study in zip(groups, studies, strict=True):
        if group is not None and study is not None:
            patients.setdefault(study, set()).add(group)
    filled = []
    for group, study in zip(groups, studies, strict=True):
        if group is None and study is not None:
            owners = patients.get(study, {study})
            group = next(iter(owners)) if len(owners) == 1 else None
        filled.append(group)
    return filled


def combine(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put tables together, the name of each in the column `source`.

    Groups and studies get that name before their own: patient 7 of one hospital is not patient 7 of another. Published
    splits stay; a source without one is then cut by `splits.holdout_split` only as far as a part is missing.

    Pictures that stand in two data sets, which happens to public ones, are not looked for here. `audit.with_groups` on
    the result finds them, whatever their names, and keeps copies together.

    Args:
        tables: Name of the source to its table, as `read_dataset` gives it.

    Returns:
        One table with every row of all of them, sorted by path.

    Raises:
        FracturelabError: No table, a name that is empty, or a file that stands in two of them.
    """
    import pandas as pd

    if not tables or not all(tables):
        raise FracturelabError(f"expected data sets with a name each. Received: {list(tables)}")
    parts = [
        table[list(COLUMNS)].assign(source=name, group=f"{name}/" + table["group"], study=f"{name}/" + table["study"])
        for name, table in tables.items()
    ]
    combined = pd.concat(parts).sort_values("path", kind="stable", ignore_index=True)
    twice = combined[combined["path"].duplicated(keep=False)]
    if len(twice):
        names = " and ".join(twice["source"].head(2))
        raise FracturelabError(f"{twice['path'].iloc[0]}: stands in two data sets, {names}; take it out of one of them")
    return combined.astype({"source": "string[python]"})


def file_hashes(paths: Sequence[str | os.PathLike[str]], *, workers: int = 2) -> list[str]:
    """The sha256 of each file's bytes.

    Args:
        paths: Files.
        workers: Threads that read.

    Returns:
        64 hexadecimal digits a file, in the order of the paths.

    Raises:
        UnreadableImageError: A file cannot be read.
    """
    from joblib import Parallel, delayed

    names = [os.fspath(path) for path in paths]
    chunks = [names[start : start + 256] for start in range(0, len(names), 256)]
    hashed = Parallel(n_jobs=workers, prefer="threads")(delayed(_hash_some)(chunk) for chunk in chunks)
    return [digest for chunk in hashed for digest in chunk]


def fingerprint(table: pd.DataFrame) -> str:
    """One sha256 that stands for a data set: the bytes of its files and their labels.

    Names, folders and the order of the rows do not matter, so a copy elsewhere has the same fingerprint.

    Args:
        table: A table with `path` and `label`.

    Returns:
        64 hexadecimal digits.

    Raises:
        UnreadableImageError: A file cannot be read.
    """
    labels = ["?" if label is None or label != label else str(int(label)) for label in _plain(table["label"])]
    lines = sorted(f"{digest} {label}" for digest, label in zip(file_hashes(list(table["path"])), labels, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain(column: pd.Series) -> list[Any]:
    return [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]


def _hash_some(names: list[str]) -> list[str]:
    digests = []
    for name in names:
        try:
            status = os.stat(name)
        except (OSError, ValueError):
            raise UnreadableImageError(name, "there is no such file (moved, deleted, or a broken link)") from None
        digests.append(_hash(name, status.st_size, status.st_mtime_ns))
    return digests


@lru_cache(maxsize=200_000)
def _hash(name: str, length: int, mtime_ns: int) -> str:
    """Read a file once for each length and modification time it had."""
    with open_regular(name) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
