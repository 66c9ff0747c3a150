"""A heat map of one radiograph, in one call."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.explanations.gradcam import grad_cam
from fracturelab.explanations.overlay import on_radiograph, to_unit


def explain(model: Any, image: ArrayLike | str | os.PathLike[str]) -> NDArray[np.float32]:
    """Compute the Grad-CAM map of one radiograph; `plots.heat_overlay(image, heat)` draws it.

    Args:
        model: A model of this project: the Keras model, a fit, or a predictor.
        image: A file, or uint8 (h, w) or (h, w, 1), bone bright.

    Returns:
        float32 (h, w), 0 to 1: where the image counts towards "fractured", at the size of the radiograph.

    Raises:
        FracturelabError: The file cannot be read, or the model has no feature maps.
    """
    from fracturelab.images import letterbox, read_image

    network = getattr(model, "model", model)
    if network is None:  # a compiled runtime has no feature maps
        from fracturelab.models.files import load_model

        network = load_model(model.path)
    pixels = read_image(image) if isinstance(image, str | os.PathLike) else np.asarray(image)
    size = int(network.inputs[0].shape[1])
    square = letterbox(pixels, size).reshape(1, size, size, 1)
    return on_radiograph(to_unit(grad_cam(network, square)[0]), pixels.shape[:2])
