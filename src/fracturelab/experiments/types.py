"""Fracture types: images of several classes to train and test on, and scores of a model on each part of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.training.fitting import Fit, predict
from fracturelab.training.prepare import Prepared

if TYPE_CHECKING:
    import pandas as pd

    from fracturelab.evaluation import MulticlassEvaluation

PARTS = ("train", "val", "test")


def types_data(folder: str | Path | None = None, *, size: int = 128, seed: int = 0, per_kind: int = 200) -> Prepared:
    """Read what the notebook on fracture types trains and tests on.

    Args:
        folder: A folder of X-rays with known types, such as the public one of ten (`Avulsion fracture/Train/...`,
            `.../Test/...`). None for synthetic ones, written to the cache folder on first use.
        size: Side of the square images in pixels.
        seed: Decides the split.
        per_kind: Number of synthetic images of each type.

    Returns:
        The images, split by group.

    Raises:
        FracturelabError: As `datasets.read_dataset` and `prepare_types`.
    """
    from fracturelab.datasets import read_dataset

    if folder is None:
        from fracturelab.phantoms import default_data

        folder = default_data("types", n=per_kind)
    return prepare_types(read_dataset(folder), size=size, seed=seed)


def prepare_types(
    table: pd.DataFrame,
    *,
    size: int = 128,
    seed: int = 0,
    val: float = 0.15,
    test: float = 0.15,
    cache_dir: str | Path | Literal[False] | None = None,
) -> Prepared:
    """Read the images of known fracture type and split them by group, stratified by type.

    A published test part is kept as it is; training images with a near-duplicate in it are left out, so that its score
    is not one of memory.

    Args:
        table: The data set's table; rows without a `kind` are left out.
        size: Side of the square images in pixels.
        seed: Decides the split.
        val: Share of the images for validation, where none is published.
        test: Share of the images for the test, where none is published.
        cache_dir: Folder of decoded images; None for the default, False for none.

    Returns:
        The images; `label` is the number of the type in `class_names`, which are sorted.

    Raises:
        FracturelabError: Fewer than three types, or a part that would lack one.
    """
    import pandas as pd

    from fracturelab import audit, images, splits
    from fracturelab.datasets import file_hashes

    table = table[table["kind"].notna()].reset_index(drop=True)
    names = tuple(sorted(set(table["kind"])))
    if len(names) < 3:
        raise FracturelabError(
            f"expected images of at least 3 fracture types, such as folders named 'Spiral fracture'. "
            f"Received: {', '.join(names) or 'none with a known type'}"
        )
    pixels, reasons = images.load_readable_images(table["path"].tolist(), size, cache_dir=cache_dir)
    bad = sorted(reasons)
    unreadable = pd.DataFrame(
        {"path": table["path"].iloc[bad].tolist(), "reason": [reasons[row] for row in bad]}, dtype=object
    )
    if bad:
        table = table.drop(index=bad).reset_index(drop=True)
        pixels = images.load_images(table["path"].tolist(), size, cache_dir=cache_dir)
    numbers = [names.index(kind) for kind in table["kind"]]
    table = table.assign(label=pd.array(numbers, dtype="Int64"))
    hashes = np.asarray(file_hashes(table["path"].tolist()), dtype=str)
    table = audit.with_groups(table)
    table = splits.holdout_split(table, val=val, test=test, seed=seed)
    for part in PARTS:
        missing = set(names) - set(table.loc[(table["split"] == part).fillna(False), "kind"])
        if missing:
            raise FracturelabError(
                f"expected every fracture type in the {part} part. Received: none of {sorted(missing)[0]}; add images"
            )
    return Prepared(table, pixels, hashes, unreadable, names)


def score_types(fit: Fit, prepared: Prepared) -> dict[str, tuple[NDArray[np.float32], MulticlassEvaluation]]:
    """Ask a model about every part of its data.

    Args:
        fit: A fit on `prepared`.
        prepared: From `prepare_types`.

    Returns:
        Part ("train", "val", "test") to probabilities (n, classes) and their evaluation, with intervals over groups.
    """
    from fracturelab.evaluation import multiclass_metrics

    found = {}
    for part in PARTS:
        rows = prepared.rows(part)
        probabilities = predict(fit.model, prepared.images, rows=rows)
        scores = multiclass_metrics(
            prepared.labels[rows], probabilities, class_names=prepared.class_names, groups=prepared.groups[rows]
        )
        found[part] = (probabilities, scores)
    return found
