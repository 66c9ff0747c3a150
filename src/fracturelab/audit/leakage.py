"""What the sides of a published split share: copies, patients, and copies that are labelled otherwise."""

from __future__ import annotations

from itertools import permutations

import numpy as np

SPLITS = ("train", "val", "test")


def shared_between_splits(
    split: np.ndarray, readable: np.ndarray, contents: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, int]]:
    """Count, for each pair of splits in both directions, the images of the one that have a copy in the other.

    Args:
        split: (n,) "train", "val", "test" or "" where none is published.
        readable: bool (n,); unreadable files are not counted.
        contents: int (n,), equal where files are byte-identical.
        groups: int (n,), equal where files are near-duplicates.

    Returns:
        `{"test->train": {"of": ..., "identical": ..., "near": ...}}`: the readable images of test, how many of them
        have a byte-identical image in train, and how many a near copy there, identical ones included.
    """
    present = [side for side in SPLITS if ((split == side) & readable).any()]
    shared: dict[str, dict[str, int]] = {}
    for one, other in permutations(present, 2):
        here, there = (split == one) & readable, (split == other) & readable
        shared[f"{one}->{other}"] = {
            "of": int(here.sum()),
            "identical": int(np.isin(contents[here], contents[there]).sum()),
            "near": int(np.isin(groups[here], groups[there]).sum()),
        }
    return shared


def images_with_copies_elsewhere(
    side: str, split: np.ndarray, readable: np.ndarray, contents: np.ndarray, groups: np.ndarray
) -> tuple[int, int]:
    """How many readable images of one side have a near copy, and a byte-identical one, on any other side.

    Args:
        side: "train", "val" or "test".
        split: As for `shared_between_splits`, as are the others.
        readable: As above.
        contents: As above.
        groups: As above.
    """
    here = (split == side) & readable
    there = (split != side) & (split != "") & readable
    return int(np.isin(groups[here], groups[there]).sum()), int(np.isin(contents[here], contents[there]).sum())


def groups_across_splits(names: np.ndarray, split: np.ndarray, readable: np.ndarray) -> list[str]:
    """Published groups, such as patients, with readable images on more than one side; sorted.

    Args:
        names: (n,) group names, "" where none is published.
        split: (n,) sides, "" where none is published.
        readable: bool (n,).
    """
    seen = (names != "") & (split != "") & readable
    sides: dict[str, set[str]] = {}
    for name, side in zip(names[seen], split[seen], strict=True):
        sides.setdefault(name, set()).add(side)
    return sorted(name for name, where in sides.items() if len(where) > 1)


def conflicting_groups(labels: np.ndarray, readable: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Groups of copies that hold both labels.

    Args:
        labels: int (n,), 0, 1, or -1 where unknown.
        readable: bool (n,).
        groups: int (n,), equal where files are near-duplicates, byte-identical ones included.

    Returns:
        Their numbers, ascending.
    """
    return np.intersect1d(groups[readable & (labels == 0)], groups[readable & (labels == 1)])
