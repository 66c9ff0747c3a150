"""Versions of one picture by their file names, as augmentation and export tools write them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

_MOST = 50
"""Larger groups of one name are numbered pictures, not versions of one picture."""

_WORDS = "aug|augmented|rot|rotate|rotated|rotation|flip|flipped|hflip|vflip|mirror|mirrored|crop|cropped|zoom|zoomed"
_WORDS += "|shear|sheared|shift|shifted|translated|bright|brightness|contrast|noise|noisy|blur|blurred"
_EXPORT = re.compile(r"(?:_(?:jpe?g|png|bmp|tiff?|webp))?\.rf\.\w+$", re.IGNORECASE)  # STEM_png.rf.HASH
_VERSION = re.compile(rf"[ _-]+(?:{_WORDS})[ _-]*\d*$", re.IGNORECASE)  # STEM_aug_3, STEM-rotated1
_COPY = re.compile(r"(?:[ _-]*\(\d+\)|[ _-]+copy(?:[ _-]*\d+)?)$", re.IGNORECASE)  # STEM (2), STEM - Copy
_FOLDER = re.compile(r"aug(?:s|mented|mentation)?\b", re.IGNORECASE)  # Augmented/STEM


def pairs_by_name(paths: Sequence[str], labels: np.ndarray) -> pd.DataFrame:
    """Find files whose names mark them as versions of one picture.

    Names that tools make (`STEM_png.rf.HASH`, `STEM_aug_3`, `STEM-rotated1`) are enough. A name that people also give
    to different pictures (`STEM (2)`, `STEM - Copy`, a folder `Augmented`) counts where there is a file with the plain
    name. Versions have one label, since tools number the pictures of each class from 1.

    Args:
        paths: Files.
        labels: int (n,), label of each.

    Returns:
        `first` and `second`, row numbers: each version with the first one of its picture.
    """
    root = os.path.commonpath([os.path.abspath(path) for path in paths]) if len(paths) else ""
    originals = [_original(os.path.relpath(path, root)) for path in paths]
    numbers: dict[str, int] = {}  # pandas cannot keep every file name as text
    rows = [(numbers.setdefault(name, len(numbers)), made, copied) for name, made, copied in originals]
    names = pd.DataFrame(rows, columns=["name", "made", "copied"])
    keys = [names["name"], pd.Series(labels)]
    plain = ~(names["made"] | names["copied"])
    size, made, copied, original = (
        flags.groupby(keys).transform("sum") for flags in (plain | True, names["made"], names["copied"], plain)
    )
    versions = (size <= _MOST) & ((made > 0) | ((copied > 0) & (original > 0)))
    first = pd.Series(range(len(names)), dtype=np.int64).groupby(keys).transform("first")
    second = np.flatnonzero(versions & (first != first.index))
    return pd.DataFrame({"first": first.to_numpy()[second], "second": second})


def _original(path: str) -> tuple[str, bool, bool]:
    """The name without what was added to it, whether a tool added it, and whether a person or a folder may have."""
    stem = os.path.splitext(os.path.basename(path))[0]
    made = copied = False
    while True:
        if shorter := _EXPORT.sub("", stem) if _EXPORT.search(stem) else _VERSION.sub("", stem):
            made |= shorter != stem
        plain = _COPY.sub("", shorter)
        copied |= plain != shorter
        if plain in ("", stem):
            break
        stem = plain
    return stem.lower(), made, copied or any(_FOLDER.match(part) for part in path.split(os.sep)[:-1])
