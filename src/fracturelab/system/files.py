"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fracturelab.errors import FracturelabError


@contextmanager
def whole_file(path: str | Path, *, suffix: str = ".tmp") -> Iterator[Path]:
    """A temporary file that takes the place of `path` when the block ends well; else what was there before stays.

    Args:
        path: The file; its folders are made.
        suffix: The end of the temporary file's name, for writers that look at it.

    Yields:
        The temporary file, empty, in the same folder, `.{name}.{random}{suffix}`.

    Raises:
        FracturelabError: It cannot be written.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=suffix)
        os.close(handle)
        yield Path(temporary)
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise FracturelabError(
            f"cannot write {path}: {error.strerror or error}. Choose a folder that can be written, or free some space"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
