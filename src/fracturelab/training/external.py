"""What to train on and, apart from it, what to be honest with: the same two in every notebook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fracturelab.training.prepare import Prepared, prepare

if TYPE_CHECKING:
    from fracturelab.evaluation import Evaluation
    from fracturelab.training.fitting import Fit


@dataclass(frozen=True)
class Outside:
    """Labelled images that no training run sees, neither to learn nor to choose by.

    Attributes:
        name: What they are, in words.
        images: uint8 (n, size, size, 1), bone bright.
        labels: (n,) 0 normal, 1 fractured.
        groups: (n,) patient or set of near-duplicates.
        paths: Their files.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    paths: list[str]


def inside_and_outside(folder: str | Path | None = None, *, size: int, seed: int = 0) -> tuple[Prepared, Outside]:
    """Read what notebooks train on, and what they test on at the end.

    Args:
        folder: A folder of X-rays: its published or fixed test part, or else 15% cut from it by group, is the outside.
            None for the embedded default: synthetic X-rays of one source to train on, all those of another outside.
        size: Side of the square images in pixels.
        seed: Decides the split.

    Returns:
        The images to train and validate on, and those outside.

    Raises:
        FracturelabError: As `datasets.read_dataset` and `prepare`.
    """
    from fracturelab.datasets import read_dataset

    if folder is not None:
        prepared = prepare(read_dataset(folder), size=size, seed=seed, progress=False)
        images, labels, groups = prepared.part("test")
        return prepared, Outside("held-out test part", images, labels, groups, prepared.paths("test"))
    from fracturelab.phantoms import default_data

    prepared = prepare(read_dataset(default_data("clinic")), size=size, seed=seed, val=0.2, test=0.0, progress=False)
    return prepared, _outside(default_data("field"), "another source (synthetic)", size)


def same_source_unseen(*, size: int) -> Outside:
    """Other synthetic X-rays of the source that the embedded default is of: new patients of the same hospital.

    Args:
        size: Side of the square images in pixels.
    """
    from fracturelab.phantoms import default_data

    return _outside(default_data("unseen"), "same source, unseen (synthetic)", size)


def _outside(folder: Path, name: str, size: int) -> Outside:
    from fracturelab.datasets import read_dataset
    from fracturelab.images import load_images

    table = read_dataset(folder)
    paths = table["path"].tolist()
    labels, groups = table["label"].to_numpy(np.int64), table["group"].to_numpy(str)
    return Outside(name, np.asarray(load_images(paths, size)), labels, groups, paths)


def score(
    fit: Fit, images: NDArray[np.uint8], labels: NDArray[np.int64], groups: NDArray[np.str_] | None = None
) -> tuple[NDArray[np.float32], Evaluation]:
    """Ask a fitted model about images, at the fit's own threshold.

    Args:
        fit: The fit; its model is the reloaded checkpoint.
        images: uint8 (n, size, size, 1), size as the model was trained.
        labels: (n,) 0 normal, 1 fractured.
        groups: (n,) patient or set of near-duplicates; None for every image its own.

    Returns:
        P(fractured) of each image, and its evaluation with intervals.
    """
    from fracturelab.evaluation import evaluate
    from fracturelab.training.fitting import predict

    probabilities = predict(fit.model, images)
    return probabilities, evaluate(labels, probabilities, threshold=fit.threshold, groups=groups)
