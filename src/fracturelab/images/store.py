"""The files of the image cache: pixels, a manifest that vouches for them, and an unfinished build that can go on.

`<key>.json` is the manifest, `<key>-<random>.npy` the pixels it names. Pixels are put in place first and the manifest
last, each with one `os.replace`, so a half-written cache is never taken for a whole one. `<key>.partial` is a build
under way, `<key>.partial.journal` lists its finished rows. The builder holds the lock `<key>.lock`, which the system
frees when the builder dies; the next run then goes on from the journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import time
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

# Raise this when decoding or letterboxing changes any pixel: older caches are then left aside.
FORMAT = "fracturelab images 3"
_SPOT_CHECKS = 32
_DAY = 86_400
_SETTLED = 600  # seconds after which another build must have named its pixels in a manifest


class Row(NamedTuple):
    """What one row of the pixels was made from.

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
    """The name under which this list of absolute paths at this size is kept."""
    return hashlib.sha256(json.dumps([FORMAT, size, list(paths)]).encode()).hexdigest()[:24]


def checksum(pixels: np.ndarray) -> int:
    """CRC-32 of a row of pixels."""
    return zlib.crc32(np.ascontiguousarray(pixels).data)


def read_cache(folder: Path, key: str, *, images: int, size: int) -> tuple[np.ndarray, list[Row | None]] | None:
    """Open a finished cache.

    The manifest's own checksum, the array's header and length, and a few rows are always checked; all rows are where
    the array was touched since the manifest was written.

    Returns:
        The read-only memory-mapped pixels and a row for each image, None for a row whose pixels are damaged; or None
        where there is no usable cache. Damage is warned about by name.
    """
    path = folder / f"{key}.json"
    for attempt in range(3):
        try:
            text = path.read_bytes()
        except OSError:
            return None
        try:
            return _checked(folder, json.loads(text), key=key, images=images, size=size)
        except FileNotFoundError:  # another run has just replaced it
            time.sleep(0.05 * attempt)
        except Exception as error:  # edited, cut short, or not ours: made again from the images
            warnings.warn(f"image cache {path} is damaged ({error}) and is made again", stacklevel=2)
            return None
    return None


def _checked(folder: Path, stored: Any, *, key: str, images: int, size: int) -> tuple[np.ndarray, list[Row | None]]:
    body = stored["manifest"]
    if stored["sha256"] != _digest(body):
        raise ValueError("the manifest's checksum does not match")
    if (body["format"], body["key"], body["images"], body["size"]) != (FORMAT, key, images, size):
        raise ValueError("the manifest belongs to other images")
    data = folder / Path(body["data"]).name
    pixels = np.load(data, mmap_mode="r", allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.shape != (images, size, size, 1) or not pixels.flags.c_contiguous:
        raise ValueError(f"{data.name} holds {pixels.dtype} {pixels.shape}")
    status = data.stat()
    if status.st_size != len(_header(images, size)) + pixels.size:
        raise ValueError(f"{data.name} has the wrong length")
    rows: list[Row | None] = [Row(*row) for row in body["rows"]]
    touched = status.st_mtime_ns != body["data_mtime_ns"]
    for index in range(0, images, 1 if touched else max(1, images // _SPOT_CHECKS)):
        row = rows[index]
        if row is not None and checksum(pixels[index]) != row.crc:
            rows[index] = None
    damaged = sum(row is None for row in rows)
    if damaged:
        warnings.warn(f"image cache {data} is damaged in {damaged} places, which are made again", stacklevel=4)
    return pixels, rows


def _named_in(manifest: Path) -> str | None:
    """The pixels that a manifest names, None where there is none that can be read."""
    try:
        return str(json.loads(manifest.read_bytes())["manifest"]["data"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _header(images: int, size: int) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (images, size, size, 1)}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


class Build:
    """A cache being written: rows in any order, then `finish`.

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
        self._start, self._step = len(_header(images, size)), size * size
        self._path = folder / f"{key}.partial"
        self.done: dict[int, Row] = {}
        self._open = contextlib.ExitStack()
        lock = FileLock(folder / f"{key}.lock", blocking=False, thread_local=False)
        try:
            self._open.enter_context(lock)
        except (Timeout, NotImplementedError):  # another run builds the same cache
            self._path = folder / f"{key}-{secrets.token_hex(6)}.partial"
        self._journal_path = Path(f"{self._path}.journal")
        try:
            self._path.touch()
            self._file = self._open.enter_context(self._path.open("r+b"))
            self._prepare()
            self._journal = self._open.enter_context(self._journal_path.open("a", encoding="utf-8", newline="\n"))
            self._journal.write("\n")  # ends a line that was cut short
        except OSError:
            self.discard()
            raise

    def _prepare(self) -> None:
        header, total = _header(self._images, self._size), self._start + self._images * self._step
        descriptor = self._file.fileno()
        if os.fstat(descriptor).st_size == total and self._file.read(len(header)) == header:
            self.done = self._read_journal()
            return
        self._file.truncate(0)
        self._journal_path.unlink(missing_ok=True)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, total)
        else:
            self._file.truncate(total)
        self._file.seek(0)
        self._file.write(header)
        self._file.flush()

    def _read_journal(self) -> dict[int, Row]:
        rows: dict[int, Row] = {}
        if not self._journal_path.exists():
            return rows
        for line in self._journal_path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                index, *values = json.loads(line)
                row = Row(*values)
                if 0 <= index < self._images and checksum(self.row(index)) == row.crc:
                    rows[index] = row
        return rows

    def row(self, index: int) -> np.ndarray:
        """The pixels written at `index`, flat."""
        self._file.seek(self._start + index * self._step)
        return np.frombuffer(self._file.read(self._step), np.uint8)

    def put(self, index: int, pixels: np.ndarray, row: Row) -> None:
        """Write one image and note it as done."""
        self._file.seek(self._start + index * self._step)
        self._file.write(np.ascontiguousarray(pixels).data)
        self.done[index] = row
        self._journal.write(json.dumps([index, *row]) + "\n")

    def flush(self) -> None:
        """Hand what was put so far to the system, pixels before the journal that vouches for them."""
        self._file.flush()
        self._journal.flush()

    def finish(self) -> None:
        """Put the finished pixels and then the manifest in place."""
        self.flush()
        os.fsync(self._file.fileno())
        data = self._folder / f"{self._key}-{secrets.token_hex(6)}.npy"
        self._file.close()
        os.utime(self._path)  # a build that found all of its rows done has written nothing
        os.replace(self._path, data)
        self._journal.close()
        self._journal_path.unlink(missing_ok=True)
        body = {
            "format": FORMAT,
            "key": self._key,
            "images": self._images,
            "size": self._size,
            "data": data.name,
            "data_mtime_ns": data.stat().st_mtime_ns,
            "rows": [list(self.done[index]) for index in range(self._images)],
        }
        manifest = self._folder / f"{self._key}.json"
        temporary = self._folder / f"{data.stem}.json.tmp"
        try:
            temporary.write_text(json.dumps({"sha256": _digest(body), "manifest": body}), encoding="utf-8")
            replaced = _named_in(manifest)
            os.replace(temporary, manifest)
        except OSError:
            for path in (temporary, data):
                with contextlib.suppress(OSError):
                    path.unlink()
            raise
        self._sweep(data.name, replaced)

    def _sweep(self, current: str, replaced: str | None) -> None:
        """Remove the pixels that the manifest named before, and what no build can still be about to name in one.

        Whoever has pixels open keeps them.
        """
        for path in self._folder.glob(f"{self._key}-*"):
            with contextlib.suppress(OSError):
                old = time.time() - path.stat().st_mtime > (_SETTLED if path.suffix == ".npy" else _DAY)
                if path.name != current and (old or path.name == replaced):
                    path.unlink()

    def close(self) -> None:
        """Stop here; the next build goes on from what was put."""
        with contextlib.suppress(OSError):
            self._open.close()

    def discard(self) -> None:
        """Stop here and remove what was put."""
        for path in (self._journal_path, self._path):
            with contextlib.suppress(OSError):
                path.unlink()
        self.close()
