"""Colours of 16 bits, of which Pillow keeps only the upper byte."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import numpy as np
from PIL import ImageOps

from fracturelab.images.grayscale import luma

# Pillow takes the first or the last byte of each sample, by the byte order it is given: the other order gives the rest.
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_BITS, _PLANES = 258, 284


def read_deep_colour(image: Any, file: BinaryIO) -> np.ndarray | None:
    """Read PNG and TIFF of 16 bits a colour with all of their bits.

    Args:
        image: The file as Pillow opened it, not yet loaded.
        file: The open file.

    Returns:
        uint16, (height, width), the right way up, transparency laid over black; None for any other file.

    Raises:
        ValueError: The colours are in planes.
    """
    if image.mode not in ("RGB", "RGBA") or not image.tile:
        return None
    tags, args = getattr(image, "tag_v2", {}), image.tile[0].args
    mode = str(args if isinstance(args, str) else args[0]) if args else ""
    deep = set(tags.get(_BITS, ())) == {16}
    if not (";16" in mode or deep) or mode.startswith(("CMYK", "RGBa")):
        return None
    if tags.get(_PLANES) == 2:
        raise ValueError("16-bit colours in planes; save the picture as 16-bit grey")
    if mode.startswith("LA"):  # four bytes a pixel: grey and opacity, the high byte first
        samples = _load(image, [image.tile[0]._replace(args="RGBA")]).astype(np.uint16)
        return _flat(samples[..., ::2] * 256 + samples[..., 1::2])
    high = _load(image, image.tile).astype(np.uint16)
    file.seek(0)
    with type(image)(file) as again:
        swapped = mode[:-1] + _OTHER_ORDER[mode[-1]]
        tiles = [
            part._replace(args=swapped if isinstance(part.args, str) else (swapped, *part.args[1:]))
            for part in again.tile
        ]
        return _flat(high * 256 + _load(again, tiles))


def _load(image: Any, tiles: list[Any]) -> np.ndarray:
    image.tile = tiles
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image)


def _flat(samples: np.ndarray) -> np.ndarray:
    """Grey of samples that are grey with opacity, colours, or colours with opacity."""
    colours = 1 if samples.shape[-1] == 2 else 3
    grey = samples[..., 0] if colours == 1 else luma(samples.astype(np.uint16))
    opacity = samples[..., colours] if samples.shape[-1] > colours else None
    if opacity is None or not opacity.any():
        return grey.astype(np.uint16)
    return np.rint(grey * (opacity / 65535)).astype(np.uint16)
