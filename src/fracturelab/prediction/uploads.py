"""Uploads: bounded before they are decoded, held in memory alone, and explained where they cannot be read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import UnreadableImageError


@dataclass(frozen=True)
class Limits:
    """What one visit may bring.

    Attributes:
        files: Files at once.
        file_bytes: Bytes of one file.
        pixels: Pixels of one picture.
        shown: Long side, in pixels, of the picture that is kept to be shown.
    """

    files: int = 50
    file_bytes: int = 40_000_000
    pixels: int = 40_000_000
    shown: int = 1200


LIMITS = Limits()


@dataclass(frozen=True)
class Upload:
    """One file, read or explained.

    Attributes:
        name: The file's name, without folders or control characters.
        key: sha256 of its bytes.
        pixels: uint8 (size, size, 1) as the model takes it, None if it cannot be read.
        shown: uint8 (h, w) for the page, at most `Limits.shown` pixels long.
        problem: Why it cannot be read, a sentence for people; None if it can.
        remark: What should be known about how it was read, or "".
    """

    name: str
    key: str
    pixels: NDArray[np.uint8] | None = None
    shown: NDArray[np.uint8] | None = None
    problem: str | None = None
    remark: str = ""


def plain_name(name: str) -> str:
    """A file's name as it can be shown: no folders, nothing that cannot be printed, at most 80 characters."""
    base = str(name).replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(character if character.isprintable() else "?" for character in base).strip() or "unnamed"
    return shown if len(shown) <= 80 else f"{shown[:50]}…{shown[-29:]}"


def too_many(count: int, limits: Limits = LIMITS) -> str | None:
    """A sentence if more files came than are read at once, else None."""
    if count <= limits.files:
        return None
    return f"{count} files are more than the {limits.files} that are read at once; the first {limits.files} are shown."


def read_upload(name: str, data: bytes, *, size: int, limits: Limits = LIMITS) -> Upload:
    """Read one uploaded file; whatever it holds, the answer is an `Upload`.

    Args:
        name: The name it came with.
        data: Its bytes.
        size: Side of the model's input.
        limits: What is refused unread.
    """
    from fracturelab.images import image_facts, letterbox, load_image, picture_area, read_image

    name, key = plain_name(name), hashlib.sha256(data).hexdigest()
    if len(data) > limits.file_bytes:
        size_mb, most = len(data) / 1e6, limits.file_bytes // 1_000_000
        return Upload(name, key, problem=f"{name} has {size_mb:.0f} MB; files of up to {most} MB are read.")
    try:
        facts = image_facts(data)
        if facts.width * facts.height > limits.pixels:
            raise UnreadableImageError(
                name, f"{facts.width} x {facts.height} pixels, more than {limits.pixels // 1_000_000} million"
            )
        remarks: list[str] = []
        pixels = load_image(data, size, remarks=remarks)  # the very path that training and `fracturelab predict` take
        picture = read_image(data, min_side=limits.shown)[:, :, 0]
    except UnreadableImageError as error:
        return Upload(name, key, problem=f"{name} cannot be read: {error.reason}.")
    except MemoryError:
        return Upload(name, key, problem=f"{name} cannot be read: it needs more memory than there is.")
    if max(picture.shape) > limits.shown:
        square = letterbox(picture, limits.shown)[:, :, 0]
        picture = np.ascontiguousarray(square[picture_area(picture.shape, limits.shown)])
    if min(facts.width, facts.height) < 100:
        remarks.append("The picture is very small: a fine fracture line would not show.")
    if int(np.ptp(picture)) < 20:
        remarks.append("The picture is almost one shade of grey; it hardly is an X-ray.")
    return Upload(name, key, pixels, picture, remark=" ".join(remarks))
