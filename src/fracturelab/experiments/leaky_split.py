"""A leaking split: augmented copies are made first, and then the images are split at random.

Many published projects do this. Copies of one X-ray end up on both sides, so that the network is validated on images
it was trained on. Notebook 02 measures it against copies of other X-rays, which is the only use of this module.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.pipeline import Augmentation, augment, balanced_draws, image_seeds
from fracturelab.training.prepare import Prepared

MIRRORED_AND_REEXPOSED = Augmentation(rotation=0.0, shift=0.0, zoom=0.0)
"""Copies as augmentation scripts write them to disk: mirrored or not, brighter or darker, more or less contrast."""

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
    repeats = np.zeros(len(index), np.int64)
    for value in np.unique(index):
        here = index == value
        repeats[here] = np.arange(here.sum())
    copies = np.empty((len(index), *images.shape[1:]), np.uint8)
    for start in range(0, len(index), _BLOCK):
        part = slice(start, start + _BLOCK)
        seeds = image_seeds(seed=seed, epoch=0, images=index[part], repeats=repeats[part])
        copies[part] = np.rint(np.asarray(augment(images[index[part]], seeds=seeds, augmentation=augmentation)))
    return copies


def balanced_origins(labels: ArrayLike, *, copies: int, seed: int = 0) -> NDArray[np.int64]:
    """Choose the originals so that every class gets the same number of copies, spread evenly over its images.

    Args:
        labels: (n,) class of each image.
        copies: Number of copies in all.
        seed: Decides which images get one copy more than others.

    Returns:
        int64 (copies,): index of each copy's original.
    """
    drawn, _ = balanced_draws(np.asarray(labels), copies, np.random.default_rng(seed))
    return np.concatenate(drawn).astype(np.int64)


def augment_then_split(
    prepared: Prepared,
    *,
    copies: int = 2000,
    val: float = 0.2,
    augmentation: Augmentation = MIRRORED_AND_REEXPOSED,
    seed: int = 0,
) -> Prepared:
    """The flawed way: balanced augmented copies of the training images, split by copy at random.

    Validation and test images take no part in it. The copies keep their original's path, hash and group, so that the
    leak can be counted: see `shared_with_training`.

    Args:
        prepared: Honestly split images.
        copies: Number of copies in all.
        val: Share of the copies for validation.
        augmentation: Limits of the changes to a copy.
        seed: Decides the copies and the split.

    Returns:
        The copies, in memory, with a split that must not be believed.
    """
    rows = prepared.rows("train")
    origins = rows[balanced_origins(prepared.labels[rows], copies=copies, seed=seed)]
    held_out = np.random.default_rng([seed, copies]).permutation(copies) < round(val * copies)
    images = augmented_copies(prepared.images, origins, augmentation=augmentation, seed=seed)
    return replace(_of(prepared, origins, images, held_out), leaks_on_purpose=True)


def split_then_augment(
    prepared: Prepared,
    *,
    copies: int = 2000,
    val: float = 0.2,
    augmentation: Augmentation = MIRRORED_AND_REEXPOSED,
    seed: int = 0,
) -> Prepared:
    """The right way on the same copies: validated on as many copies of the validation images.

    Args:
        prepared: Honestly split images.
        copies: As for `augment_then_split`.
        val: As for `augment_then_split`.
        augmentation: As for `augment_then_split`.
        seed: As for `augment_then_split`.

    Returns:
        The copies, in memory: the training copies of `augment_then_split`, and copies of validation images.
    """
    rows = prepared.rows("val")
    flawed = augment_then_split(prepared, copies=copies, val=val, augmentation=augmentation, seed=seed)
    train, held_out = flawed.rows("train"), len(flawed.rows("val"))
    origins = rows[balanced_origins(prepared.labels[rows], copies=held_out, seed=seed)]
    images = augmented_copies(prepared.images, origins, augmentation=augmentation, seed=seed)
    known = dict(zip(prepared.hashes, range(len(prepared.hashes)), strict=True))
    every = np.concatenate([[known[value] for value in flawed.hashes[train]], origins])
    return _of(prepared, every, np.concatenate([flawed.images[train], images]), np.arange(len(every)) >= len(train))


def _of(prepared: Prepared, origins: NDArray[np.int64], images: NDArray[np.uint8], held_out: NDArray) -> Prepared:
    import pandas as pd

    table = prepared.table.iloc[origins].reset_index(drop=True)
    table["split"] = pd.array(np.where(held_out, "val", "train").tolist(), dtype="string[python]")
    return replace(prepared, table=table, images=images, hashes=prepared.hashes[origins])


def shared_with_training(prepared: Prepared, *, groups: ArrayLike | None = None) -> float:
    """The share of validation images with an image of their own group in the training part: 0 where nothing leaks.

    Args:
        prepared: Split images.
        groups: (n,) groups to go by, such as those that `audit.near_duplicate_groups` found; None for the known ones.
    """
    names = prepared.groups if groups is None else np.asarray(groups)
    return float(np.isin(names[prepared.rows("val")], names[prepared.rows("train")]).mean())
