"""Open an image file safely and decode it whole, or state in a few words why that fails.

The format is taken from the first bytes of the file, never from its name, and handed to that one decoder. Size limits
are checked against the header before any pixel is decoded. No global Pillow setting is touched, so threads can share
this module with any other use of Pillow. A file that ends early is unreadable: missing rows are never filled with grey.

One kind of damage goes unnoticed: a JPEG whose compressed data was altered without being shortened decodes to wrong
pixels, and the JPEG library does not report it.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import ImageOps

from fracturelab.errors import UnreadableImageError
from fracturelab.images.deep_colour import read_deep_colour
from fracturelab.images.grayscale import scale_integers, to_uint8
from fracturelab.images.opening import Source, check_size, open_source
from fracturelab.images.signatures import HEAD_BYTES, IMAGE_FORMATS, recognise

MAX_PASSES = 2_000_000_000
"""JPEGs whose scans together pass over more pixels are refused. Ten scans are usual; a small file can hold thousands,
each of which costs as much time as a picture."""

SEVERAL = "The file has several pictures; only the first was read."
NO_END = "The JPEG file lacks its end marker; all its pixels are there."

_DECODERS = {
    "PNG": "PIL.PngImagePlugin:PngImageFile",
    "JPEG": "PIL.JpegImagePlugin:JpegImageFile",  # of a multi-picture (MPO) file, the first picture
    "GIF": "PIL.GifImagePlugin:GifImageFile",
    "TIFF": "PIL.TiffImagePlugin:TiffImageFile",
    "BMP": "PIL.BmpImagePlugin:BmpImageFile",
    "WEBP": "PIL.WebPImagePlugin:WebPImageFile",
    "AVIF": "PIL.AvifImagePlugin:AvifImageFile",
    "HEIC": "pillow_heif:HeifImageFile",
    "DICOM": "fracturelab.images.dicom:read_dicom",
}
# Damaged tags that leave the pixels whole do not matter here; damage that matters raises.
warnings.filterwarnings(
    "ignore", message="Corrupt EXIF|Tag data larger|Truncated File|Metadata Warning", module=r"PIL\."
)
_ORIENTATION = 0x0112
_PHOTOMETRIC = 262
_END = b"\xff\xd9"


class ImageFacts(NamedTuple):
    """Facts from the header of an image file, read before any pixel is decoded.

    Attributes:
        width: Pixels across, the right way up.
        height: Pixels down, the right way up.
        several: There is more than one frame or page; only the first is ever read.
    """

    width: int
    height: int
    several: bool


def read_image(source: Source, *, min_side: int | None = None, remarks: list[str] | None = None) -> np.ndarray:
    """Decode an image file to grayscale.

    PNG, JPEG, TIFF, GIF, BMP, WebP and AVIF are read, of any pixel type (`grayscale.to_uint8` has the rule for each).
    EXIF rotation is applied. Of an animation or a multi-page file the first frame is read. DICOM and HEIC need the
    extra `fracturelab[formats]`.

    Args:
        source: A path, or the bytes of the file.
        min_side: Neither side of the result needs more than this many pixels. A JPEG is then decoded at 1/2, 1/4 or
            1/8 of its size where that leaves both sides at least this long, which costs a fraction of the time.
        remarks: A list that takes sentences about a file that was read in part or in spite of a defect.

    Returns:
        uint8, (height, width, 1), bone bright.

    Raises:
        UnreadableImageError: The file cannot be decoded whole; `reason` states the cause in a few words.
    """
    remarks = [] if remarks is None else remarks
    with _opened(source) as (name, kind, file):
        if kind == "DICOM":
            pixels = _decoder(kind, name)(file, name=name, remarks=remarks)
        else:
            pixels = _decode(file, kind, name, min_side, remarks)
        return np.ascontiguousarray(pixels)[:, :, np.newaxis]


def image_facts(source: Source) -> ImageFacts:
    """Read the header of an image: its size, and whether it has more frames than the first.

    Args:
        source: A path, or the bytes of the file.

    Raises:
        UnreadableImageError: The header cannot be read, or the size is outside the limits.
    """
    with _opened(source) as (name, kind, file):
        decoder = _decoder(kind, name)
        if kind == "DICOM":
            from fracturelab.images.dicom import open_dicom

            header = open_dicom(file, name=name, remarks=[])
            return ImageFacts(int(header.Columns), int(header.Rows), several=False)
        with decoder(file) as image:
            check_size(image.width, image.height, name)
            width, height = image.size
            with suppress(Exception):
                if kind != "TIFF" and image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):  # Pillow itself turns TIFF
                    width, height = height, width
            return ImageFacts(width, height, bool(getattr(image, "is_animated", False)))


def _decode(file: BinaryIO, kind: str, name: str, min_side: int | None, remarks: list[str]) -> np.ndarray:
    with _decoder(kind, name)(file) as image:
        check_size(image.width, image.height, name)
        several = bool(getattr(image, "is_animated", False))
        if kind == "JPEG":
            pixels = _decode_jpeg(file, image, name, min_side, remarks)
        elif (deep := read_deep_colour(image, file)) is not None:
            pixels = scale_integers(deep)
        else:
            inverted = kind == "TIFF" and image.mode not in ("1", "L") and image.tag_v2.get(_PHOTOMETRIC) == 0
            pixels = _upright(image)
            pixels = 255 - pixels if inverted else pixels
    if several:
        remarks.append(SEVERAL)
    return pixels


def _decode_jpeg(file: BinaryIO, image: Any, name: str, min_side: int | None, remarks: list[str]) -> np.ndarray:
    scans = _count_scans(file, image.size, name)
    side = (min_side, min_side) if min_side else image.size
    image.draft("L", side)
    try:
        return _upright(image)
    except OSError:
        file.seek(0)
        data = file.read()
        whole = scans == 1 and not data.endswith(_END) and b"\xff\xdd" not in data
        if not whole:
            raise
        # Where rows are missing, the decoder takes further bytes for pixels, and the two pictures differ.
        pictures = []
        for extra in (b"", b"\x5a\x93\xc6\x35" * 64):
            with _decoder("JPEG", name)(io.BytesIO(data.removesuffix(b"\xff") + extra + _END)) as mended:
                mended.draft("L", side)
                pictures.append(_upright(mended))
        if not np.array_equal(pictures[0], pictures[1]):
            raise
        remarks.append(NO_END)
        return pictures[0]


def _upright(image: Any) -> np.ndarray:
    image.load()
    with suppress(Exception):  # damaged EXIF leaves the pixels whole
        ImageOps.exif_transpose(image, in_place=True)
    return to_uint8(image)


def _decoder(kind: str, name: str) -> Any:
    """What decodes this format; the decoders of DICOM and HEIC are optional."""
    module, _, decoder = _DECODERS[kind].partition(":")
    try:
        return getattr(import_module(module), decoder)
    except ImportError:
        article = "an" if kind == "AVIF" else "a"
        raise UnreadableImageError(
            name, f"{article} {kind} file; to read it: python -m pip install 'fracturelab[formats]'"
        ) from None


def _count_scans(file: BinaryIO, size: tuple[int, int], name: str) -> int:
    """Count the scans of a JPEG before any is decoded. In its compressed data the two marker bytes never follow."""
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
    return scans


@contextmanager
def _opened(source: Source) -> Iterator[tuple[str, str, BinaryIO]]:
    """Yield an image's name, its format and its open file; any error becomes an UnreadableImageError with a reason."""
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    try:
        with open_source(source, name) as file:
            kind = recognise(file.read(HEAD_BYTES))
            file.seek(0)
            if kind not in IMAGE_FORMATS:
                raise UnreadableImageError(name, f"not an image: the content is {kind}")
            yield name, kind, file
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
