"""What the sides of a published split share: copies, patients, and copies with different labels."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd

SPLITS = ("train", "val", "test")


def count_copies(here: np.ndarray, there: np.ndarray, contents: np.ndarray, groups: np.ndarray) -> dict[str, int]:
    """Count the images of one side that have a copy on another side.

    Args:
        here: bool (n,), the images of the one side.
        there: bool (n,), the images of the other side.
        contents: int (n,), equal where files are byte-identical.
        groups: int (n,), equal where files are near-duplicates.

    Returns:
        `of`, the images of the one side; `identical`, the number of them with a byte-identical image on the other side;
        `near`, the number with a near copy there, identical ones included.
    """
    identical, near = np.isin(contents[here], contents[there]), np.isin(groups[here], groups[there])
    return {"of": int(here.sum()), "identical": int(identical.sum()), "near": int(near.sum())}


def shared_between_splits(
    split: np.ndarray, readable: np.ndarray, contents: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, int]]:
    """Count, for each pair of splits in both directions, the readable images with a copy on the other side.

    Args:
        split: (n,) "train", "val", "test" or "" where none is published.
        readable: bool (n,); unreadable files are not counted.
        contents: As for `count_copies`.
        groups: As for `count_copies`.

    Returns:
        `{"test->train": {"of": ..., "identical": ..., "near": ...}}`; the counts are those of `count_copies`.
    """
    sides = {side: (split == side) & readable for side in SPLITS if ((split == side) & readable).any()}
    return {
        f"{first}->{second}": count_copies(sides[first], sides[second], contents, groups)
        for first, second in permutations(sides, 2)
    }


def groups_across_splits(names: np.ndarray, split: np.ndarray, readable: np.ndarray) -> list[str]:
    """Return the published groups, such as patients, with readable images on more than one side; sorted.

    Args:
        names: (n,) group names, "" where none is published.
        split: (n,) sides, "" where none is published.
        readable: bool (n,).
    """
    used = (names != "") & (split != "") & readable
    sides = pd.Series(split[used]).groupby(names[used]).nunique()
    return sides.index[sides > 1].tolist()


def conflicting_groups(labels: np.ndarray, readable: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the groups of copies that hold both labels.

    Args:
        labels: int (n,), 0, 1, or -1 where unknown.
        readable: bool (n,).
        groups: int (n,), equal where files are near-duplicates, byte-identical ones included.

    Returns:
        Their numbers, ascending.
    """
    return np.intersect1d(groups[readable & (labels == 0)], groups[readable & (labels == 1)])
