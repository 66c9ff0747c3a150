"""From a table to the input of a fit: readable images at one size, groups, and a split that keeps groups whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fracturelab.audit import usable_rows
from fracturelab.datasets.table import COLUMNS, make_table
from fracturelab.errors import FracturelabError
from fracturelab.images import load_images
from fracturelab.models.transfer import default_input_size
from fracturelab.models.weights import WeightsInfo
from fracturelab.splits import fracatlas_sentence, holdout_split

CLASS_NAMES = ("normal", "fractured")
SIZE = 128
"""Side of the images in pixels, where neither a size nor weights are given: that of v1."""


@dataclass(frozen=True, repr=False)
class Prepared:
    """Images of one size with their labels, groups and split; row i of everything is the same image.

    Attributes:
        table: The readable, labelled rows, with `group` and `split` filled; rows a split leaves out have <NA> there.
        images: uint8 (n, size, size, 1), bone bright; usually a read-only memory map.
        hashes: (n,) sha256 of each file.
        unreadable: Columns path and reason: files that were left out.
        class_names: Names of the labels 0, 1 and so on.
        leaks_on_purpose: The split separates images of a group to show the effect: that is recorded without a warning.
    """

    table: pd.DataFrame
    images: NDArray[np.uint8]
    hashes: NDArray[np.str_]
    unreadable: pd.DataFrame
    class_names: tuple[str, ...] = field(default=CLASS_NAMES)
    leaks_on_purpose: bool = False

    def __repr__(self) -> str:
        parts = [f"{name} {len(self.rows(name))}" for name in ("train", "val", "test")]
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        classes = [f"{count} {name}" for count, name in zip(counts, self.class_names, strict=True)]
        left_out = [f"{len(self.unreadable)} unreadable"] if len(self.unreadable) else []
        return f"Prepared({self.size} px; {', '.join(parts)}; {', '.join(classes + left_out)})"

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[1])

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) class of each image: 0 normal, 1 fractured."""
        return self.table["label"].to_numpy(np.int64)

    @property
    def groups(self) -> NDArray[np.str_]:
        """(n,) patient or set of near-duplicates; all images of a group are in one part."""
        return self.table["group"].to_numpy(str)

    def rows(self, name: str) -> NDArray[np.int64]:
        """Indices of the images of one part: "train", "val" or "test"."""
        return np.flatnonzero((self.table["split"] == name).fillna(False).to_numpy(bool))

    def part(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.str_]]:
        """Images (a copy in memory), labels and groups of one part."""
        rows = self.rows(name)
        return np.asarray(self.images[rows]), self.labels[rows], self.groups[rows]

    def paths(self, name: str) -> list[str]:
        """Files of one part."""
        return self.table["path"].iloc[self.rows(name)].tolist()


def prepare(
    table: pd.DataFrame,
    *,
    size: int | None = None,
    weights: WeightsInfo | None = None,
    seed: int = 0,
    val: float = 0.15,
    test: float = 0.15,
    class_names: tuple[str, ...] = CLASS_NAMES,
    turned: bool = False,
    cache_dir: str | Path | Literal[False] | None = None,
    progress: bool = True,
) -> Prepared:
    """Read the images of a table and check that a model can be trained on them.

    Unreadable files are left out and listed. Missing groups are filled, and patients who share near-duplicates become
    one group (`audit.with_groups`). The project's fixed parts of FracAtlas are kept where they occur. Images without a
    split are split by group.

    Args:
        table: The data set's table; rows without a label are left out.
        size: Side of the square images in pixels; None for the natural size of `weights`, or 128 without weights.
        weights: The weights that a transfer model will start from.
        seed: Decides the split.
        val: Share of the images for validation, where none is published.
        test: Share of the images for the test, where none is published.
        class_names: Names of the labels 0, 1 and so on.
        turned: Copies that were turned by some degrees or cropped are one group, too; see `audit.turned`.
        cache_dir: Folder of decoded images; None for the default, False for none.
        progress: Show a progress bar while files are read.

    Returns:
        The images with their labels, groups and split.

    Raises:
        FracturelabError: No image has a label and can be read, a class is missing, or a part would lack a class.
    """
    if size is None:
        size = SIZE if weights is None else default_input_size(weights.backbone, weights)
    if table["label"].isna().all():
        raise FracturelabError("expected images with labels to train on. Received: none that has one")
    table, unreadable = usable_rows(table, turned=turned, progress=progress)
    if table.empty:
        raise FracturelabError(
            f"none of the {len(unreadable)} images can be read; the first: {unreadable['reason'].iloc[0]}"
        )
    missing = [name for label, name in enumerate(class_names) if not (table["label"] == label).any()]
    if missing:
        raise FracturelabError(f"expected images of both classes. Received: {len(table)}, none of them {missing[0]}")
    hashes = table.pop("sha256").to_numpy(str)
    table = holdout_split(table, val=val, test=test, seed=seed)
    pixels = load_images(table["path"].tolist(), size, cache_dir=cache_dir, progress=progress)
    return Prepared(table, pixels, hashes, unreadable, class_names)


def prepare_arrays(
    images: NDArray[np.uint8], labels: ArrayLike, groups: ArrayLike, *, source: str, val: float = 0.2, seed: int = 0
) -> Prepared:
    """Prepare images that are no files, such as phantoms.

    Args:
        images: uint8 (n, size, size, 1), bone bright.
        labels: (n,) 0 normal, 1 fractured.
        groups: (n,) patient or set of near-duplicates.
        source: Name of the source.
        val: Share of the images for validation; there is no test part.
        seed: Decides the split.

    Returns:
        The images as `prepare` returns them; paths in the table are names, and `hashes` are of the pixels.
    """
    n = len(images)
    known = {"path": [f"{source} {number}" for number in range(n)], "label": np.asarray(labels, np.int64)}
    known |= {"group": np.asarray(groups).astype(str), "source": source}
    # `make_table` would sort the rows by path.
    table = pd.DataFrame(known).reindex(columns=COLUMNS).astype(make_table([]).dtypes)
    hashes = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images], dtype=np.str_)
    return Prepared(
        holdout_split(table, val=val, test=0.0, seed=seed), images, hashes, pd.DataFrame(columns=["path", "reason"])
    )


def at_size(prepared: Prepared, size: int, *, progress: bool = True) -> Prepared:
    """The same images, groups and split at another size, without another search for near-duplicates."""
    if size == prepared.size:
        return prepared
    pixels = load_images(prepared.table["path"].tolist(), size, progress=progress)
    return replace(prepared, images=pixels)


def check_parts(prepared: Prepared) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Check that training and validation images hold every class, and return their rows.

    Raises:
        FracturelabError: A class is missing.
    """
    train, val = prepared.rows("train"), prepared.rows("val")
    for name, rows in (("training", train), ("validation", val)):
        missing = sorted(set(range(len(prepared.class_names))) - set(prepared.labels[rows].tolist()))
        if missing:
            raise FracturelabError(
                f"expected every class among the {name} images. Received: {len(rows)}, none of class {missing[0]}"
            )
    return train, val


def shared_groups(prepared: Prepared) -> list[str]:
    """Warn of parts that share groups, that is patients or near-duplicates: scores on such parts are too good.

    Args:
        prepared: Split images.

    Returns:
        A sentence for each part with images of a group that is also in a part that the model is trained on or chosen
        with. None if groups are whole, as `prepare` leaves them.
    """
    groups, sentences = prepared.groups, []
    for name, other in (("val", "train"), ("test", "train"), ("test", "val")):
        rows, others = prepared.rows(name), prepared.rows(other)
        shared = int(np.isin(groups[rows], groups[others]).sum())
        if shared:
            sentences.append(
                f"{shared} of the {len(rows)} {name} images share a group (a patient, or copies) with {other} images: "
                f"scores on {name} are too good."
            )
    return sentences


def known_to_weights(prepared: Prepared, weights: WeightsInfo | None) -> list[str]:
    """Warn of weights that were trained on the labels of these images.

    Args:
        prepared: Images.
        weights: The weights that a model starts from; None for none.

    Returns:
        A sentence if the weights come from FracAtlas and so do the images; else nothing.
    """
    if weights is None or "FracAtlas" not in weights.origin or fracatlas_sentence(prepared.table) is None:
        return []
    return [
        f"The {weights.name} weights have learned from training X-rays of FracAtlas and their labels: scores on "
        "validation images or folds of them are too good, and what is chosen there, such as a threshold, is not chosen "
        "on new images. Only the fixed test part was never seen."
    ]
