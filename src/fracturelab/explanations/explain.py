"""A heat map of one radiograph, in one call."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.explanations.gradcam import GradCam
from fracturelab.explanations.overlay import on_radiograph, stretch, to_unit


def explain(model: Any, image: ArrayLike | str | os.PathLike[str]) -> NDArray[np.float32]:
    """Compute the heat map of one radiograph, the model's own or Grad-CAM; `plots.heat_overlay(image, heat)` draws it.

    Args:
        model: A model of this project: the Keras model, a fit, or a predictor.
        image: A file, or uint8 (h, w) or (h, w, 1), bone bright.

    Returns:
        float32 (h, w), 0 to 1: where the image counts towards "fractured", at the size of the radiograph.

    Raises:
        FracturelabError: The file cannot be read, or the model has no feature maps.
    """
    from fracturelab.images import letterbox, read_image

    prepared = getattr(model, "explainer", None) or GradCam(getattr(model, "model", model))
    pixels = read_image(image) if isinstance(image, str | os.PathLike) else np.asarray(image)
    square = letterbox(pixels, prepared.size)[np.newaxis]
    heat = stretch(to_unit(prepared(square)[1], least=prepared.least), square.shape[1:3])
    return on_radiograph(heat[0], pixels.shape[:2])
