"""From any pixel type to uint8 grayscale, with one stated rule for each."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_DEPTHS = (8, 10, 12, 14, 16)
_BRIGHT = 0.01  # of the pixels may be brighter than the depth: burnt-in markers, single hot pixels
_ABOVE = 1.25  # times the brightest of the other pixels: what is brighter still is clipped


def scale_integers(values: np.ndarray) -> np.ndarray:
    """Scale grey values of up to 16 bits to uint8 by the depth they use.

    X-rays of 10, 12 or 14 bits are commonly stored in 16-bit files. The depth is the smallest of 8, 10, 12, 14 and 16
    bits that holds all but 1% of the pixels, so that a burnt-in marker does not decide it. The full range of that depth
    becomes 0..255, and brighter pixels 255. Where values go beyond a depth by up to a quarter, such as 5000, the range
    is that much longer. Black stays black, and an 8-bit image multiplied by 257 comes back as it was.

    Args:
        values: Unsigned integers of at most 65535, any shape.

    Returns:
        uint8, the same shape.
    """
    most = _BRIGHT * values.size
    ranges = [times * (2**bits - 1) for bits in _DEPTHS for times in (1, _ABOVE)]
    full = next(full for full in ranges if np.count_nonzero(values > full) <= most)
    table = np.rint(np.arange(65536) * (255 / full)).clip(max=255).astype(np.uint8)
    return table[values]


def scale_reals(values: np.ndarray) -> np.ndarray:
    """Scale floating-point or wide integer grey values to uint8.

    Values within 0..1 (floats) become 0..255; values within 0..255 are kept; integers within 0..65535 follow
    `scale_integers`. Anything else (Hounsfield-like or negative values) is stretched from its smallest finite value to
    its largest, or to 1.25 times the range of the darker 99% of the pixels where the largest lies above that. NaN and
    minus infinity become the smallest value, plus infinity the largest.

    Args:
        values: Real numbers, any shape.

    Returns:
        uint8, the same shape.

    Raises:
        ValueError: No value is finite.
    """
    integers = np.issubdtype(values.dtype, np.integer)
    finite = values if integers else values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError("no pixel is a finite number")
    low, high = float(finite.min()), float(finite.max())
    if integers and low >= 0 and high <= 65535:
        return scale_integers(values.astype(np.uint16))
    if not integers and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    else:
        high = min(high, low + _ABOVE * (float(np.percentile(finite, 100 * (1 - _BRIGHT))) - low))
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low) * (255.0 / (high - low))
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def luma(colours: np.ndarray) -> np.ndarray:
    """Compute the brightness of colours (ITU-R 601-2), as Pillow does.

    Args:
        colours: (height, width, 3 or more), red, green and blue first.

    Returns:
        (height, width), the same type.
    """
    return np.rint(colours[..., :3] @ np.array([0.299, 0.587, 0.114])).astype(colours.dtype)


def to_uint8(image: Image.Image) -> np.ndarray:
    """Turn a decoded picture of any Pillow mode into uint8 grayscale.

    Colour becomes luma (ITU-R 601-2, Pillow's rule). Transparency is laid over black, the colour of padding; an alpha
    channel that hides the whole picture is ignored. CMYK follows Pillow, which reads JPEG's CMYK in Adobe's inverted
    sense. 16-bit grey follows `scale_integers`, 32-bit integers and floats `scale_reals`.

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
