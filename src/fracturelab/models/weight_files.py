"""Weights files: arrays alone are read, from HDF5 without links or objects, or from a packaged PyTorch file."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fracturelab.errors import FracturelabError
from fracturelab.models.efficientnet_lite import load_torch
from fracturelab.system.files import sha256_of

if TYPE_CHECKING:
    import h5py
    import keras

FORMAT = "fracturelab-weights-1"
_MAX_BYTES = 4 * 2**30
_WRONG = (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError)
_UNREADABLE = (OSError, EOFError, pickle.UnpicklingError, *_WRONG)


def load_into(model: keras.Model, path: str | Path, *, sha256: str | None = None) -> None:
    """Load a weights file into a model of the same shape.

    Args:
        model: Usually a backbone from `backbones.build_backbone`.
        path: A bundled file, a Keras `.weights.h5`, an older Keras `.h5`, or a packaged `.pth`. Only arrays are read.
        sha256: Refuse the file unless it has this checksum.

    Raises:
        FracturelabError: Not a weights file, one of another shape, or not the file that was described.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise FracturelabError(f"{path}: no such weights file")
    if sha256 is not None and sha256_of(path) != sha256:
        raise FracturelabError(f"{path}: its sha256 is not the one in its description; fetch the file again")
    try:
        if path.suffix == ".pth":
            return load_torch(model, path)
        with h5py.File(path, "r") as file:
            check_arrays(file, path)
            own = file.attrs.get("format") == FORMAT
            if own:
                _load_own(model, file, path)
        if not own:
            _load_keras(model, path)
    except FracturelabError:
        raise
    except _UNREADABLE as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FracturelabError(f"{path}: these weights do not fit {model.name}, or are no weights: {first}") from error


def check_arrays(file: h5py.File, path: Path) -> None:
    """Check that a file holds plain arrays alone.

    Raises:
        FracturelabError: The file holds links, arrays kept elsewhere, objects, or more than 4 GiB.
    """
    import h5py

    total = 0
    stack: list[h5py.Group] = [file]
    while stack:
        group = stack.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise FracturelabError(f"{path}: {group.name}/{name} is a link; expected plain arrays only")
            item = group[name]
            if isinstance(item, h5py.Group):
                stack.append(item)
                continue
            if not isinstance(item, h5py.Dataset):
                continue
            if item.external or item.is_virtual or (item.dtype.hasobject and item.dtype.kind == "V"):
                raise FracturelabError(f"{path}: {item.name} is not a plain array")
            total += item.size * item.dtype.itemsize if item.size else 0
            if total > _MAX_BYTES:
                raise FracturelabError(f"{path}: more than {_MAX_BYTES >> 30} GiB of arrays; this is no backbone")


def _load_keras(model: keras.Model, path: Path) -> None:
    """Load with Keras, and check that no kernel still has its random initial values."""
    import numpy as np

    before = [np.asarray(variable) for variable in model.weights]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping nested container")
        model.load_weights(str(path))
    for variable, old in zip(model.weights, before, strict=True):
        new = np.asarray(variable)
        if not np.isfinite(new).all():
            raise FracturelabError(f"{path}: {variable.path} holds values that are not finite")
        if new.ndim > 1 and np.array_equal(new, old):
            raise FracturelabError(f"{path}: has no {variable.path}, which {model.name} needs")


def _load_own(model: keras.Model, file: h5py.File, path: Path) -> None:
    import numpy as np

    names = sorted(file)
    if len(names) != len(model.weights):
        raise FracturelabError(f"{path}: expected {len(model.weights)} arrays for {model.name}. Received: {len(names)}")
    arrays = []
    for name, variable in zip(names, model.weights, strict=True):
        stored = file[name]
        kind = variable.path.split("/")[-1]
        if tuple(stored.shape) != tuple(variable.shape) or stored.attrs.get("name") != kind:
            raise FracturelabError(
                f"{path}: expected {variable.path} of shape {tuple(variable.shape)} for {model.name}. "
                f"Received: {stored.attrs.get('name')} of shape {tuple(stored.shape)}"
            )
        arrays.append(np.asarray(stored, dtype="float32"))
        if not np.isfinite(arrays[-1]).all():
            raise FracturelabError(f"{path}: {variable.path} holds values that are not finite")
    model.set_weights(arrays)
