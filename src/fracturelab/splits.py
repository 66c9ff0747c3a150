"""Splits that keep groups whole: holdout and K folds, stratified by label, and FracAtlas' fixed parts.

A group is a patient or a set of near-duplicates: whatever must not be seen on two sides. Rows without a group are
refused, because a split by image is how copies leak from training into the test; `audit.with_groups` fills the groups.
A split depends on the rows' groups and labels and on the seed, not on the order of the rows.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

CLASS_NAMES = ("normal", "fractured")
SIDES = ("train", "val", "test")
SAME_PICTURE = 2
"""Bits of 64 that hashes of one picture may differ in. In FracAtlas, 56 of 60 copies at two thirds of the size and JPEG
quality 60 are that near, and 3 of the 1,712 training X-rays are that near to an image of a fixed part."""


def assign_groups(labels: np.ndarray, groups: np.ndarray, shares: Sequence[float], *, seed: int) -> np.ndarray:
    """Deal whole groups onto sides so that every side gets its share of every class.

    Groups are shuffled by the seed and dealt from the largest to the smallest, each to the side that is furthest
    behind in the classes that the group holds (iterative stratification after Sechidis, Tsoumakas and Vlahavas, *On the
    stratification of multi-label data*, 2011, with groups in place of images). With single-image groups every side ends
    within one image of its share of each class.

    Args:
        labels: int (n,), classes from 0.
        groups: (n,), group of each row, anything that sorts.
        shares: What each side should get, in any unit.
        seed: Decides ties and the order among groups of one size.

    Returns:
        int64 (n,): number of the side of each row.
    """
    names, inverse = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    classes = int(labels.max(initial=0)) + 1
    counts = np.zeros((len(names), classes))
    np.add.at(counts, (inverse, labels), 1)
    totals = counts.sum(axis=0)
    wanted = np.outer(np.asarray(shares, float) / np.sum(shares), totals)
    weights = 1 / np.maximum(totals, 1)  # being one image behind weighs more in a rare class
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    side_of = np.empty(len(names), np.int64)
    missing = wanted.copy()
    for group in order:
        behind = missing @ (counts[group] * weights)
        side_of[group] = int(np.argmax(behind))
        missing[side_of[group]] -= counts[group]
    return side_of[inverse]


def holdout_split(table: pd.DataFrame, *, val: float = 0.15, test: float = 0.15, seed: int = 0) -> pd.DataFrame:
    """Split a table into train, val and test, by group and stratified by label.

    A published split is kept: rows marked "test" or "val" stay there, and only what is missing is cut from the rest
    (those marked "train" or not at all). Where a published split puts one group on two sides, the test part stays
    whole, so that scores on it remain comparable with other people's; the group's rows elsewhere are left out (no
    split), and a warning says how many. Between val and train, val stays. Rows without a label are left out in the
    same way.

    Args:
        table: The data set's table, with `group` filled for every labelled row.
        val: Share of the labelled rows for validation, 0 for none.
        test: Share of the labelled rows for the test, 0 for none. Not used where a test part is published.
        seed: Decides which groups go where.

    Returns:
        A copy of the table with `split` filled: "train", "val", "test", or <NA> for rows that are left out.

    Raises:
        FracturelabError: No labels, rows without a group, or a side would lack a class.
        ValueError: Shares that are negative or leave nothing to train on.

    Examples:
        >>> rows = [{"path": f"{i}.png", "label": i % 2, "group": str(i // 2)} for i in range(20)]
        >>> from fracturelab.datasets import make_table
        >>> split = holdout_split(make_table(rows), val=0.2, test=0.2)["split"]
        >>> split.value_counts().to_dict()
        {'train': 12, 'val': 4, 'test': 4}
    """
    if val < 0 or test < 0 or val + test >= 1:
        raise ValueError(f"expected val and test of at least 0 and together below 1. Received: val={val}, test={test}")
    usable = _usable(table)
    published = table["split"].astype("string[python]").fillna("").to_numpy(object)
    groups = table["group"].astype("string[python]").fillna("").to_numpy(str)
    split = np.where(usable & ((published == "val") | (published == "test")), published, "").astype(object)
    rest = usable & (split == "")
    dropped = 0
    for keeper, losers in (("test", rest | (split == "val")), ("val", rest)):
        clash = losers & (split != keeper) & np.isin(groups, np.unique(groups[split == keeper]))
        dropped += int(clash.sum())
        rest &= ~clash
        split[clash] = ""
    if dropped:
        warnings.warn(
            f"{dropped} images are left out: their group (patient or near-duplicates) reaches into another side of the "
            "published split, and would leak into its score.",
            stacklevel=2,
        )
    shares = {"train": 1.0 - val - test, "val": val, "test": test}
    wanted = [side for side in SIDES if side == "train" or (shares[side] > 0 and not (split == side).any())]
    rows = np.flatnonzero(rest)
    # Shares are of all labelled rows; what a published side holds already is not cut again.
    kept = int((split != "").sum())
    sizes = [shares[side] * (len(rows) + kept) for side in wanted[1:]]
    sizes.insert(0, max(len(rows) - sum(sizes), 0))
    if len(rows):
        labels = table["label"].to_numpy()[rows].astype(np.int64)
        side = assign_groups(labels, groups[rows], sizes, seed=seed)
        split[rows] = np.array(wanted, object)[side]
    labels = table["label"].astype("Int64").fillna(-1).to_numpy(np.int64)
    for name in [side for side in SIDES if side in wanted or (split == side).any()]:
        _refuse_empty(labels[split == name], groups[split == name], f"the {name} part", labels[usable], groups[usable])
    result = table.copy()
    result["split"] = _column(split)
    return result


def kfold(table: pd.DataFrame, *, folds: int = 5, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut a table into K folds, by group and stratified by label.

    All labelled rows take part, whatever their split: leave a test part out first,
    `kfold(table[table["split"] != "test"])`. Rows without a label are in no fold.

    Args:
        table: The data set's table, with `group` filled for every labelled row.
        folds: Number of folds, at least 2.
        seed: Decides which groups go where.

    Returns:
        For each fold the positions of its training rows and of its validation rows, ascending. Every labelled row is
        validated on exactly once.

    Raises:
        FracturelabError: No labels, rows without a group, or a fold would lack a class.
        ValueError: Fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"expected at least 2 folds. Received: {folds}")
    rows = np.flatnonzero(_usable(table))
    labels = table["label"].to_numpy()[rows].astype(np.int64)
    groups = table["group"].to_numpy()[rows].astype(str)
    fold = assign_groups(labels, groups, [1.0] * folds, seed=seed)
    for number in range(folds):
        for where, what in ((fold == number, "validation part"), (fold != number, "training part")):
            _refuse_empty(labels[where], groups[where], f"the {what} of fold {number + 1} of {folds}", labels, groups)
    return [(rows[fold != number], rows[fold == number]) for number in range(folds)]


@cache
def fracatlas_parts() -> pd.DataFrame:
    """Read the project's fixed parts of FracAtlas, by image name.

    Test: 856 X-rays, 30% of the near-duplicate groups. Validation: 300 others, whole groups. Training: every other
    one. Nothing that is shipped was trained on the test part, and no pretraining uses the validation part.

    Returns:
        A row an X-ray of test and validation: `image` (name without suffix), `part` ("test" or "val"), `hash` (uint64,
        the audit's perceptual hash of the picture).
    """
    import pandas as pd

    with files("fracturelab.data").joinpath("fracatlas_parts.csv").open(encoding="ascii") as file:
        table = pd.read_csv(file, dtype=str)
    return table.assign(hash=[int(digits, 16) for digits in table["hash"]]).astype({"hash": np.uint64})


def with_fracatlas_parts(table: pd.DataFrame, *, hashes: np.ndarray | None = None) -> pd.DataFrame:
    """Mark the project's fixed parts of FracAtlas in a table.

    A file is recognised by the beginning of its name (IMG0000025.jpg, IMG0000025_jpg.rf.1a2b.jpg), whatever its size. A
    file with another name is recognised by its picture.

    Args:
        table: The data set's table.
        hashes: uint64 (n, k): perceptual hashes of each file, such as those of its eight orientations; 0 where the file
            is unreadable. None compares names alone.

    Returns:
        A copy of the table. Listed images have `split` "test" or "val", and the new column `fixed` says what they are
        recognised by, "name" or "picture". Where a table has listed images, FracAtlas' other images by name go to
        "train". The validation part is left to the seed where the table has only one class of it.
    """
    import pandas as pd

    listed = fracatlas_parts()
    names = pd.Series([os.path.basename(path) for path in table["path"]], index=table.index, dtype="string[python]")
    names = names.str.extract(r"^(IMG\d{7})(?!\d)", expand=False)
    ours = names.notna().to_numpy(bool)
    part = names.map(dict(zip(listed["image"], listed["part"], strict=True))).fillna("").to_numpy(object)
    by = np.where(part != "", "name", "").astype(object)
    if hashes is not None:
        for row in np.flatnonzero(~ours):
            distance = np.bitwise_count(hashes[row][:, None] ^ listed["hash"].to_numpy()).min(axis=0)
            if hashes[row].any() and distance.min() <= SAME_PICTURE:
                part[row], by[row] = listed["part"].iloc[distance.argmin()], "picture"
    if table["label"][part == "val"].nunique() < len(CLASS_NAMES):
        by[part == "val"] = part[part == "val"] = ""
    split = table["split"].astype("string[python]").fillna("").to_numpy(object)
    if (part != "").any():
        split = np.where(part != "", part, np.where(ours, "train", split))
    return table.assign(split=_column(split), fixed=_column(by))


def fracatlas_sentence(table: pd.DataFrame) -> str | None:
    """Return a sentence on the images of the fixed parts: how many, and how they were recognised; None for none."""
    if "fixed" not in table or not table["fixed"].notna().any():
        return None
    fixed = table[table["fixed"].notna()]
    by = ", ".join(f"{count} by {what}" for what, count in fixed["fixed"].value_counts().items())
    counts = fixed["split"].value_counts()
    return (
        f"{counts.get('test', 0)} images are FracAtlas' fixed test part and {counts.get('val', 0)} its validation part "
        f"({by}): no training takes them; evaluate --split test or --split val does"
    )


def _column(split: np.ndarray) -> pd.array:
    import pandas as pd

    return pd.array([side or pd.NA for side in split.tolist()], dtype="string[python]")


def _usable(table: pd.DataFrame) -> np.ndarray:
    """Which rows have a label; refuses a table without any, and labelled rows without a group."""
    labelled = table["label"].notna().to_numpy(bool)
    if not labelled.any():
        raise FracturelabError(f"none of the {len(table)} images has a label: there is nothing to split by class")
    alone = labelled & table["group"].isna().to_numpy(bool)
    if alone.any():
        raise FracturelabError(
            f"{int(alone.sum())} of {len(table)} images have no group, and a split by image lets copies leak from "
            "training into the test. Fill the groups first: fracturelab.audit.with_groups(table)"
        )
    return labelled


def _refuse_empty(
    labels: np.ndarray, groups: np.ndarray, where: str, all_labels: np.ndarray, all_groups: np.ndarray
) -> None:
    for label, name in enumerate(CLASS_NAMES):
        if (labels == label).any():
            continue
        total = all_labels == label
        raise FracturelabError(
            f"{where} would have no {name} image: the data set has {int(total.sum())} in "
            f"{len(np.unique(all_groups[total]))} groups. Add {name} images, or ask for fewer or larger parts"
        )
