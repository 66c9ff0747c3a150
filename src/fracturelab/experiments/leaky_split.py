"""A leaking split: augmented copies are made first, and then the images are split at random.

Many published projects do this. Copies of one X-ray end up on both sides, so that the network is validated on images
it was trained on. Notebook 02 measures it against copies of other X-rays, which is the only use of this module.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fracturelab.pipeline import Augmentation, augment, balanced_draws, image_seeds
from fracturelab.training.prepare import Prepared

MIRRORED_AND_REEXPOSED = Augmentation(rotation=0.0, shift=0.0, zoom=0.0)
"""Copies as augmentation scripts write them to disk: mirrored or not, brighter or darker, more or less contrast."""
VALIDATION_SHARE = 0.2
"""Share of the copies for validation."""
_BLOCK = 256


def augmented_copies(
    images: NDArray[np.uint8], origins: ArrayLike, *, augmentation: Augmentation = MIRRORED_AND_REEXPOSED, seed: int = 0
) -> NDArray[np.uint8]:
    """Make augmented copies of images, as many of each as its index occurs.

    Args:
        images: uint8 (n, size, size, 1); may be a memory map.
        origins: (m,) index of the image that each copy is made of.
        augmentation: Limits of the changes to a copy.
        seed: A copy follows from (seed, its original's index, how often that came before).

    Returns:
        uint8 (m, size, size, 1), in the order of `origins`.
    """
    index = np.asarray(origins, np.int64)
    repeats = pd.Series(index).groupby(index).cumcount().to_numpy()
    copies = np.empty((len(index), *images.shape[1:]), np.uint8)
    for start in range(0, len(index), _BLOCK):
        part = slice(start, start + _BLOCK)
        seeds = image_seeds(seed=seed, epoch=0, images=index[part], repeats=repeats[part])
        copies[part] = np.rint(np.asarray(augment(images[index[part]], seeds=seeds, augmentation=augmentation)))
    return copies


def augment_then_split(
    prepared: Prepared, *, copies: int = 2000, augmentation: Augmentation = MIRRORED_AND_REEXPOSED, seed: int = 0
) -> Prepared:
    """The flawed way: balanced augmented copies of the training images, split by copy at random.

    Validation and test images take no part in it. The copies keep their original's path, hash and group, so that the
    leak can be counted: see `shared_with_training`.

    Args:
        prepared: Honestly split images.
        copies: Number of copies in all; every class gets the same number, spread evenly over its images.
        augmentation: Limits of the changes to a copy.
        seed: Decides the copies and the split.

    Returns:
        The copies, in memory, with a split that must not be believed.
    """
    origins, split = _split_at_random(prepared, copies, seed)
    return replace(_copies(prepared, origins, split, augmentation, seed), leaks_on_purpose=True)


def split_then_augment(
    prepared: Prepared, *, copies: int = 2000, augmentation: Augmentation = MIRRORED_AND_REEXPOSED, seed: int = 0
) -> Prepared:
    """The right way on the same copies; arguments as for `augment_then_split`.

    Returns:
        The copies, in memory: the training copies of `augment_then_split`, and as many copies of validation images as
        it holds out.
    """
    origins, split = _split_at_random(prepared, copies, seed)
    held_out = split == "val"
    others = _balanced(prepared, "val", int(held_out.sum()), seed)
    split = np.concatenate([np.where(held_out, "", split), np.full(len(others), "val")])
    return _copies(prepared, np.concatenate([origins, others]), split, augmentation, seed)


def _balanced(prepared: Prepared, part: str, copies: int, seed: int) -> NDArray[np.int64]:
    """The original of each copy: as many of each class, spread evenly over its images."""
    rows = prepared.rows(part)
    drawn, _ = balanced_draws(prepared.labels[rows], copies, np.random.default_rng(seed))
    return rows[np.concatenate(drawn)]


def _split_at_random(prepared: Prepared, copies: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """The original of each copy, and whether the copy is for "train" or "val"."""
    held_out = np.random.default_rng([seed, copies]).permutation(copies) < round(VALIDATION_SHARE * copies)
    return _balanced(prepared, "train", copies, seed), np.where(held_out, "val", "train")


def _copies(
    prepared: Prepared, origins: NDArray[np.int64], split: NDArray[np.str_], augmentation: Augmentation, seed: int
) -> Prepared:
    """Copies with their split; those without one are left out."""
    images, kept = augmented_copies(prepared.images, origins, augmentation=augmentation, seed=seed), split != ""
    rows, side = origins[kept], pd.array(split[kept].tolist(), dtype="string[python]")
    table = prepared.table.iloc[rows].reset_index(drop=True).assign(split=side)
    return replace(prepared, table=table, images=images[kept], hashes=prepared.hashes[rows])


def shared_with_training(prepared: Prepared) -> float:
    """The share of validation images with an image of their own group in the training part: 0 where nothing leaks."""
    groups = prepared.groups
    return float(np.isin(groups[prepared.rows("val")], groups[prepared.rows("train")]).mean())
