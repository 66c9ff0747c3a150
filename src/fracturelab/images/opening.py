"""Open a file for reading without ever waiting for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from fracturelab.errors import UnreadableImageError


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file, or a link to one; a named pipe, a device or a folder is refused, not waited for.

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
