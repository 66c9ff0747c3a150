"""Groups of images that must not be torn apart: copies of one another, and the patients that are published."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fracturelab.audit.duplicates import join_pairs, near_duplicate_pairs
from fracturelab.audit.hashing import ORIENTATIONS, frequencies, hashes, oriented
from fracturelab.audit.names import pairs_by_name
from fracturelab.audit.reading import Readings, read_files
from fracturelab.audit.turned import candidate_pairs, confirmed_pairs
from fracturelab.splits import with_fracatlas_parts

MADE_UP = "image-"
"""Names of groups that no one published begin like this."""


@dataclass(frozen=True)
class Copies:
    """The copies among files.

    Attributes:
        groups: int64 (n,), group of near-duplicates of each file, byte-identical ones included; unreadable files are
            alone.
        contents: int64 (n,), number of each file's bytes: equal where files are byte-identical, and alone where a file
            is unreadable.
        pairs: One row a pair: `first` < `second` (row numbers), `orientation` (0 to 7), `distance` (bits of 64),
            `correlation`, `identical`. Turned or cropped copies have orientation -2, versions by name -1 and no
            correlation. A file with byte-identical copies is compared with others once, through the first of them.
        blank: bool (n,), readable pictures that are almost blank; they are compared by their bytes alone.
    """

    groups: np.ndarray
    contents: np.ndarray
    pairs: pd.DataFrame
    blank: np.ndarray


def find_copies(readings: Readings, labels: pd.Series | None = None) -> Copies:
    """Find byte-identical files by checksum, near-duplicates by their pictures, and versions by their file names.

    Args:
        readings: From `read_files`.
        labels: Label of each file; versions by name have one label.
    """
    readable, count = readings.readable, len(readings.files)
    contents = pd.factorize(readings.files["sha256"].where(readable, pd.Series(range(count))))[0]
    original = np.unique(contents, return_index=True)[1][contents]
    copies = np.flatnonzero(original != np.arange(count))
    distinct = np.flatnonzero((original == np.arange(count)) & readable)
    near, almost_blank = near_duplicate_pairs(readings.thumbnails[distinct])
    blank = np.zeros(count, bool)
    blank[distinct] = almost_blank
    near[["first", "second"]] = distinct[near[["first", "second"]]]
    exact = pd.DataFrame({"first": original[copies], "second": copies})
    exact = exact.assign(orientation=0, distance=0, correlation=1.0, identical=True)
    pairs = pd.concat([exact, near.assign(identical=False)], ignore_index=True)
    groups = join_pairs(count, pairs["first"], pairs["second"])
    rows = np.flatnonzero(readable)
    classes = np.zeros(count, np.int64) if labels is None else labels.astype("Int64").fillna(-1).to_numpy(np.int64)
    named = pairs_by_name(readings.files["path"].iloc[rows].tolist(), classes[rows])
    named[["first", "second"]] = rows[named[["first", "second"]]]
    named = named[groups[named["first"]] != groups[named["second"]]]
    pairs = pd.concat([pairs, named.assign(orientation=-1, distance=-1, identical=False)], ignore_index=True)
    if readings.keypoints is not None and readings.features is not None and readings.changes is not None:
        groups, shown = join_pairs(count, pairs["first"], pairs["second"]), distinct[~almost_blank]
        candidates = shown[candidate_pairs(readings.features[shown].astype(np.float32), readings.changes)]
        candidates = candidates[groups[candidates[:, 0]] != groups[candidates[:, 1]]]
        turned = confirmed_pairs(candidates, readings.keypoints, readings.thumbnails)
        pairs = pd.concat([pairs, turned.assign(orientation=-2, distance=-1, identical=False)], ignore_index=True)
    return Copies(join_pairs(count, pairs["first"], pairs["second"]), contents, pairs, blank)


def with_groups(table: pd.DataFrame, *, turned: bool = False, progress: bool = False) -> pd.DataFrame:
    """Fill a table's `group`: near-duplicates share one.

    Published groups stay, with one exception. Where a near-duplicate ties two of them together (one picture filed under
    two patients), both take the name that sorts first, because a split must not separate the copies. The studies of a
    patient whose name goes that way keep it: "study1" becomes "patient7/study1", a study other than the second
    patient's. A filled name follows from the bytes of the group's files, so it is the same in any folder and any order.

    Args:
        table: The data set's table.
        turned: Look for turned and cropped copies too; see `turned`.
        progress: Show a progress bar.

    Returns:
        A copy of the table in which every row has a group.
    """
    readings = read_files(list(table["path"]), closer=turned, progress=progress)
    return fill_groups(table, readings, find_copies(readings, table["label"]))


def usable_rows(
    table: pd.DataFrame, *, turned: bool = False, progress: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a table that have a label and can be read, with groups and FracAtlas' fixed parts.

    Args:
        table: The data set's table.
        turned: As for `with_groups`.
        progress: Show a progress bar.

    Returns:
        The rows, with `group`, `split` and `fixed` filled and the files' `sha256` added. And the labelled files that
        cannot be read, as `path` and `reason`.
    """
    table = table[table["label"].notna()].reset_index(drop=True)
    readings = read_files(list(table["path"]), closer=turned, progress=progress)
    kept = readings.readable
    grouped = fill_groups(table, readings, find_copies(readings, table["label"]))
    grouped = grouped.assign(sha256=readings.files["sha256"])[kept].reset_index(drop=True)
    return with_fracatlas_parts(grouped, hashes=picture_hashes(readings)[kept]), readings.unreadable


def picture_hashes(readings: Readings) -> np.ndarray:
    """Return the perceptual hash of each picture in all eight orientations: uint64 (n, 8), 0 where unreadable."""
    coefficients = frequencies(readings.thumbnails)
    turned = [hashes(oriented(coefficients, orientation)) for orientation in range(len(ORIENTATIONS))]
    return np.where(readings.readable[:, None], np.stack(turned, axis=1), np.uint64(0))


def fill_groups(table: pd.DataFrame, readings: Readings, copies: Copies) -> pd.DataFrame:
    """Fill a table's `group` from what is known of its files: see `with_groups`."""
    published = table["group"].astype("string[python]").fillna("").to_numpy(object)
    joined = joined_groups(published, copies.groups)
    names: dict[int, tuple[bool, str]] = {}
    files = zip(joined, published, readings.files["sha256"], readings.files["path"], strict=True)
    for number, name, sha256, path in files:
        made_up = MADE_UP + (sha256 or hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest())[:16]
        own = (name == "", name or made_up)  # a published name sorts before one that is made up
        names[number] = min(names.get(number, own), own)
    result = table.copy()
    groups = np.array([names[number][1] for number in joined], object)
    result["group"] = pd.array(groups, dtype="string[python]")
    renamed = (published != "") & (published != groups)
    if renamed.any() and "study" in result:
        study = result["study"].astype("string[python]")
        own = pd.Series(pd.array(published, dtype="string[python]"), index=result.index)
        result["study"] = study.mask(renamed, own + "/" + study)
    return result


def joined_groups(published: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Number the groups that published groups and copies make together.

    Args:
        published: (n,) names, "" where none is published.
        copies: int (n,) group of near-duplicates of each row.

    Returns:
        int64 (n,): group numbers from 0, in order of first appearance.
    """
    rows = np.arange(len(published))
    by_name = np.where(published != "", _first_of(published.astype(str)), rows)
    return join_pairs(len(rows), np.tile(rows, 2), np.concatenate([_first_of(copies), by_name]))


def _first_of(values: np.ndarray) -> np.ndarray:
    """For each row the first row with the same value."""
    _, where, inverse = np.unique(values, return_index=True, return_inverse=True)
    return where[inverse]
