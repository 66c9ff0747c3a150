"""From a map of the model's square input to heat over the radiograph as it was taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fracturelab.images.letterbox import picture_area

# Yellow to red, as in `plots.heat_overlay`: seen on white bone and on black background.
_WARM = np.array([[255, 240, 60], [255, 170, 20], [230, 30, 20]], np.float32)
_SHADES = 1024  # between them: neighbours differ by less than a grey level


def to_unit(maps: NDArray, *, least: float = 0.0) -> NDArray[np.float32]:
    """Bring maps to 0..1, each by its own maximum; what is negative becomes 0, and so does a map without heat.

    Args:
        maps: (h, w) or (n, h, w).
        least: A map whose maximum is lower stays below 1, so that little heat looks like little.
    """
    positive = np.maximum(np.nan_to_num(np.asarray(maps, np.float32), nan=0.0, posinf=0.0), 0)
    top = np.maximum(positive.max(axis=(-2, -1), keepdims=True), least)
    return np.divide(positive, top, out=np.zeros_like(positive), where=top > 0)


def stretch(heat: NDArray, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resize maps bilinearly.

    Args:
        heat: (h, w) or (n, h, w).
        shape: New height and width.

    Returns:
        float32, the maps at that shape.
    """
    if heat.ndim == 3:
        return np.array([stretch(single, shape) for single in heat], np.float32).reshape(-1, *shape)
    picture = Image.fromarray(np.ascontiguousarray(heat, np.float32))
    return np.asarray(picture.resize(shape[::-1], Image.Resampling.BILINEAR), np.float32)


def on_radiograph(heat: NDArray, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Undo the letterbox: the part of a square map that shows the picture, at the picture's own size.

    Args:
        heat: (size, size), a map of the letterboxed image.
        shape: Height and width of the radiograph.

    Returns:
        float32, of that shape.
    """
    if heat.ndim != 2 or heat.shape[0] != heat.shape[1]:
        raise ValueError(f"expected a square map. Received: {heat.shape}")
    return stretch(heat[picture_area(shape, heat.shape[0])], shape)


def blend(image: NDArray[np.uint8], heat: NDArray, *, opacity: float) -> NDArray[np.uint8]:
    """Lay heat over a radiograph; where there is no heat the bone stays as it is.

    Args:
        image: uint8 (h, w) or (h, w, 1).
        heat: (h, w) in 0..1.
        opacity: 0 shows the radiograph alone, 1 hides it where the heat is greatest.

    Returns:
        uint8 (h, w, 3).
    """
    grey = image.reshape(image.shape[:2])
    if heat.shape != grey.shape or not 0 <= opacity <= 1:
        raise ValueError(f"expected heat of shape {grey.shape} and opacity 0..1. Received: {heat.shape}, {opacity}")
    warm = np.clip(np.nan_to_num(heat.astype(np.float32)), 0, 1)[..., np.newaxis]
    place = np.linspace(0, 1, _SHADES)
    table = np.stack([np.interp(place, np.linspace(0, 1, len(_WARM)), channel) for channel in _WARM.T], axis=-1)
    colour = table.astype(np.float32)[np.rint(warm[..., 0] * (_SHADES - 1)).astype(np.intp)]
    base = grey.astype(np.float32)[..., np.newaxis]
    return np.rint((colour - base) * (np.float32(opacity) * warm) + base).astype(np.uint8)
