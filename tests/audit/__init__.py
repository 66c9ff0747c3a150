"""Groups of copies among pictures, as the audit finds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fracturelab.audit.duplicates import join_pairs, near_duplicate_pairs
from fracturelab.audit.groups import find_copies
from fracturelab.audit.reading import read_files, thumbnail


def near_duplicate_groups(images: np.ndarray | Sequence[str | Path]) -> np.ndarray:
    """Number the groups of images that are copies of one another, in any of the eight orientations.

    Args:
        images: uint8 pictures (n, height, width) or (n, height, width, 1), or a list of such of any sizes, or a list
            of image files.

    Returns:
        int64 (n,): group numbers from 0, in order of first appearance. An image without copies, or an unreadable file,
        is a group of its own.
    """
    if len(images) and isinstance(images[0], (str, Path)):
        return find_copies(read_files(list(images))).groups
    thumbnails = np.stack([thumbnail(np.asarray(image)) for image in images])
    pairs, _ = near_duplicate_pairs(thumbnails)
    return join_pairs(len(thumbnails), pairs["first"], pairs["second"])
