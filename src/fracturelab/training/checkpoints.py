"""Where a loop over epochs stands, on disk: the weights of its last and best epoch, and a state that vouches for them.

`state.json` names the weights and carries a checksum over itself and over them, so that one that was edited, or whose
weights are not as they were written, is named and not used. Weights are put in place first and the state last, each
with one `os.replace`: a kill in between loses one epoch, and nothing half written is taken for whole.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError
from fracturelab.system.files import sha256_of, write_json

if TYPE_CHECKING:
    import keras


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
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise FracturelabError(f"{folder}: the checkpoint cannot be written ({said})") from error
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
