"""Colours of 16 bits, of which Pillow keeps only the upper byte."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from fracturelab.images.grayscale import luma

# Pillow takes the first or the last byte of each sample, by the byte order it is given: the other order gives the rest.
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_STRIPS, _COUNTS, _COMPRESSION, _PLANES = 273, 279, 259, 284
_ORIENTATION = 0x0112


def read_deep_colour(image: Any, file: BinaryIO) -> np.ndarray | None:
    """Read PNG and TIFF of 16 bits a colour, interleaved or in planes, with all of their bits.

    Args:
        image: The file as Pillow opened it, not yet loaded.
        file: The open file.

    Returns:
        uint16, (height, width), the right way up, transparency laid over black; None for any other file.

    Raises:
        ValueError: The colours are in compressed planes.
    """
    tags = getattr(image, "tag_v2", {})
    planes = tags.get(_PLANES) == 2
    tile = image.tile[0] if image.tile else None
    mode = (tile.args if isinstance(tile.args, str) else tile.args[0]) if tile and tile.args else ""
    deep = set(tags.get(258, ())) == {16} and image.mode in ("RGB", "RGBA")
    if image.mode not in ("RGB", "RGBA") or not (";16" in str(mode) or deep) or str(mode).startswith(("CMYK", "RGBa")):
        return None
    if tags and tags.get(_COMPRESSION, 1) == 1 and _STRIPS in tags:
        values = _read_strips(tags, image, file)
        return _turned(_flat(values), tags.get(_ORIENTATION, 1))
    if planes:
        raise ValueError("16-bit colours in compressed planes; save the picture as 16-bit grey")
    if tile and mode.startswith("LA"):  # four bytes a pixel: grey and opacity, the high byte first
        samples = _load(image, [tile._replace(args="RGBA")]).astype(np.uint16)
        values = samples[..., ::2] * 256 + samples[..., 1::2]
        return _flat(values)
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


def _read_strips(tags: Any, image: Any, file: BinaryIO) -> np.ndarray:
    data = b""
    for start, count in zip(tags[_STRIPS], tags[_COUNTS], strict=True):
        file.seek(start)
        data += file.read(count)
    width, height, samples = tags[256], tags[257], len(tags[258])
    values = np.frombuffer(data, "<u2" if tags.prefix == b"II" else ">u2")
    if values.size != width * height * samples:
        raise EOFError
    if tags.get(_PLANES) == 2:
        return np.moveaxis(values.reshape(samples, height, width), 0, -1)
    return values.reshape(height, width, samples)


def _turned(grey: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(grey)
    image.getexif()[_ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def _flat(samples: np.ndarray) -> np.ndarray:
    """Grey of samples that are grey with opacity, colours, or colours with opacity."""
    colours = 1 if samples.shape[-1] == 2 else 3
    grey = samples[..., 0] if colours == 1 else luma(samples.astype(np.uint16))
    opacity = samples[..., colours] if samples.shape[-1] > colours else None
    if opacity is None or not opacity.any():
        return grey.astype(np.uint16)
    return np.rint(grey * (opacity / 65535)).astype(np.uint16)
