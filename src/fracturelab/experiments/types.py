"""Fracture types: images of several classes, a small CNN trained on them, and its scores on each part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.types_cnn import build_types_cnn
from fracturelab.training.epochs import Schedule, predict
from fracturelab.training.fitting import Fit, train_network
from fracturelab.training.prepare import Prepared, prepare
from fracturelab.training.v2 import VIEW_AUGMENTATION

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from fracturelab.evaluation import MulticlassEvaluation

PARTS = ("train", "val", "test")
TYPES = Schedule(epochs=30, learning_rate=1e-3, dropout=0.4, patience=10, plateau=4)
BLOCK_DROPOUT = 0.1


def types_data(folder: str | Path | None = None, *, size: int = 128, seed: int = 0, per_kind: int = 200) -> Prepared:
    """Read the images of the notebook on fracture types.

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
    table: pd.DataFrame, *, size: int = 128, seed: int = 0, cache_dir: str | Path | Literal[False] | None = None
) -> Prepared:
    """Read the images of known fracture type and split them by group, stratified by type.

    A published test part is kept. Training images with a near-duplicate in it are left out.

    Args:
        table: The data set's table; rows without a `kind` are left out.
        size: Side of the square images in pixels.
        seed: Decides the split.
        cache_dir: Folder of decoded images; None for the default, False for none.

    Returns:
        The images; `label` is the number of the type in `class_names`, which are sorted.

    Raises:
        FracturelabError: Fewer than three types, or a part that would lack one.
    """
    names = tuple(sorted(set(table["kind"].dropna())))
    if len(names) < 3:
        raise FracturelabError(
            f"expected images of at least 3 fracture types, such as folders named 'Spiral fracture'. "
            f"Received: {', '.join(names) or 'none with a known type'}"
        )
    numbers = {name: number for number, name in enumerate(names)}
    table = table.assign(label=table["kind"].map(numbers).astype("Int64"))
    options: dict[str, Any] = {"cache_dir": cache_dir, "progress": False}
    prepared = prepare(table, size=size, seed=seed, class_names=names, **options)
    for part in PARTS:
        missing = set(range(len(names))) - set(prepared.labels[prepared.rows(part)])
        if missing:
            raise FracturelabError(
                f"expected every fracture type in the {part} part. Received: none of {names[min(missing)]}; add images"
            )
    return prepared


def train_types_cnn(
    prepared: Prepared,
    *,
    seed: int = 0,
    schedule: Schedule = TYPES,
    block_dropout: float = BLOCK_DROPOUT,
    progress: bool = False,
) -> Fit:
    """Train `build_types_cnn` in Keras on TensorFlow.

    Args:
        prepared: From `prepare_types`.
        seed: Initial weights, order, augmentation and dropout follow from it; two runs with one seed are equal.
        schedule: Settings of the training.
        block_dropout: Share of its activations that each block leaves out while training.
        progress: Show a progress bar.

    Returns:
        The fit; its model is the reloaded checkpoint of the best epoch.

    Raises:
        FracturelabError: A class is missing in training or validation, or the loss is not finite from the start.
    """
    shape = {"input_size": prepared.size, "classes": len(prepared.class_names)}
    return train_network(
        lambda: build_types_cnn(**shape, block_dropout=block_dropout, dropout=schedule.dropout),
        prepared,
        name="keras",
        schedule=schedule,
        seed=seed,
        augmentation=VIEW_AUGMENTATION,
        recipe={"recipe": "types-keras", "block_dropout": block_dropout},
        progress=progress,
    )


def score_types(fit: Fit) -> dict[str, tuple[NDArray[np.float32], MulticlassEvaluation]]:
    """Score a model on every part of its data.

    Args:
        fit: A fit on images from `prepare_types`.

    Returns:
        Part ("train", "val", "test") to probabilities (n, classes) and their evaluation, with intervals over groups.
    """
    from fracturelab.evaluation import multiclass_metrics

    prepared, scores = fit.prepared, {}
    for part in PARTS:
        rows = prepared.rows(part)
        probabilities = predict(fit.model, prepared.images, rows=rows)
        classes: dict[str, Any] = {"class_names": prepared.class_names, "groups": prepared.groups[rows]}
        scores[part] = (probabilities, multiclass_metrics(prepared.labels[rows], probabilities, **classes))
    return scores
