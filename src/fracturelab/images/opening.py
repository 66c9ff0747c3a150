"""Open a file for reading without ever waiting for it, and refuse what is too large to be a picture."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from fracturelab.errors import UnreadableImageError

MAX_PIXELS = 80_000_000
"""Pictures of more pixels are refused from their header. The largest digital radiographs have about 60 million."""

MAX_FILE_BYTES = 1_000_000_000
"""Longer files are refused unopened."""

MIN_SIDE = 8
"""Pictures with a side shorter than this many pixels are refused: no X-ray is that small."""

Source = str | os.PathLike[str] | bytes


@contextmanager
def open_source(source: Source, name: str) -> Iterator[BinaryIO]:
    """Open a source as a seekable binary file of bounded length.

    Args:
        source: A path, or the bytes of the file.
        name: The name of the file in errors.

    Raises:
        UnreadableImageError: It cannot be opened, it is empty, or it is longer than `MAX_FILE_BYTES`.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
        length = len(source) if isinstance(source, bytes) else os.fstat(file.fileno()).st_size
        if length == 0:
            raise UnreadableImageError(name, "the file is empty (0 bytes)")
        if length > MAX_FILE_BYTES:
            limit = MAX_FILE_BYTES // 1_000_000
            raise UnreadableImageError(name, f"the file is longer than the limit of {limit} MB")
        yield file


def check_size(width: int, height: int, name: str) -> None:
    """Refuse pictures of more than `MAX_PIXELS` pixels or with a side below `MIN_SIDE`.

    Raises:
        UnreadableImageError: The size is not accepted.
    """
    size = f"{width} x {height} pixels"
    if width * height > MAX_PIXELS:
        raise UnreadableImageError(name, f"{size}, more than the limit of {MAX_PIXELS // 1_000_000} million")
    if min(width, height) < MIN_SIDE:
        raise UnreadableImageError(name, f"{size}, too small for an X-ray")


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[io.BufferedReader]:
    """Open a regular file or a link to it. Named pipes, devices and folders are refused without waiting for them.

    Args:
        path: The file.

    Yields:
        The open file, at its first byte.

    Raises:
        UnreadableImageError: It is no regular file, it is not there, or it may not be read.
    """
    name = os.fspath(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        if os.path.isdir(path):
            raise UnreadableImageError(name, "a folder, not a file")
        file = open(os.open(path, flags), "rb")  # noqa: SIM115 (closed below)
    except UnreadableImageError:
        raise
    except (OSError, ValueError) as error:
        raise UnreadableImageError(name, _reason(error)) from None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UnreadableImageError(name, "not a regular file (a pipe, socket or device)")
        yield file


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file (moved, deleted, or a broken link)"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be opened: {os.strerror(error.errno).lower()}"
    return f"cannot be opened: {error}"
