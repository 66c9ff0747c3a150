"""Open an image file safely and decode it whole, or say in a few words why not.

The format is taken from the file's first bytes, never from its name, and handed to that one Pillow decoder. Size limits
are checked against the header before any pixel is decoded. No global Pillow setting is touched, so threads can share
this module with anybody else's use of Pillow. A file that ends early is unreadable: it is never filled up with grey.

What cannot be seen: a JPEG whose compressed data was altered without being shortened decodes to wrong pixels without
complaint from the JPEG library.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from fracturelab.errors import UnreadableImageError
from fracturelab.images.grayscale import to_uint8
from fracturelab.images.opening import open_regular
from fracturelab.images.signatures import HEAD_BYTES, IMAGE_FORMATS, recognise

MAX_PIXELS = 80_000_000
"""Pictures of more pixels are refused from their header. The largest digital radiographs have about 60 million."""

MAX_FILE_BYTES = 1_000_000_000
"""Longer files are refused unopened."""

MIN_SIDE = 8
"""Pictures with a side shorter than this many pixels are refused: no X-ray is that small."""

MAX_PASSES = 2_000_000_000
"""JPEGs whose scans together pass over more pixels are refused. Ten scans are usual; a small file can hold thousands,
each of which costs as much time as a picture."""

Source = str | os.PathLike[str] | bytes | BinaryIO

_DECODERS: dict[str, Any] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,  # of a multi-picture (MPO) file, the first picture
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
# Damaged tags that leave the pixels whole are nobody's concern here; damage that matters raises.
warnings.filterwarnings(
    "ignore", message="Corrupt EXIF|Tag data larger|Truncated File|Metadata Warning", module=r"PIL\."
)
_ORIENTATION = 0x0112
_PHOTOMETRIC = 262


@dataclass(frozen=True)
class ImageFacts:
    """What an image file's header says, before any pixel is decoded.

    Attributes:
        format: "PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP" or "DICOM".
        width: Pixels across, the right way up.
        height: Pixels down, the right way up.
        mode: Pillow's name for the pixel type, such as "L", "RGB" or "I;16".
        animated: There is more than one frame or page; only the first is ever read.
    """

    format: str
    width: int
    height: int
    mode: str
    animated: bool


def read_image(source: Source, *, min_side: int | None = None) -> np.ndarray:
    """Decode an image file to grayscale.

    PNG, JPEG, TIFF, GIF, BMP and WebP are read, of any pixel type (`grayscale.to_uint8` says how each becomes grey).
    EXIF rotation is applied. Of an animation or a multi-page file the first frame is read. DICOM needs the extra
    `fracturelab[formats]`.

    Args:
        source: A path, the file's bytes, or an open binary file.
        min_side: Neither side of the result needs more than this many pixels. A JPEG is then decoded at 1/2, 1/4 or
            1/8 of its size where that leaves both sides at least this long, which costs a fraction of the time.

    Returns:
        uint8, (height, width, 1), bone bright.

    Raises:
        UnreadableImageError: The file cannot be decoded whole; `reason` says why in a few words.
    """
    name = _name(source)
    if min_side is not None and min_side < 1:
        raise ValueError(f"expected min_side of at least 1 pixel. Received: {min_side}")
    with _explained(name), _opened(source, name) as file:
        kind = _format(file, name)
        if kind == "DICOM":
            return _read_dicom(file, name)[:, :, np.newaxis]
        with _DECODERS[kind](file) as image:
            _check_size(image.size, name)
            if kind == "JPEG":
                _check_scans(file, image.size, name)
                side = (min_side, min_side) if min_side else image.size
                image.draft("L", side)
            inverted = kind == "TIFF" and image.mode not in ("1", "L") and image.tag_v2.get(_PHOTOMETRIC) == 0
            image.load()
            with suppress(Exception):  # damaged EXIF leaves the pixels whole
                ImageOps.exif_transpose(image, in_place=True)
            pixels = to_uint8(image)
            if inverted:
                pixels = 255 - pixels
            return np.ascontiguousarray(pixels)[:, :, np.newaxis]


def image_facts(source: Source) -> ImageFacts:
    """Read an image's header: format, size, pixel type, and whether it has more frames than the first.

    Args:
        source: A path, the file's bytes, or an open binary file.

    Raises:
        UnreadableImageError: The header cannot be read, or the size is outside the limits.
    """
    name = _name(source)
    with _explained(name), _opened(source, name) as file:
        kind = _format(file, name)
        if kind == "DICOM":
            height, width = _read_dicom(file, name).shape
            return ImageFacts(kind, width, height, "DICOM", False)
        with _DECODERS[kind](file) as image:
            _check_size(image.size, name)
            width, height = image.size
            with suppress(Exception):
                if kind != "TIFF" and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):  # Pillow itself turns TIFF
                    width, height = height, width
            return ImageFacts(kind, width, height, image.mode, bool(getattr(image, "is_animated", False)))


def _name(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    return str(getattr(source, "name", "<file>"))


@contextmanager
def _opened(source: Source, name: str) -> Iterator[BinaryIO]:
    """A seekable binary file of known, bounded length."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        _check_length(len(source), name)
        yield io.BytesIO(source)
        return
    if not isinstance(source, (str, os.PathLike)):
        data = source.read(MAX_FILE_BYTES + 1)
        _check_length(len(data), name)
        yield io.BytesIO(data)
        return
    with open_regular(source) as file:
        _check_length(os.fstat(file.fileno()).st_size, name)
        yield file


def _check_length(length: int, name: str) -> None:
    if length == 0:
        raise UnreadableImageError(name, "the file is empty (0 bytes)")
    if length > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 1_000_000
        raise UnreadableImageError(name, f"the file is longer than the limit of {limit} MB")


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(
            name, f"{width} x {height} pixels, more than the limit of {MAX_PIXELS // 1_000_000} million"
        )
    if min(width, height) < MIN_SIDE:
        raise UnreadableImageError(name, f"{width} x {height} pixels, too small for an X-ray")


def _check_scans(file: BinaryIO, size: tuple[int, int], name: str) -> None:
    """Count a JPEG's scans before any is decoded. In its compressed data the marker's two bytes never follow."""
    place, last, scans = file.tell(), b"", 0
    file.seek(0)
    while block := file.read(1 << 20):
        scans += (last + block).count(b"\xff\xda")
        last = block[-1:]
    file.seek(place)
    width, height = size
    if scans * width * height > MAX_PASSES:
        raise UnreadableImageError(
            name, f"a JPEG of {scans} scans of {width} x {height} pixels, which would take too long to decode"
        )


def _format(file: BinaryIO, name: str) -> str:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    kind = recognise(head)
    if kind not in IMAGE_FORMATS:
        raise UnreadableImageError(name, f"not an image: the content is {kind}")
    return kind


def _read_dicom(file: BinaryIO, name: str) -> np.ndarray:
    """The one place where a DICOM file is handed on; its reader is optional."""
    try:
        from fracturelab.images.dicom import read_dicom
    except ImportError:
        raise UnreadableImageError(
            name, "a DICOM file; to read it: python -m pip install 'fracturelab[formats]'"
        ) from None
    return read_dicom(file, name=name, max_pixels=MAX_PIXELS, min_side=MIN_SIDE)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever opening and decoding can raise into an UnreadableImageError with a short reason."""
    try:
        yield
    except UnreadableImageError:
        raise
    except MemoryError:
        raise UnreadableImageError(name, "decoding needs more memory than there is") from None
    except Exception as error:  # decoders meet hostile bytes: whatever they raise, the file is unreadable
        raise UnreadableImageError(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {os.strerror(error.errno).lower()}"
    text = " ".join(str(error).split())
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated: the file ends before the picture does"
    if struct.error in (type(error), type(error.__cause__)):
        return "damaged image data (its header ends too early)"
    return f"damaged image data ({text[:80] or type(error).__name__})"
