"""Checkpoints of a training run: the weights of its last and of its best epoch, and a state with a checksum over both.

`state.json` names the weights files. Its checksum covers itself and these files: an edited state, or one whose weights
changed, is reported and not used. Weights are written first and the state last, each with one `os.replace`. So a kill
in between loses one epoch, and no incomplete file is used.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from fracturelab.errors import FracturelabError
from fracturelab.records import package_versions, plain
from fracturelab.system.files import sha256_of, write_json

if TYPE_CHECKING:
    import keras

    from fracturelab.training.prepare import Prepared

_CODE = ("experiments", "training", "models", "images", "evaluation", "pipeline.py", "splits.py")


@cache
def code_digest() -> str:
    """Checksum of the source code that the numbers of a fit follow from."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for name in _CODE:
        place = package / name
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@contextlib.contextmanager
def work_folder(reports: str | Path, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Provide the folder for the checkpoints of one run; the same data, split, settings and code get the same folder.

    So a stopped run continues there. The folder is removed when the run is done, and kept when it fails. While another
    process works on the same run, this one gets a temporary folder.

    Args:
        reports: The reports folder.
        prepared: The data.
        settings: All that the fit follows from.

    Yields:
        The folder.

    Raises:
        FracturelabError: It cannot be made.
    """
    split = prepared.table["split"].fillna("").tolist()
    data = [prepared.hashes.tolist(), prepared.labels.tolist(), split, prepared.size]
    content = [[*data, package_versions(), code_digest()], plain(dict(settings))]
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    folder = Path(reports) / "checkpoints" / key[:16]
    with contextlib.ExitStack() as stack:
        if stack.enter_context(locked(folder)):
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
        else:
            prefix = f"{key[:16]}-"
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent)))


@contextlib.contextmanager
def locked(folder: Path, content: str = "checkpoints") -> Iterator[bool]:
    """Make a folder and lock it for as long as the block lasts.

    Args:
        folder: The folder.
        content: Content of the folder, for the error.

    Yields:
        True, or False if another process has the lock.

    Raises:
        FracturelabError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "lock")
        lock.acquire(blocking=False)
    except filelock.Timeout:
        yield False
        return
    except OSError as error:
        raise FracturelabError(f"{folder}: {content} cannot be written ({error.strerror or error})") from error
    try:
        yield True
    finally:
        lock.release()


def read_state(folder: Path, stage: str) -> dict[str, Any]:
    """Where an earlier call was stopped, or the beginning; a state that cannot be used is named in a warning.

    Args:
        folder: Of the run.
        stage: Name of the stage.

    Returns:
        `next` (number of the epoch to train), `since` (epochs without a better one), `best` (`epoch`, `val_loss` and
        `file`, or None), `stopped`, `history`, `last` (file of the weights to go on from), `stage`.
    """
    fresh: dict[str, Any] = {
        "stage": stage,
        "next": 0,
        "since": 0,
        "best": None,
        "stopped": False,
        "history": [],
        "last": None,
    }
    path = folder / "state.json"
    if not path.exists():
        return fresh
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        state = stored["state"]
        if stored["sha256"] != _digest(state, folder):
            raise ValueError("it or the weights it names are not as they were written")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        warnings.warn(f"{path} cannot be used ({error}); {stage} is trained from its first epoch", stacklevel=3)
        return fresh
    return state if state["stage"] == stage else fresh


def write_state(model: keras.Model, folder: Path, state: dict[str, Any]) -> None:
    """Write the weights of the epoch before `state["next"]`, then the state; older weights go.

    Raises:
        FracturelabError: The folder cannot be written, or the disk is full; what was there stays.
    """
    epoch = state["next"] - 1
    last = f"epoch{epoch:04d}.weights.h5"
    part = folder / f"tmp-{last}"
    try:
        _check_room(model, folder)
        model.save_weights(str(part))
        os.replace(part, folder / last)
    except (OSError, RuntimeError) as error:  # HDF5 raises either
        part.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise FracturelabError(f"{folder}: the checkpoint cannot be written ({reason})") from error
    state["last"] = last
    if state["best"] is not None and state["best"]["epoch"] == epoch:
        state["best"]["file"] = last
    write_json(folder / "state.json", {"sha256": _digest(state, folder), "state": state})
    for file in folder.glob("*.weights.h5"):
        if file.name not in (last, state["best"]["file"]):
            file.unlink(missing_ok=True)


def _digest(state: dict[str, Any], folder: Path) -> str:
    """Checksum of a state and of the weights that it names."""
    files = sorted({state["last"], state["best"]["file"]})
    content = [state, [[name, sha256_of(folder / Path(name).name)] for name in files]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_room(model: keras.Model, folder: Path) -> None:
    """Refuse a disk without room for the weights before HDF5 meets it, which says so in many lines, and twice."""
    held = [*getattr(model, "variables", ()), *getattr(getattr(model, "optimizer", None), "variables", ())]
    if shutil.disk_usage(folder).free < sum(4 * math.prod(variable.shape) for variable in held):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
