"""Occlusion (Zeiler and Fergus 2014): hide a patch and measure how far the answer falls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Predict = Callable[[NDArray], NDArray]
"""uint8 or float32 (n, size, size, 1), grey levels 0..255, to (n,) P(fractured)."""


def blurred(images: NDArray) -> NDArray[np.float32]:
    """Images without detail, to hide parts with: a black or grey patch would itself look like an edge or an implant.

    Args:
        images: (n, size, size, 1); the standard deviation of the blur is 0.08 of the side.
    """
    from scipy.ndimage import gaussian_filter

    sigma = 0.08 * images.shape[1]
    return gaussian_filter(np.asarray(images, np.float32), (0, sigma, sigma, 0))


def logit(probabilities: NDArray) -> NDArray[np.float64]:
    """Log odds, finite for probabilities of 0 and 1 as well."""
    from scipy import special

    return special.logit(np.clip(np.asarray(probabilities, np.float64), 1e-6, 1 - 1e-6))


def occlusion_maps(
    predict: Predict, images: NDArray, *, patch: float = 0.15, stride: float = 0.075
) -> NDArray[np.float32]:
    """Occlusion maps: by how many logits the answer falls when the patches over a pixel are blurred, on average.

    Args:
        predict: Images to P(fractured), such as `Predictor.predict`.
        images: uint8 or float (n, size, size, 1), grey levels 0..255.
        patch: Side of a patch as a share of the image's side.
        stride: Step between patches, as a share of the side; the cost goes with its inverse square.

    Returns:
        float32 (n, size, size).
    """
    if not 0 < stride <= patch <= 1:
        raise ValueError(f"expected 0 < stride <= patch <= 1. Received: stride {stride}, patch {patch}")
    size = images.shape[1]
    side, step = max(1, round(patch * size)), max(1, round(stride * size))
    starts = sorted({*range(0, size - side, step), size - side})
    places = [np.s_[y : y + side, x : x + side] for y in starts for x in starts]
    count = np.zeros((size, size), np.float32)
    for place in places:
        count[place] += 1
    result = np.zeros((len(images), size, size), np.float32)
    veils = blurred(images)
    for number, image in enumerate(np.asarray(images, np.float32)):
        before = logit(predict(image[np.newaxis]))[0]
        for start in range(0, len(places), 32):
            part = places[start : start + 32]
            hidden = np.repeat(image[np.newaxis], len(part), axis=0)
            for row, place in zip(hidden, part, strict=True):
                row[place] = veils[number][place]
            for fall, place in zip(before - logit(predict(hidden)), part, strict=True):
                result[number][place] += fall
        result[number] /= count
    return np.maximum(result, 0)
