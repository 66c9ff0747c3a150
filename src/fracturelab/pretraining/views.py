"""Random views of a radiograph: where the camera could have been, and how the plate could have been exposed."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image


def random_view(image: np.ndarray, *, size: int, rng: np.random.Generator) -> np.ndarray:
    """Turn, shift, zoom, mirror and re-expose one radiograph.

    Args:
        image: uint8 (h, w) or (h, w, 1), bone bright.
        size: Side of the square view in pixels.
        rng: Source of randomness; the same state gives the same view.

    Returns:
        uint8 (size, size); what lies outside the radiograph is 0, as in `images.letterbox`.
    """
    pixels = image.reshape(image.shape[0], image.shape[1])
    height, width = pixels.shape
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.15:
        pixels = pixels[::-1]
    turn = math.radians(rng.normal(0, 10)) + math.pi / 2 * int(rng.choice([0, 1, 2, 3], p=[0.85, 0.06, 0.03, 0.06]))
    zoom = math.exp(rng.uniform(math.log(0.85), math.log(1.6)))
    scale = size / max(height, width) * zoom
    # The further in, the more freely the view may wander over the radiograph.
    reach = 0.08 + 0.5 * max(0.0, 1 - 1 / zoom)
    centre_x = width * (0.5 + rng.uniform(-reach, reach))
    centre_y = height * (0.5 + rng.uniform(-reach, reach))
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    half = size / 2
    coefficients = (
        cos, sin, centre_x - cos * half - sin * half,
        -sin, cos, centre_y + sin * half - cos * half,
    )  # fmt: skip
    source = Image.fromarray(np.ascontiguousarray(pixels))
    view = source.transform((size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC, fillcolor=0)
    return expose(np.asarray(view), rng=rng)


def expose(image: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Change gamma, contrast and brightness of a uint8 image, mildly; black stays black."""
    levels = np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(math.exp(rng.normal(0, 0.18)))
    levels = np.clip(levels * rng.uniform(0.8, 1.2) + rng.normal(0, 0.02) * (levels > 0.02), 0, 1)
    return (levels * 255 + 0.5).astype(np.uint8)[image]


def disturb(images: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Expose, and add noise to, a batch that a teacher saw undisturbed.

    Args:
        images: uint8 (n, h, w).
        rng: Source of randomness.

    Returns:
        float32 (n, h, w), 0..255.
    """
    result = np.stack([expose(image, rng=rng) for image in images]).astype(np.float32)
    strength = rng.uniform(0, 6, (len(images), 1, 1)).astype(np.float32)
    result += rng.standard_normal(result.shape, dtype=np.float32) * strength * (result > 4)
    return np.clip(result, 0, 255)
