"""The data of the notebooks: images to train on, and an external test set that no training uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fracturelab.training.epochs import predict
from fracturelab.training.prepare import Prepared, prepare

if TYPE_CHECKING:
    from fracturelab.evaluation import Evaluation
    from fracturelab.training.fitting import Fit


@dataclass(frozen=True)
class ExternalSet:
    """Labelled images that are used neither to train a model nor to choose one.

    Attributes:
        name: Description for tables and plots.
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


def prepare_with_external(
    folder: str | Path | None = None, *, size: int, seed: int = 0
) -> tuple[Prepared, ExternalSet]:
    """Read the images that a notebook trains on, and those that it tests on at the end.

    Args:
        folder: A folder of X-rays. Its external set is its published or fixed test part, or else 15% split off by
            group. None for the embedded default: synthetic X-rays of one source to train on, and of another source as
            the external set.
        size: Side of the square images in pixels.
        seed: Decides the split.

    Returns:
        The images to train and validate on, and the external set.

    Raises:
        FracturelabError: As `datasets.read_dataset` and `prepare`.
    """
    from fracturelab.datasets import read_dataset

    if folder is not None:
        prepared = prepare(read_dataset(folder), size=size, seed=seed, progress=False)
        images, labels, groups = prepared.part("test")
        return prepared, ExternalSet("held-out test part", images, labels, groups, prepared.paths("test"))
    from fracturelab.phantoms import default_data

    prepared = prepare(read_dataset(default_data("clinic")), size=size, seed=seed, val=0.2, test=0.0, progress=False)
    return prepared, _external(default_data("field"), "another source (synthetic)", size)


def unseen_of_same_source(*, size: int) -> ExternalSet:
    """Read synthetic X-rays of new patients from the source of the embedded default.

    Args:
        size: Side of the square images in pixels.
    """
    from fracturelab.phantoms import default_data

    return _external(default_data("unseen"), "same source, unseen (synthetic)", size)


def _external(folder: Path, name: str, size: int) -> ExternalSet:
    from fracturelab.datasets import read_dataset
    from fracturelab.images import load_images

    table = read_dataset(folder)
    paths = table["path"].tolist()
    labels, groups = table["label"].to_numpy(np.int64), table["group"].to_numpy(str)
    return ExternalSet(name, np.asarray(load_images(paths, size)), labels, groups, paths)


def score(
    fit: Fit, images: NDArray[np.uint8], labels: NDArray[np.int64], groups: NDArray[np.str_] | None = None
) -> tuple[NDArray[np.float32], Evaluation]:
    """Score a fit on labelled images, at its own threshold.

    Args:
        fit: The fit.
        images: uint8 (n, size, size, 1), of the size that the model was trained on.
        labels: (n,) 0 normal, 1 fractured.
        groups: (n,) patient or set of near-duplicates; None for a group for each image.

    Returns:
        P(fractured) of each image, and its evaluation with intervals.
    """
    from fracturelab.evaluation import evaluate

    probabilities = predict(fit.model, images)
    return probabilities, evaluate(labels, probabilities, threshold=fit.threshold, groups=groups)
