"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fracturelab.errors import FracturelabError
from fracturelab.system.plain import plain


def sha256_of(path: str | Path) -> str:
    """Compute the sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file whole or not at all, with line ends as they are.

    Raises:
        FracturelabError: It cannot be written; what was there before stays.
    """
    with whole_file(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


def write_json(path: str | Path, values: Mapping[str, Any]) -> Path:
    """Write a JSON file whole or not at all; arrays, sets and paths are written as lists and text.

    Raises:
        FracturelabError: It cannot be written; what was there before stays.
    """
    return write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False, default=plain) + "\n")


@contextmanager
def whole_file(path: str | Path, *, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block ends without an error.

    Args:
        path: The file; its folders are made.
        suffix: The end of the temporary file's name, for writers that look at it.

    Yields:
        The temporary file, empty, in the same folder, `.{name}.{random}{suffix}`.

    Raises:
        FracturelabError: It cannot be written.
    """
    path = Path(path)
    with _writing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=suffix)
        try:
            os.close(handle)
            yield Path(temporary)
            os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` when the block ends without an error.

    Args:
        path: The folder; its parents are made. It must not exist yet, or be empty.
        replace: Delete a folder that is there, once the new one is whole.

    Yields:
        The temporary folder, empty, beside `path`, `.{name}.{random}`.

    Raises:
        FracturelabError: It cannot be written, or another folder with files stands at `path`.
    """
    path = Path(os.path.abspath(path))
    with _writing(path):
        temporary = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            yield Path(temporary)
            os.chmod(temporary, 0o755)
            if replace:
                shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                path.rmdir()  # an empty folder
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make the folder that holds `path`; turn what fails in the block into one line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise FracturelabError(
            f"cannot write {path}: {error.strerror or error}. Choose a folder that can be written, or free some space"
        ) from error
