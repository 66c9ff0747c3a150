"""One picture in every container and depth comes back with the same pixels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from fracturelab.images import read_image
from tests.images import check_image
from tests.images.test_decode import GREY, encoded
from tests.images.test_dicom import dicom

pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")


def deep(bits: int) -> np.ndarray:
    return np.rint(GREY * ((2**bits - 1) / 255)).astype(np.uint16)


def png(samples: np.ndarray) -> bytes:
    """A PNG of 16 bits a sample: grey with opacity, colours, or colours with opacity."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, count = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff(samples: np.ndarray, *, planes: bool = False, packed: bool = False, order: str = "<") -> bytes:
    """A TIFF of 16 bits a sample, interleaved or in planes, plain or deflated, in either byte order."""
    height, width, count = samples.shape
    values = samples.astype(f"{order}u2")
    strips = [plane.tobytes() for plane in np.moveaxis(values, -1, 0)] if planes else [values.tobytes()]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    body, places = b"", []
    for strip in strips:
        places.append(8 + len(body))
        body += strip
    lists = [places, [len(strip) for strip in strips], [16] * count]
    entries = {256: [width], 257: [height], 258: lists[2], 259: [8 if packed else 1], 262: [2], 273: places}
    entries |= {277: [count], 278: [height], 279: lists[1], 284: [2 if planes else 1]}
    if count == 4:
        entries[338] = [2]
    table, beyond = b"", b""
    end = 8 + len(body) + 2 + 12 * len(entries) + 4
    for tag, items in sorted(entries.items()):
        form, size = ("H", 3) if tag in (258, 259, 262, 277, 284, 338) else ("I", 4)
        data = struct.pack(f"{order}{len(items)}{form}", *items)
        if len(data) > 4:
            place, beyond = struct.pack(f"{order}I", end + len(beyond)), beyond + data
        else:
            place = data.ljust(4, b"\0")
        table += struct.pack(f"{order}HHI", tag, size, len(items)) + place
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(body))
    return start + body + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + beyond


def colours(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


def with_opacity(samples: np.ndarray) -> np.ndarray:
    return np.concatenate([samples, np.full((*samples.shape[:2], 1), 65535, samples.dtype)], axis=-1)


DEEP: dict[str, Callable[[np.ndarray], bytes]] = {
    "grey png": lambda grey: encoded(Image.fromarray(grey), "PNG"),
    "grey and opacity png": lambda grey: png(with_opacity(grey[..., None])),
    "colour png": lambda grey: png(colours(grey)),
    "colour and opacity png": lambda grey: png(with_opacity(colours(grey))),
    "grey tiff": lambda grey: encoded(Image.fromarray(grey), "TIFF"),
    "deflated grey tiff": lambda grey: encoded(Image.fromarray(grey), "TIFF", compression="tiff_adobe_deflate"),
    "32-bit tiff": lambda grey: encoded(Image.fromarray(grey.astype(np.int32)), "TIFF"),
    "colour tiff": lambda grey: tiff(colours(grey)),
    "colour tiff, big endian": lambda grey: tiff(colours(grey), order=">"),
    "colour and opacity tiff": lambda grey: tiff(with_opacity(colours(grey))),
    "colour tiff in planes": lambda grey: tiff(colours(grey), planes=True),
    "colour tiff in planes, big endian": lambda grey: tiff(colours(grey), planes=True, order=">"),
    "deflated colour tiff": lambda grey: tiff(colours(grey), packed=True),
    "deflated colour tiff, big endian": lambda grey: tiff(colours(grey), packed=True, order=">"),
    "dicom": lambda grey: dicom(grey),
    "dicom, dark for bright": lambda grey: dicom(
        (2 ** int(grey.max()).bit_length() - 1 - grey).astype(np.uint16), PhotometricInterpretation="MONOCHROME1"
    ),
    "colour dicom": lambda grey: dicom(colours(grey)),
}


@pytest.mark.parametrize("container", DEEP)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_every_deep_container_gives_the_same_pixels(container: str, bits: int) -> None:
    pixels = read_image(DEEP[container](deep(bits)))[:, :, 0].astype(int)
    assert np.abs(pixels - GREY).max() <= 1


SHALLOW: dict[str, Callable[[], bytes]] = {
    "png": lambda: encoded(Image.fromarray(GREY), "PNG"),
    "colour png": lambda: encoded(Image.fromarray(GREY).convert("RGB"), "PNG"),
    "tiff": lambda: encoded(Image.fromarray(GREY), "TIFF"),
    "bmp": lambda: encoded(Image.fromarray(GREY), "BMP"),
    "gif": lambda: encoded(Image.fromarray(GREY), "GIF"),
    "webp": lambda: encoded(Image.fromarray(GREY), "WEBP", lossless=True),
    "float tiff": lambda: encoded(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"),
    "dicom": lambda: dicom(GREY),
    "colour dicom": lambda: dicom(colours(GREY)),
    "dicom in luma and chroma": lambda: dicom(
        np.stack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)], axis=-1),
        PhotometricInterpretation="YBR_FULL",
    ),
}


@pytest.mark.parametrize("container", SHALLOW)
def test_every_container_of_eight_bits_gives_the_same_pixels(container: str) -> None:
    pixels = read_image(SHALLOW[container]())[:, :, 0].astype(int)
    assert np.abs(pixels - GREY).max() <= 1


@pytest.mark.parametrize(("kind", "package"), [("AVIF", "PIL.AvifImagePlugin"), ("HEIF", "pillow_heif")])
def test_pictures_of_telephones(kind: str, package: str) -> None:
    module = pytest.importorskip(package)
    if kind == "HEIF":
        buffer = io.BytesIO()
        module.from_pillow(Image.fromarray(GREY)).save(buffer, quality=100)
        data = buffer.getvalue()
    else:
        data = encoded(Image.fromarray(GREY).convert("RGB"), "AVIF", quality=100)
    pixels = read_image(data)[:, :, 0].astype(int)
    assert np.abs(pixels - GREY).mean() < 3
    assert check_image(data[: len(data) // 2]) is not None


def test_compressed_planes_of_deep_colours_are_refused_with_a_way_on() -> None:
    assert "save the picture as 16-bit grey" in (check_image(tiff(colours(deep(12)), planes=True, packed=True)) or "")


def test_deep_files_cut_short_are_refused() -> None:
    for data in (png(colours(deep(12))), tiff(colours(deep(12))), tiff(colours(deep(12)), planes=True)):
        assert check_image(data[: len(data) // 2]) is not None


@pytest.mark.parametrize("container", ["grey png", "colour png", "colour tiff in planes", "dicom"])
def test_a_bright_marker_does_not_set_the_depth(container: str) -> None:
    values = deep(12)
    values[:3, :5] = 65535
    pixels = read_image(DEEP[container](values))[:, :, 0].astype(int)
    assert np.abs(pixels - GREY)[3:].max() <= 1
    assert pixels[0, 0] == 255


def test_a_bright_marker_does_not_set_the_range_of_signed_values() -> None:
    values = GREY.astype(np.int16) * 4 - 500
    values[:3, :5] = 32000
    pixels = read_image(dicom(values))[:, :, 0].astype(int)
    assert pixels[3:].max() > 180


@pytest.mark.parametrize("largest", [5000, 20000])
def test_values_just_beyond_a_depth_keep_their_range(largest: int) -> None:
    pixels = read_image(DEEP["grey png"](np.rint(GREY * (largest / 255)).astype(np.uint16)))
    assert pixels.max() >= 240
