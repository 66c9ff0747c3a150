"""The table of hostile inputs: what comes in, what must happen, and how to make it.

`ROWS` is the whole table, files first. A test says what happened through the fixture `happened`; once every row of a
run has been answered, `reports/robustness.md` is written from them (see `conftest.py`).
"""

from __future__ import annotations

import csv
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FILES = "Files"
LONG = "At length (`make test-long`)"
MACHINES = "As if on other machines (`make test-machines`)"


@dataclass(frozen=True)
class Row:
    """One line of the table: a key for the tests, where it stands, what comes in and what must happen."""

    key: str
    section: str
    given: str
    must: str


@dataclass(frozen=True)
class HostileFile:
    """A file that somebody may have in a folder of X-rays.

    Attributes:
        key: Of its row.
        name: What it is called; bytes that are no text as surrogates.
        given: In words.
        make: Gives its bytes.
        says: What the reason for leaving it out must hold, in any case; None where it must be read as `reference()`.
        off: Most grey levels that its pixels may be off, where it is read.
        remark: What an answer to it must be said with; "" for nothing.
        must: What must happen, where that is neither plain reading nor leaving out.
    """

    key: str
    name: str
    given: str
    make: Callable[[], bytes]
    says: str | None = None
    off: int = 1
    remark: str = ""
    must: str = ""

    @property
    def row(self) -> Row:
        if self.must:
            return Row(self.key, FILES, self.given, self.must)
        must = (
            f"left out, and said: {self.says.replace('|', ' or ')}"
            if self.says
            else "read, with the pixels of the plain PNG"
        )
        return Row(self.key, FILES, self.given, must + (f"; said: {self.remark}" if self.remark else ""))


def xray(seed: int) -> np.ndarray:
    """A made-up radiograph, uint8 (96, 128): a bright shaft with texture on a dark ground, another for each seed."""
    rng = np.random.default_rng(seed)
    height, width = 96, 128
    texture = np.zeros((height, width))
    for cells in (4, 9, 20):
        coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        texture += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / cells**0.5
    y, x = np.mgrid[0:height, 0:width]
    axis = width * rng.uniform(0.42, 0.58) + rng.uniform(-0.2, 0.2) * (y - height / 2)
    shaft = np.exp(-(((x - axis) / rng.uniform(11, 16)) ** 2))
    grey = rng.uniform(22, 34) + rng.uniform(120, 160) * shaft + 7 * texture / texture.std() * (0.4 + shaft)
    return np.clip(grey, 1, 255).astype(np.uint8)


def reference() -> np.ndarray:
    """The picture that every readable file of the table holds."""
    return xray(1000)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(kind: str = "PNG", **options: object) -> bytes:
    return encoded(Image.fromarray(reference()), kind, **options)


def png(width: int, height: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of this size around compressed rows, with other chunks before them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    middle = b"".join(chunk(kind, data) for kind, data in more)
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def whole_bomb() -> bytes:
    """A complete PNG of 81 million black pixels in well under a megabyte."""
    return png(9000, 9000, zlib.compress(bytes(9001 * 9000), 1))


def text_bomb() -> bytes:
    """A small PNG with a compressed text of 64 MB beside its pixels."""
    text = b"note\0\0" + zlib.compress(bytes(64 << 20), 1)
    grey = reference()
    rows = b"".join(b"\0" + line.tobytes() for line in grey)
    return png(grey.shape[1], grey.shape[0], zlib.compress(rows), (b"zTXt", text))


def gif_bomb() -> bytes:
    size = struct.pack("<HH", 65_535, 65_535)
    return b"GIF89a" + size + b"\x80\0\0" + b"\0" * 6 + b"," + b"\0" * 4 + size + b"\0\x02\x02\x4c\x01\0;"


def scan_bomb() -> bytes:
    """A JPEG of 2500 x 2500 pixels whose last scan is repeated a thousand times: minutes of decoding in few bytes."""
    data = encoded(Image.new("L", (2500, 2500), 90), "JPEG", progressive=True, quality=30)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 1000 + data[-2:]


def jpeg_header(width: int, height: int) -> bytes:
    """A JPEG whose header says that it is larger than it is."""
    data = bytearray(plain("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff_loop() -> bytes:
    """A TIFF whose list of pages comes back to its beginning."""
    data = bytearray(plain("TIFF"))
    start = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    return bytes(data)


def with_exif(orientation: int) -> bytes:
    """The picture stored lying down, with the note to turn it up."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {3: np.rot90(reference(), 2), 6: np.rot90(reference()), 8: np.rot90(reference(), -1)}[orientation]
    return encoded(Image.fromarray(np.ascontiguousarray(turned)), "PNG", exif=exif)


def palette() -> bytes:
    """Palette colours in an order of their own, one of them transparent: black, which transparency is laid over."""
    order = np.random.default_rng(0).permutation(256)
    image = Image.fromarray(np.argsort(order).astype(np.uint8)[np.maximum(reference(), 1)], mode="P")
    image.putpalette(np.repeat(order, 3).astype(np.uint8).tobytes())
    return encoded(image, "PNG", transparency=int(np.flatnonzero(order == 0)[0]))


def several(kind: str) -> bytes:
    second = Image.fromarray(255 - reference())
    return encoded(Image.fromarray(reference()), kind, save_all=True, append_images=[second])


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.png", plain())
    return buffer.getvalue()


def dicom(*, frames: int = 1, photometric: str = "MONOCHROME1") -> bytes:
    """A radiograph as scanners store it: 12 bits, dark where bone is."""
    import pydicom

    grey = ((255 - reference()).astype(np.uint32) * 4095 // 255).astype(np.uint16)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 2047.5, 4095, "LINEAR_EXACT"
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.PixelData = grey.tobytes() * frames
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def floats() -> bytes:
    return encoded(Image.fromarray((reference() / 255).astype(np.float32)), "TIFF")


def cut(kind: str, share: float) -> bytes:
    data = plain(kind)
    return data[: int(len(data) * share)]


def _bad(key: str, name: str, given: str, says: str, make: Callable[[], bytes]) -> HostileFile:
    return HostileFile(key, name, given, make, says=says)


HOSTILE = (
    _bad("cut-jpeg", "cut.jpg", "JPEG that ends early", "truncated", lambda: cut("JPEG", 0.6)),
    _bad("cut-png", "cut.png", "PNG that ends early", "truncated", lambda: cut("PNG", 0.6)),
    _bad("cut-tiff", "cut.tif", "TIFF that ends early", "truncated|damaged", lambda: cut("TIFF", 0.6)),
    _bad("header-only", "header.png", "PNG signature and nothing else", "damaged|truncated", lambda: plain()[:8]),
    _bad("empty", "empty.png", "zero bytes", "empty", lambda: b""),
    _bad(
        "zeros",
        "zeros.jpg",
        "a hole that a broken copy left: nothing but zero bytes",
        "zero bytes",
        lambda: bytes(4096),
    ),
    _bad("text", "text.jpg", "text named .jpg", "text", lambda: b"Patient fell off a ladder.\n"),
    _bad("html", "page.png", "HTML saved as .png", "HTML", lambda: b"<!DOCTYPE html><html>Sign in</html>"),
    _bad(
        "svg",
        "drawing.png",
        "SVG with a script, named .png",
        "XML or SVG",
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    ),
    _bad(
        "lfs",
        "pointer.png",
        "Git LFS pointer",
        "Git LFS",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    ),
    _bad("zip-png", "archive.png", "zip named .png", "zip", archive),
    _bad("pdf", "report.jpg", "PDF named .jpg", "PDF", lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"),
    _bad(
        "heic",
        "phone.jpg",
        "the start of a phone's HEIC, named .jpg",
        "damaged",
        lambda: b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(64),
    ),
    _bad(
        "pickle",
        "pickle.png",
        "a Python pickle that would run a command, named .png",
        "unknown",
        lambda: pickle.dumps(_Planted()),
    ),
    _bad("program", "program.png", "a program named .png", "program", lambda: b"\x7fELF" + bytes(64)),
    _bad("tiny", "tiny.png", "1 x 1 pixel", "too small", lambda: encoded(Image.new("L", (1, 1)), "PNG")),
    _bad(
        "line",
        "line.png",
        "a line of 20,000 x 1 pixels",
        "too small",
        lambda: encoded(Image.new("L", (20_000, 1)), "PNG"),
    ),
    _bad(
        "huge",
        "huge.png",
        "header of 20,000 x 20,000 pixels",
        "limit of 80 million",
        lambda: png(20_000, 20_000, zlib.compress(bytes(1000))),
    ),
    _bad(
        "endless",
        "endless.png",
        "header of 2147483647 x 2147483647 pixels",
        "limit of 80 million",
        lambda: png(2**31 - 1, 2**31 - 1, b""),
    ),
    _bad("bomb", "bomb.png", "a whole bomb: 81 million pixels in 350 KB", "limit of 80 million", whole_bomb),
    _bad("gif-bomb", "bomb.gif", "GIF of 65,535 x 65,535 pixels in 40 bytes", "limit of 80 million", gif_bomb),
    _bad(
        "jpeg-bomb",
        "bomb.jpg",
        "JPEG whose header says 65,500 x 65,500 pixels",
        "limit of 80 million",
        lambda: jpeg_header(65_500, 65_500),
    ),
    _bad("scans", "scans.jpg", "JPEG of 2500 x 2500 pixels in a thousand scans", "scans", scan_bomb),
    _bad("text-bomb", "note.png", "PNG with a compressed note of 64 MB", "damaged", text_bomb),
    _bad("dicom-frames", "film.dcm", "DICOM of 30 frames", "30 frames", lambda: dicom(frames=30)),
    _bad("dicom-empty", "empty.dcm", "DICOM signature and nothing else", "DICOM", lambda: bytes(128) + b"DICM"),
    HostileFile(
        "sixteen",
        "sixteen.png",
        "16-bit PNG",
        lambda: encoded(Image.fromarray(np.clip(reference().astype(np.uint16), 0, 255) * 257), "PNG"),
        off=2,
    ),
    HostileFile(
        "twelve",
        "twelve.tif",
        "12 bits in a 16-bit TIFF",
        lambda: encoded(Image.fromarray((reference().astype(np.uint32) * 4095 // 255).astype(np.uint16)), "TIFF"),
        off=2,
    ),
    HostileFile(
        "integers",
        "integers.tif",
        "32-bit integer TIFF",
        lambda: encoded(Image.fromarray(reference().astype(np.int32) * 257), "TIFF"),
        off=2,
    ),
    HostileFile("floats", "floats.tif", "float TIFF, 0 to 1", floats),
    HostileFile(
        "cmyk",
        "cmyk.jpg",
        "CMYK JPEG",
        lambda: encoded(Image.fromarray(reference()).convert("CMYK"), "JPEG", quality=95),
        off=6,
    ),
    HostileFile("palette", "palette.png", "palette with transparency", palette),
    HostileFile(
        "alpha", "alpha.png", "RGBA, opaque", lambda: encoded(Image.fromarray(reference()).convert("RGBA"), "PNG")
    ),
    HostileFile("exif", "turned.png", "stored on its side, EXIF says so", lambda: with_exif(6)),
    HostileFile("exif-180", "upside.png", "stored upside down, EXIF says so", lambda: with_exif(3)),
    HostileFile("gif", "moving.gif", "animated GIF", lambda: several("GIF"), remark="only the first was read"),
    HostileFile("apng", "moving.png", "animated PNG", lambda: several("PNG"), remark="only the first was read"),
    HostileFile("pages", "pages.tif", "TIFF of two pages", lambda: several("TIFF"), remark="only the first was read"),
    HostileFile("tiff-loop", "loop.tif", "TIFF whose pages go round in a circle", tiff_loop),
    HostileFile("extension", "png.jpg", "PNG named .jpg", plain),
    HostileFile("webp", "picture.png", "WebP named .png", lambda: plain("WEBP", lossless=True)),
    HostileFile("dicom", "one.dcm", "DICOM, MONOCHROME1: dark where bone is", dicom, off=2),
    HostileFile(
        "inverted",
        "negative.png",
        "inverted PNG, as MONOCHROME1 comes out of bad converters",
        lambda: encoded(Image.fromarray(255 - reference()), "PNG"),
        off=255,
        remark="are black and white exchanged",
        must="read as it is; said: are black and white exchanged?",
    ),
    HostileFile("spaces", "  a name with   spaces .png", "name with spaces at both ends", plain),
    HostileFile("newline", "two\nlines\tand\ra bell\a.png", "name with line breaks and control characters", plain),
    HostileFile("formula", "=cmd|' 'A0.png", "name that a spreadsheet would run", plain),
    HostileFile("dash", "-rf.png", "name that looks like an option", plain),
    HostileFile("markup", "<script>alert(1)<%2fscript>.png", "name with markup", plain),
    HostileFile("unicode", "Röntgen 骨折 تصویر \u202egnp.exe 🦴.png", "name in four scripts and emoji", plain),
    HostileFile("composed", "e\u0301.png", "name of a letter and a combining accent", plain),
    HostileFile("bytes", os.fsdecode(b"scan-\xff\xfe\x80.png"), "name of bytes that are no text", plain),
    HostileFile("long", "x" * 251 + ".png", "name of 255 characters", plain),
    HostileFile("upper", "UPPER.PNG", "suffix in capitals", plain),
)
"""Every file of the table that one folder can hold."""

JUNK = ("desktop.ini", ".DS_Store", "Thumbs.db", "._bone.png", ".hidden.png", "__MACOSX/x.png", ".git/objects/aa.png")
"""What systems leave behind: passed over without a word, whatever its name ends in."""


class _Planted:
    """Unpickled, it would make a file: tests see that it never is."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("planted-by-a-pickle",)


def _table() -> list[Row]:
    """The rows of `rows.csv`: all but those of single files."""
    with (Path(__file__).with_name("rows.csv")).open(encoding="utf-8", newline="") as file:
        return [Row(**row) for row in csv.DictReader(file)]


ROWS: tuple[Row, ...] = (*(file.row for file in HOSTILE), *_table())
"""The whole table."""

SECTIONS = tuple(dict.fromkeys(row.section for row in ROWS))
BY_KEY = {row.key: row for row in ROWS}
assert len(BY_KEY) == len(ROWS), [row.key for row in ROWS if BY_KEY[row.key] is not row]
