"""Do heat maps point at the fractures of real X-rays: every method against the outlines of FracAtlas' test part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.datasets.fractures import fracture_masks
from fracturelab.errors import FracturelabError
from fracturelab.explanations import centre_maps, grad_cam, lime_maps, occlusion_maps, random_maps, shap_maps
from fracturelab.explanations.gradcam import OwnMap
from fracturelab.explanations.overlay import stretch
from scripts.localisation import localisation_scores

if TYPE_CHECKING:
    import keras
    import pandas as pd

Maps = Callable[[NDArray], NDArray[np.float32]]


def training_mean(table: pd.DataFrame, size: int) -> NDArray[np.float32]:
    """Where fractures of the training X-rays lie, on average: float32 (size, size), smoothed by 2% of the side."""
    from scipy.ndimage import gaussian_filter

    training = table[(table["label"] == 1) & (table["split"] == "train").fillna(False)]
    if training.empty:
        raise FracturelabError("expected fractured X-rays of FracAtlas outside its test part. Received: none")
    return gaussian_filter(fracture_masks(training, size).masks.mean(axis=0), 0.02 * size).astype(np.float32)


def cheap_methods(model: keras.Model, layer: str | None, mean: NDArray, *, seed: int) -> dict[str, Maps]:
    """The methods that take a pass or less: from images (n, size, size, 1) to maps (n, size, size).

    Args:
        model: A model of this project.
        layer: The layer that is its own map, from its card; None for none.
        mean: Of `training_mean`.
        seed: Of the random maps.
    """
    size = len(mean)
    methods: dict[str, Maps] = {
        "Grad-CAM": lambda images: grad_cam(model, images),
        "centre": lambda images: centre_maps(len(images), size),
        "random": lambda images: random_maps(len(images), size, seed=seed),
        "mean of training outlines": lambda images: np.repeat(mean[None], len(images), axis=0),
    }
    if layer is not None:
        own = OwnMap(model, layer)
        methods["the model's own map"] = lambda images: np.clip(stretch(own(images)[1], (size, size)), 0, 1)
    return methods


def costly_methods(predict: Callable[[NDArray], NDArray], *, seed: int) -> dict[str, Maps]:
    """The methods that ask the model hundreds of times an image."""
    return {
        "occlusion": lambda images: occlusion_maps(predict, images),
        "LIME": lambda images: lime_maps(predict, images, seed=seed),
        "SHAP": lambda images: shap_maps(predict, images, seed=seed),
    }


def score_methods(
    methods: Mapping[str, Maps], images: NDArray, table: pd.DataFrame, answers: NDArray, *, seed: int
) -> dict[str, dict[str, Any]]:
    """Scores of each method on the rows of a table, as mappings ready for JSON."""
    truth = fracture_masks(table, images.shape[1])
    return {
        name: {
            key: interval.to_dict()
            for key, interval in localisation_scores(
                method(images), truth.masks, truth.boxes, answers, groups=table["group"], seed=seed
            ).items()
        }
        for name, method in methods.items()
    }


def subset(table: pd.DataFrame, each: int, *, seed: int) -> NDArray[np.int64]:
    """Rows of at most `each` fractured and as many normal X-rays, ascending."""
    labels, order = table["label"].to_numpy(int), np.random.default_rng(seed).permutation(len(table))
    return np.sort(np.concatenate([order[labels[order] == label][:each] for label in (1, 0)]))
