"""Decode each image once: the pixels of a list of files as one array, memory-mapped from an on-disk cache.

A cache belongs to a list of paths and a size, and names for every image the length and modification time of the file it
was made from. Files that changed since are decoded again, the others are taken over. An image costs size x size bytes
on disk (49 KB at 224 px) and hardly any memory: 40,000 images never have to fit.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from fracturelab.errors import FracturelabError, UnreadableImageError
from fracturelab.images.letterbox import load_image
from fracturelab.images.store import Build, Row, cache_key, checksum, read_cache

_ROUND = 256  # images decoded before the next are begun: at 224 px, 13 MB in memory
_THREADS = 2  # where joblib was given no backend of its own
_Path = str | os.PathLike[str]


def default_cache_dir() -> Path:
    """Return the folder of decoded images: the environment's FRACTURELAB_CACHE, else the user's cache folder."""
    chosen = os.environ.get("FRACTURELAB_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("fracturelab", appauthor=False, opinion=False)


def load_images(
    paths: Sequence[_Path], size: int, *, cache_dir: _Path | Literal[False] | None = None, progress: bool = False
) -> np.ndarray:
    """Load and letterbox many images, from the cache where it is up to date.

    Args:
        paths: Image files; the order is kept.
        size: Side of the square, in pixels.
        cache_dir: Cache folder, None for `default_cache_dir()`, False for no cache (an array in memory).
        progress: Show a progress bar while decoding.

    Returns:
        uint8, (n, size, size, 1), bone bright, padded with 0; a read-only memory map where there is a cache.

    Raises:
        UnreadableImageError: The first file in the list that cannot be read.
        FracturelabError: The cache folder cannot be written or is full. Caches made earlier stay whole.
    """
    images, unreadable = load_readable_images(paths, size, cache_dir=cache_dir, progress=progress)
    for index, reason in unreadable.items():
        raise UnreadableImageError(os.fspath(paths[index]), reason)
    return images


def load_readable_images(
    paths: Sequence[_Path], size: int, *, cache_dir: _Path | Literal[False] | None = None, progress: bool = False
) -> tuple[np.ndarray, dict[int, str]]:
    """Load many images and list the unreadable ones instead of stopping at them.

    One pass over the files answers both what can be read and what the pixels are. Arguments as in `load_images`.

    Returns:
        The images, uint8, (n, size, size, 1), with 0 for the unreadable ones; and for each unreadable image its index
        and the reason, in order.

    Raises:
        FracturelabError: The cache folder cannot be written or is full. Caches made earlier stay whole.
    """
    names = [os.path.abspath(path) for path in paths]
    if cache_dir is False or not names:
        return _in_memory(names, size, progress=progress)
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _cached(names, size, folder=folder, progress=progress)
    except OSError as error:
        need = f" of {len(names) * size * size / 1e6:.0f} MB" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise FracturelabError(
            f"the image cache{need} cannot be written in {folder} ({error.strerror or error}); "
            "make room there or set FRACTURELAB_CACHE to another folder"
        ) from error


def _in_memory(names: list[str], size: int, *, progress: bool) -> tuple[np.ndarray, dict[int, str]]:
    images = np.zeros((len(names), size, size, 1), np.uint8)
    unreadable = {}
    for index, pixels, row in _decoded(names, range(len(names)), size, progress=progress):
        images[index] = pixels
        if row.reason is not None:
            unreadable[index] = row.reason
    return images, unreadable


def _cached(names: list[str], size: int, *, folder: Path, progress: bool) -> tuple[np.ndarray, dict[int, str]]:
    key = cache_key(names, size)
    pixels, rows = _current(folder, key, names, size)
    if len(rows) < len(names):
        try:
            lock = FileLock(folder / f"{key}.lock", thread_local=False).acquire()
        except NotImplementedError:  # a disk without locks
            return _in_memory(names, size, progress=progress)
        with lock:
            pixels, rows = _current(folder, key, names, size)  # another run may have built it meanwhile
            if len(rows) < len(names):
                rows = _build(folder, key, names, size, pixels, rows, progress=progress)
                built = read_cache(folder, key, images=len(names), size=size)
                if built is None:
                    raise OSError(errno.EIO, "what was written there cannot be read back")
                pixels = built[0]
    return pixels, _reasons(rows)


def _current(folder: Path, key: str, names: list[str], size: int) -> tuple[np.ndarray, dict[int, Row]]:
    """The pixels of a finished cache, and those of its rows whose files have not changed since."""
    stored = read_cache(folder, key, images=len(names), size=size)
    if stored is None:
        return np.zeros(0, np.uint8), {}
    return stored[0], {i: row for i, row in enumerate(stored[1]) if _is_current(row, names[i], size)}


def _build(
    folder: Path, key: str, names: list[str], size: int, pixels: np.ndarray, kept: dict[int, Row], *, progress: bool
) -> dict[int, Row]:
    """Write a cache from the rows that are kept of the one before, and from the files."""
    build = Build(folder, key, images=len(names), size=size)
    try:
        build.done = {i: row for i, row in build.done.items() if _is_current(row, names[i], size)}
        for index in sorted(kept.keys() - build.done.keys()):
            build.put(index, pixels[index], kept[index])
        missing = [index for index in range(len(names)) if index not in build.done]
        for number, (index, image, row) in enumerate(_decoded(names, missing, size, progress=progress)):
            build.put(index, image, row)
            if number % _ROUND == 0:
                build.flush()
        build.finish()
    except OSError:
        build.discard()
        raise
    finally:
        build.close()
    return build.done


def _reasons(rows: dict[int, Row]) -> dict[int, str]:
    return {index: row.reason for index, row in sorted(rows.items()) if row.reason is not None}


def _is_current(row: Row, name: str, size: int) -> bool:
    """Whether the file is the one the row was made from. Unreadable files are tried again: the cause may be gone."""
    if (row.bytes, row.mtime_ns) != _stamp(name):
        return False
    return row.reason is None or _decode(name, size)[1].reason == row.reason


def _stamp(name: str) -> tuple[int, int]:
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _decode(name: str, size: int) -> tuple[np.ndarray, Row]:
    """One image and what it was made from; a file that is being written is given three chances to hold still."""
    reason: str | None = None
    for _ in range(3):
        stamp = _stamp(name)
        try:
            pixels, reason = load_image(name, size), None
        except UnreadableImageError as error:
            pixels, reason = np.zeros((size, size, 1), np.uint8), error.reason
        if _stamp(name) == stamp:
            return pixels, Row(*stamp, checksum(pixels), reason)
    pixels = np.zeros((size, size, 1), np.uint8)
    return pixels, Row(*stamp, checksum(pixels), "the file changes while it is read")


def _decoded(
    names: list[str], indices: Sequence[int], size: int, *, progress: bool
) -> Iterator[tuple[int, np.ndarray, Row]]:
    """Decode in parallel, in order, a bounded number at a time."""
    from joblib import Parallel, delayed

    from fracturelab.system.progress import tqdm

    bar = tqdm(total=len(indices), desc="decoding", unit="image", disable=not progress, leave=False)
    # Pillow frees the interpreter lock while it decodes and scales, so threads are enough.
    with bar, Parallel(n_jobs=_THREADS, prefer="threads") as parallel:
        for start in range(0, len(indices), _ROUND):
            part = indices[start : start + _ROUND]
            for index, (pixels, row) in zip(
                part, parallel(delayed(_decode)(names[i], size) for i in part), strict=True
            ):
                yield index, pixels, row
                bar.update()
