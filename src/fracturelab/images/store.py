"""The files of the image cache: pixels, a manifest with their checksums, and an unfinished build that can go on.

`<key>.json` is the manifest, `<key>-<random>.npy` the pixels that it names. The pixels are put in place first and the
manifest last, each with one `os.replace`, so that a half-written cache is never taken for a whole one. `<key>.partial`
is an unfinished build, and `<key>.partial.journal` lists its finished rows. The builder holds the lock `<key>.lock`,
which the system frees when the builder dies. The next run then goes on from the journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fracturelab.system.files import whole_file

# Raise this when decoding or letterboxing changes any pixel: older caches are then left aside.
FORMAT = "fracturelab images 3"
_SPOT_CHECKS = 32


class Row(NamedTuple):
    """The file that one row of the pixels was made from.

    Attributes:
        bytes: Length of the image file, -1 where there was none.
        mtime_ns: Its modification time, -1 where there was none.
        crc: CRC-32 of the row's pixels.
        reason: Why the file could not be read (the pixels are then 0), or None.
    """

    bytes: int
    mtime_ns: int
    crc: int
    reason: str | None


def cache_key(paths: Sequence[str], size: int) -> str:
    """Return the name of the cache of this list of absolute paths at this size."""
    return hashlib.sha256(json.dumps([FORMAT, size, list(paths)]).encode()).hexdigest()[:24]


def checksum(pixels: np.ndarray) -> int:
    """Compute the CRC-32 of a row of pixels."""
    return zlib.crc32(np.ascontiguousarray(pixels).data)


def read_cache(folder: Path, key: str, *, images: int, size: int) -> tuple[np.ndarray, list[Row]] | None:
    """Open a finished cache.

    The manifest's own checksum, the array's type and a few rows are always checked. All rows are checked where the
    array was written to after the manifest.

    Returns:
        The read-only memory-mapped pixels and a row for each image; or None where there is no usable cache. A warning
        names a damaged one.
    """
    path = folder / f"{key}.json"
    try:
        stored = json.loads(path.read_bytes())
        body = stored["manifest"]
        if stored["sha256"] != _digest(body) or body["key"] != key:
            raise ValueError("the manifest was edited")
        data = folder / Path(body["data"]).name
        pixels = np.load(data, mmap_mode="r", allow_pickle=False)
        if pixels.dtype != np.uint8 or pixels.shape != (images, size, size, 1):
            raise ValueError(f"{data.name} holds {pixels.dtype} {pixels.shape}")
        rows = [Row(*row) for row in body["rows"]]
        touched = data.stat().st_mtime_ns != body["data_mtime_ns"]
        for index in range(0, images, 1 if touched else max(1, images // _SPOT_CHECKS)):
            if checksum(pixels[index]) != rows[index].crc:
                raise ValueError(f"the pixels of image {index} were edited")
    except OSError:  # none yet, or another run has just replaced it
        return None
    except Exception as error:  # edited, cut short, or another program's: made again from the images
        warnings.warn(f"image cache {path} is damaged ({error}) and is made again", stacklevel=2)
        return None
    return pixels, rows


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Build:
    """A cache being written: rows in any order, then `finish`. The caller holds the cache's lock.

    Pixels are written with plain writes into space reserved beforehand, never through a memory map, because a full
    disk would kill the process there instead of raising an error.

    Args:
        folder: The cache folder, which must exist.
        key: From `cache_key`.
        images: Number of rows.
        size: Side of an image in pixels.

    Attributes:
        done: Rows that an earlier, interrupted build has left whole.

    Raises:
        OSError: The folder cannot be written, or has too little space.
    """

    def __init__(self, folder: Path, key: str, *, images: int, size: int) -> None:
        self._folder, self._key, self._images, self._size = folder, key, images, size
        self._step = size * size
        self._path, self._journal_path = folder / f"{key}.partial", folder / f"{key}.partial.journal"
        self.done: dict[int, Row] = {}
        self._open = contextlib.ExitStack()
        try:
            if not (self._path.exists() and self._journal_path.exists()):
                np.lib.format.open_memmap(self._path, "w+", np.uint8, shape=(images, size, size, 1))
            self._start = self._path.stat().st_size - images * self._step
            self._file = self._open.enter_context(self._path.open("r+b"))
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, self._start + images * self._step)
            self._journal = self._open.enter_context(self._journal_path.open("a+", encoding="utf-8", newline="\n"))
            self._read_journal()
            self._journal.write("\n")  # ends a line that was cut short
        except OSError:
            self.discard()
            raise

    def _read_journal(self) -> None:
        self._journal.seek(0)
        for line in self._journal:
            with contextlib.suppress(ValueError, TypeError):
                index, *values = json.loads(line)
                row = Row(*values)
                if 0 <= index < self._images and checksum(self._pixels(index)) == row.crc:
                    self.done[index] = row

    def _pixels(self, index: int) -> np.ndarray:
        self._file.seek(self._start + index * self._step)
        return np.frombuffer(self._file.read(self._step), np.uint8)

    def put(self, index: int, pixels: np.ndarray, row: Row) -> None:
        """Write one image and note it as done."""
        self._file.seek(self._start + index * self._step)
        self._file.write(np.ascontiguousarray(pixels).data)
        self.done[index] = row
        self._journal.write(json.dumps([index, *row]) + "\n")

    def flush(self) -> None:
        """Hand what was put so far to the system, the pixels before the journal that lists them."""
        self._file.flush()
        self._journal.flush()

    def finish(self) -> None:
        """Put the finished pixels and then the manifest in place, and remove the pixels that it named before.

        Whoever has those open keeps them.
        """
        self.flush()
        os.fsync(self._file.fileno())
        self.close()
        data = self._folder / f"{self._key}-{secrets.token_hex(6)}.npy"
        os.utime(self._path)  # a build that found all of its rows done has written nothing
        os.replace(self._path, data)
        body = {
            "key": self._key,
            "size": self._size,
            "data": data.name,
            "data_mtime_ns": data.stat().st_mtime_ns,
            "rows": [list(self.done[index]) for index in range(self._images)],
        }
        with whole_file(self._folder / f"{self._key}.json") as manifest:
            manifest.write_text(json.dumps({"sha256": _digest(body), "manifest": body}), encoding="utf-8")
        self._journal_path.unlink()
        for path in self._folder.glob(f"{self._key}-*.npy"):
            if path != data:
                with contextlib.suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Stop here; the next build goes on from what was put."""
        with contextlib.suppress(OSError):
            self._open.close()

    def discard(self) -> None:
        """Stop here and remove what was put."""
        self.close()
        for path in (self._journal_path, self._path):
            path.unlink(missing_ok=True)
