"""Read every file of a data set once: checksum, size, thumbnail, or the reason why it cannot be read.

Files are read in chunks through joblib, so that `joblib.parallel_config(backend="dask")` moves the reading to a cluster
whose workers see the same paths. What is kept of an image is a thumbnail of 4 KB: 40,000 images take 164 MB.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from PIL import Image

from fracturelab.audit.duplicates import SIDE
from fracturelab.errors import UnreadableImageError
from fracturelab.images import MAX_FILE_BYTES, image_facts, read_image
from fracturelab.images.opening import open_regular
from fracturelab.system.progress import tqdm

_CHUNK = 64  # files a task
_FEW = 256  # fewer files than this are read here, without starting workers
_Facts = tuple[str | None, str | None, int, int, int, bool]


@dataclass(frozen=True)
class Readings:
    """What reading the files found, one entry a file, in the order of the paths.

    Attributes:
        paths: The files, as given.
        reasons: Why a file cannot be read; None where it can.
        sha256: Checksum of the file's bytes; None where even those cannot be had.
        file_bytes: int64 (n,), length of the file; 0 where unknown.
        widths: int64 (n,), pixels across, the right way up; 0 where unreadable.
        heights: int64 (n,), pixels down; 0 where unreadable.
        thumbnails: uint8 (n, 64, 64), the whole picture squeezed into a square; 0 where unreadable.
        several: bool (n,), files of more than one picture (animations, pages), of which the first is read.
    """

    paths: tuple[str, ...]
    reasons: tuple[str | None, ...]
    sha256: tuple[str | None, ...]
    file_bytes: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    thumbnails: np.ndarray
    several: np.ndarray

    @property
    def readable(self) -> np.ndarray:
        """Which files could be decoded whole: bool (n,)."""
        return np.array([reason is None for reason in self.reasons], bool)


def read_files(paths: Sequence[str | Path], *, progress: bool = False, workers: int | None = None) -> Readings:
    """Read files once each, several at a time.

    Args:
        paths: Image files.
        progress: Show a progress bar.
        workers: Processes; by default what `joblib.parallel_config` says, or else one for each core.

    Returns:
        The readings, in the order of the paths.
    """
    names = [str(path) for path in paths]
    count = len(names)
    chunks = [names[start : start + _CHUNK] for start in range(0, count, _CHUNK)]
    thumbnails = np.zeros((count, SIDE, SIDE), np.uint8)
    facts: list[_Facts] = []
    parallel = joblib.Parallel(n_jobs=_jobs(count, workers), return_as="generator", batch_size=1)
    with tqdm(total=count, desc="reading", unit="file", disable=not progress) as bar:
        for part_facts, part_thumbnails in parallel(joblib.delayed(_read_chunk)(chunk) for chunk in chunks):
            thumbnails[len(facts) : len(facts) + len(part_facts)] = part_thumbnails
            facts.extend(part_facts)
            bar.update(len(part_facts))
    reasons, checksums, file_bytes, widths, heights, several = zip(*facts, strict=True) if facts else ((),) * 6
    return Readings(
        paths=tuple(names),
        reasons=tuple(reasons),
        sha256=tuple(checksums),
        file_bytes=np.array(file_bytes, np.int64),
        widths=np.array(widths, np.int64),
        heights=np.array(heights, np.int64),
        thumbnails=thumbnails,
        several=np.array(several, bool),
    )


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Squeeze an image into a square of 64 x 64 pixels by averaging areas.

    Unlike letterboxing this leaves no padding, which would make any two images of one shape look alike.

    Args:
        image: uint8, (height, width) or (height, width, 1).

    Returns:
        uint8, (64, 64).
    """
    pixels = Image.fromarray(image.reshape(image.shape[:2]))
    return np.asarray(pixels.resize((SIDE, SIDE), Image.Resampling.BOX))


def _jobs(count: int, workers: int | None) -> int | None:
    if workers is not None:
        return workers
    if joblib.effective_n_jobs(None) > 1:
        return None  # the caller's parallel_config decides
    return 1 if count < _FEW else os.cpu_count()


def _read_chunk(paths: list[str]) -> tuple[list[_Facts], np.ndarray]:
    facts: list[_Facts] = []
    thumbnails = np.zeros((len(paths), SIDE, SIDE), np.uint8)
    for number, path in enumerate(paths):
        data: bytes | None = None
        try:
            data = _file_bytes(path)
            header = image_facts(data)
            thumbnails[number] = thumbnail(read_image(data, min_side=2 * SIDE))
        except UnreadableImageError as error:
            checksum = hashlib.sha256(data).hexdigest() if data is not None else None
            facts.append((error.reason, checksum, len(data or b""), 0, 0, False))
        else:
            checksum = hashlib.sha256(data).hexdigest()
            facts.append((None, checksum, len(data), header.width, header.height, header.animated))
    return facts, thumbnails


def _file_bytes(path: str) -> bytes:
    with open_regular(path) as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableImageError(path, f"the file is longer than the limit of {MAX_FILE_BYTES // 1_000_000} MB")
    return data
