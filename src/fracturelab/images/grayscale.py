"""From any pixel type to uint8 grayscale, with one stated rule for each."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_DEPTHS = (8, 10, 12, 14, 16)


def scale_integers(values: np.ndarray) -> np.ndarray:
    """Scale 16-bit grey values to uint8 by the depth they use.

    X-rays of 10, 12 or 14 bits are commonly stored in 16-bit files. The depth is the smallest of 8, 10, 12, 14 and 16
    bits that holds the image's largest value, and that depth's full range becomes 0..255. Black stays black, and an
    8-bit image multiplied by 257 comes back as it was.

    Args:
        values: Unsigned integers of at most 65535, any shape.

    Returns:
        uint8, the same shape.
    """
    largest = int(values.max(initial=0))
    depth = next(bits for bits in _DEPTHS if largest < 2**bits)
    if depth == 8:
        return values.astype(np.uint8)
    table = np.rint(np.arange(2**depth) * (255.0 / (2**depth - 1))).astype(np.uint8)
    return table[values]


def scale_reals(values: np.ndarray) -> np.ndarray:
    """Scale floating-point or 32-bit integer grey values to uint8.

    Values within 0..1 (floats) become 0..255; values within 0..255 are kept; integers within 0..65535 follow
    `scale_integers`; anything else (Hounsfield-like or negative values) is stretched from its smallest to its largest
    finite value. NaN and minus infinity become the smallest value, plus infinity the largest.

    Args:
        values: Real numbers, any shape.

    Returns:
        uint8, the same shape.

    Raises:
        ValueError: No value is finite.
    """
    integers = np.issubdtype(values.dtype, np.integer)
    if integers:
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= 65535:
            return scale_integers(values.astype(np.uint16))
    else:
        finite = np.isfinite(values)
        if not finite.any():
            raise ValueError("no pixel is a finite number")
        low, high = float(values[finite].min()), float(values[finite].max())
        if not finite.all():
            values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if not integers and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def to_uint8(image: Image.Image) -> np.ndarray:
    """Turn a decoded picture of any Pillow mode into uint8 grayscale.

    Colour becomes luma (ITU-R 601-2, Pillow's rule). Transparency is laid over black, the colour of padding; an alpha
    channel that hides the whole picture is ignored. CMYK follows Pillow, which reads JPEG's CMYK in Adobe's inverted
    sense. Integer depths follow `scale_integers`, floats `scale_reals`.

    Args:
        image: A loaded picture.

    Returns:
        uint8, (height, width).
    """
    if image.mode in _SIXTEEN_BIT:
        return scale_integers(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        return scale_reals(np.asarray(image))
    if image.has_transparency_data:
        layered = image if image.mode in ("LA", "RGBA") else image.convert("LA" if image.mode == "La" else "RGBA")
        alpha = layered.getchannel("A")
        grey = layered.getchannel("L") if layered.mode == "LA" else layered.convert("RGB").convert("L")
        return np.asarray(ImageChops.multiply(grey, alpha) if alpha.getextrema()[1] else grey)
    if image.mode == "L":
        return np.asarray(image)
    if image.mode == "LAB":
        return np.asarray(image.getchannel("L"))
    if image.mode in ("1", "RGB", "YCbCr"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB").convert("L"))
