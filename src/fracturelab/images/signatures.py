"""The format of a file by its first bytes, whatever its name."""

from __future__ import annotations

# How many bytes `recognise` reads. The signature of a DICOM file begins at byte 128.
HEAD_BYTES = 512

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"BM", "BMP"),
    (128, b"DICM", "DICOM"),
    # Recognised so that the message can name them; none of these is decoded.
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"%PDF", "a PDF document"),
    (4, b"ftyp", "a video"),
    (0, b"\x00\x00\x00\x0cjP", "a JPEG 2000 picture (save it as PNG or JPEG)"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture (save it as PNG or JPEG)"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
)

IMAGE_FORMATS = frozenset({"PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "AVIF", "HEIC", "DICOM"})


def recognise(head: bytes) -> str:
    """Name a file's format from its first bytes.

    Args:
        head: The first `HEAD_BYTES` bytes of the file, fewer where the file is shorter.

    Returns:
        One of `IMAGE_FORMATS`, or words for what else it is: "an HTML page", "text", "unknown data".
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":  # the brands of a file in ISO's base media format
        brands = head[8 : min(int.from_bytes(head[:4]), len(head))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")):
            return "HEIC"
    if _is_bare_dicom(head):
        return "DICOM"
    for offset, signature, name in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return name
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if start.startswith((b"<?xml", b"<svg")):
        return "XML or SVG text"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (fetch the real file with `git lfs pull`)"
    if head and all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in head):
        return "text"
    if head and not any(head):
        return "nothing but zero bytes"
    return "unknown data"


def _is_bare_dicom(head: bytes) -> bool:
    """Whether a file begins with a first DICOM element, without the preamble of 128 bytes and "DICM"."""
    group, element, length = (int.from_bytes(head[at : at + size], "little") for at, size in ((0, 2), (2, 2), (4, 4)))
    if len(head) < 132 or group not in (2, 8) or element > 0x60:
        return False
    return head[4:6] in (b"UL", b"OB", b"UI", b"CS", b"SH", b"DA") or (length % 2 == 0 and 0 < length <= 128)
