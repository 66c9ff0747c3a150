"""From a table to what a fit needs: readable images at one size, groups, and a split that keeps groups whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

    from fracturelab.models.weights import WeightsInfo

CLASS_NAMES = ("normal", "fractured")


@dataclass(frozen=True)
class Prepared:
    """Images of one size with their labels, groups and split; row i of everything is the same image.

    Attributes:
        table: The readable, labelled rows, with `group` and `split` filled; rows a split leaves out have <NA> there.
        images: uint8 (n, size, size, 1), bone bright; usually a read-only memory map.
        hashes: (n,) sha256 of each file.
        unreadable: Columns path and reason: files that were left out.
        class_names: What labels 0, 1 and so on mean.
        leaks_on_purpose: The split tears groups apart to show what that does: it is recorded, and not warned of.
    """

    table: pd.DataFrame
    images: NDArray[np.uint8]
    hashes: NDArray[np.str_]
    unreadable: pd.DataFrame
    class_names: tuple[str, ...] = field(default=CLASS_NAMES)
    leaks_on_purpose: bool = False

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[1])

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) 0 normal, 1 fractured."""
        return self.table["label"].to_numpy(np.int64)

    @property
    def groups(self) -> NDArray[np.str_]:
        """(n,) what must not be on two sides: patient or set of near-duplicates."""
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
    size: int,
    seed: int = 0,
    val: float = 0.15,
    test: float = 0.15,
    cache_dir: str | Path | Literal[False] | None = None,
    progress: bool = True,
) -> Prepared:
    """Read the images of a table and make sure that they can be trained on.

    Unreadable files are left out and listed. Groups are filled where they are missing, and patients who share
    near-duplicates become one (`audit.with_groups`); the project's fixed parts of FracAtlas are kept where they occur,
    and what has no split yet is split by group.

    Args:
        table: The data set's table.
        size: Side of the square images in pixels.
        seed: Decides the split.
        val: Share of the images for validation, where none is published.
        test: Share of the images for the test, where none is published.
        cache_dir: Folder of decoded images; None for the default, False for none.
        progress: Show a progress bar while files are read.

    Returns:
        The images with their labels, groups and split.

    Raises:
        FracturelabError: No labelled and readable image, one class only, or a side that would lack a class.
    """
    from fracturelab import audit, images, splits
    from fracturelab.datasets import file_hashes

    table = table[table["label"].notna()].reset_index(drop=True)
    if table.empty:
        raise FracturelabError("expected images with labels to train on. Received: none that has one")
    pixels, reasons = images.load_readable_images(table["path"].tolist(), size, cache_dir=cache_dir, progress=progress)
    unreadable = _listed(table, reasons)
    if reasons:
        keep = np.setdiff1d(np.arange(len(table)), np.fromiter(reasons, np.int64))
        if not len(keep):
            raise FracturelabError(
                f"none of the {len(table)} images can be read; the first: {next(iter(reasons.values()))}"
            )
        table = table.iloc[keep].reset_index(drop=True)
        pixels = images.load_images(table["path"].tolist(), size, cache_dir=cache_dir, progress=progress)
    missing = [name for label, name in enumerate(CLASS_NAMES) if not (table["label"] == label).any()]
    if missing:
        raise FracturelabError(f"expected images of both classes. Received: {len(table)}, none of them {missing[0]}")
    hashes = file_hashes(table["path"].tolist())
    table = audit.with_groups_and_parts(table, progress=progress)
    table = splits.holdout_split(table, val=val, test=test, seed=seed)
    return Prepared(table, pixels, np.asarray(hashes, dtype=str), unreadable)


def prepare_arrays(
    images: NDArray[np.uint8],
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    source: str,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
) -> Prepared:
    """Images that never were files, such as phantoms, ready to train on.

    Args:
        images: uint8 (n, size, size, 1), bone bright.
        labels: (n,) 0 normal, 1 fractured.
        groups: (n,) what must not be on two sides.
        source: What they are.
        val: Share of the images for validation.
        test: Share of the images for the test.
        seed: Decides the split.

    Returns:
        The same as `prepare`; the table's paths are names, and `hashes` are of the pixels.
    """
    import hashlib

    import pandas as pd

    from fracturelab.datasets.table import COLUMNS, make_table
    from fracturelab.splits import holdout_split

    n = len(images)
    known = {"path": [f"{source} {number}" for number in range(n)], "label": np.asarray(labels, np.int64)}
    known |= {"group": np.asarray(groups).astype(str), "source": source}
    # `make_table` would sort the rows by path.
    table = pd.DataFrame(known).reindex(columns=COLUMNS).astype(make_table([]).dtypes)
    hashes = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images], dtype=np.str_)
    return Prepared(holdout_split(table, val=val, test=test, seed=seed), images, hashes, _listed(table, {}))


def at_size(
    prepared: Prepared, size: int, *, cache_dir: str | Path | Literal[False] | None = None, progress: bool = True
) -> Prepared:
    """The same images, groups and split at another size, without auditing them again."""
    from fracturelab.images import load_images

    if size == prepared.size:
        return prepared
    pixels = load_images(prepared.table["path"].tolist(), size, cache_dir=cache_dir, progress=progress)
    return replace(prepared, images=pixels)


def shared_groups(prepared: Prepared) -> list[str]:
    """Say where parts share groups, that is patients or near-duplicates: scores on such parts are too good.

    Args:
        prepared: Split images.

    Returns:
        A sentence for each part of which some images have a group in a part that the model learns from or is chosen
        with; none where groups are whole, as `prepare` leaves them.
    """
    groups, found = prepared.groups, []
    for name, other in (("val", "train"), ("test", "train"), ("test", "val")):
        rows, others = prepared.rows(name), prepared.rows(other)
        shared = int(np.isin(groups[rows], groups[others]).sum())
        if shared:
            found.append(
                f"{shared} of the {len(rows)} {name} images share a group (a patient, or copies) with {other} images: "
                f"scores on {name} are too good."
            )
    return found


def known_to_weights(prepared: Prepared, weights: WeightsInfo | None) -> list[str]:
    """Say where weights have learned from the labels of these very images.

    Args:
        prepared: Images.
        weights: What a model starts from; None for none.

    Returns:
        A sentence if the weights come from FracAtlas and so do the images; else nothing.
    """
    from fracturelab.splits import fracatlas_sentence

    if weights is None or "FracAtlas" not in weights.origin or fracatlas_sentence(prepared.table) is None:
        return []
    return [
        f"The {weights.name} weights have learned from training X-rays of FracAtlas and their labels: scores on "
        "validation images or folds of them are too good, and what is chosen there, such as a threshold, is not chosen "
        "on new images. Only the fixed test part was never seen."
    ]


def _listed(table: pd.DataFrame, reasons: dict[int, str]) -> pd.DataFrame:
    import pandas as pd

    paths = [table["path"].iloc[index] for index in reasons]
    return pd.DataFrame({"path": paths, "reason": list(reasons.values())}, columns=["path", "reason"], dtype=object)
