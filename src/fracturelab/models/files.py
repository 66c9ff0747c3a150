"""Saved models: one `.keras` file with its card, a JSON, beside it. Loading never runs code from the file.

Keras's `safe_mode` refuses Lambda layers only once it meets them, and old formats may carry pickled code. So the file
is looked through first: a zip with Keras's members and nothing else, a configuration whose every class is one of
Keras's own, weights without links. Only then does Keras open it.
"""

from __future__ import annotations

import contextlib
import glob
import json
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab.errors import FracturelabError
from fracturelab.models.norms import fuse_norms
from fracturelab.models.weight_files import check_arrays
from fracturelab.system.files import sha256_of, whole_file, write_json
from fracturelab.system.quiet import load_tensorflow

if TYPE_CHECKING:
    import keras

_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
_MAX_CONFIG = 32 * 2**20
_MAX_WEIGHTS = 4 * 2**30
_DAY = 86_400
# What a configuration may name. Anything else of Keras (its file and download functions, say) is no part of a model.
_VALUES = {"__keras_tensor__", "__tuple__", "__numpy__", "__tensor__"}
_MODELS = {"Functional", "Model", "Sequential", "DTypePolicy"}
_PARTS = ("layers", "initializers", "regularizers", "constraints", "dtype_policies", "optimizers", "losses", "metrics")
_INNER_PARTS = ("optimizers.schedules", "src.applications.convnext", "src.ops.numpy", "src.ops.nn")
_MODULES = {f"keras.{part}" for part in (*_PARTS, *_INNER_PARTS)}
_REFUSED = {"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}


def check_destination(path: str | Path, *, replace: bool = True) -> Path:
    """Refuse a place where a model cannot be saved, and, unless `replace`, one where a model is."""
    path = Path(path)
    if path.suffix != ".keras":
        raise FracturelabError(f"expected a model file that ends in .keras. Received: {path}")
    if path.is_dir():
        raise FracturelabError(f"{path}: is a folder; expected a file name that ends in .keras")
    if path.exists() and not replace:
        raise FracturelabError(f"{path} exists already and is not overwritten; name another --out, or add --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise FracturelabError(f"{path.parent}: cannot be written ({error.strerror or error})") from error
    return path


def save_model(model: keras.Model, path: str | Path, card: Mapping[str, Any], *, half: bool = False) -> Path:
    """Save a model and its card, each whole or not at all; the card comes last.

    Args:
        model: A built model.
        path: A file name ending in `.keras`; the card is written beside it with `.json`.
        card: What a user must know: name, kind, threshold, input_size, weights, data, metrics, licence and so on.
        half: Round kernels to half precision, in `model` too, and compress the file: it takes about half the room.

    Raises:
        FracturelabError: The place cannot be written.
    """
    path = check_destination(path)
    sweep(path.parent, (f".{glob.escape(path.name)}.*.tmp.keras", f".{glob.escape(path.stem)}.json.*.tmp"))
    with whole_file(path, suffix=".tmp.keras") as part:
        if half:
            round_to_half(model)
        model.save(part)
        if half:
            with zipfile.ZipFile(part) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
    write_json(path.with_suffix(".json"), {**card, "file": path.name, "sha256": sha256_of(path)})
    return path


def round_to_half(model: keras.Model) -> None:
    """Round the kernels of a model to half precision; batch norms and biases, which are small, stay as they are."""
    for variable in model.weights:
        if len(variable.shape) > 1:
            variable.assign(np.asarray(variable).astype(np.float16).astype(np.float32))


def sweep(folder: Path, patterns: Sequence[str]) -> None:
    """Remove what saving that was killed a day or more ago has left."""
    for pattern in patterns:
        for left in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _DAY:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def read_card(path: str | Path) -> dict[str, Any]:
    """The card beside a model file.

    Args:
        path: The `.keras` file, or the card itself.

    Raises:
        FracturelabError: There is no card, or it is not one.
    """
    card = Path(path).with_suffix(".json")
    try:
        values = json.loads(card.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FracturelabError(
            f"{card}: no such file; a model is used with the card that was saved beside it"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise FracturelabError(f"{card}: not a model's card ({error})") from error
    if not isinstance(values, dict):
        raise FracturelabError(f"{card}: not a model's card (expected a JSON object)")
    threshold = values.get("threshold")
    if threshold is not None and not (_number(threshold) and 0 <= threshold <= 1):
        raise FracturelabError(f"{card}: expected a threshold from 0 to 1. Received: {threshold!r}")
    return values


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def load_model(path: str | Path) -> keras.Model:
    """Load a `.keras` file without running any code from it.

    Raises:
        FracturelabError: No such file, not a Keras model, or one that holds code, classes that are not Keras's own,
            links, or members a Keras file does not have. The message names the file.
    """
    path = Path(path)
    check_model_file(path)
    load_tensorflow()
    import keras

    try:
        return fuse_norms(keras.saving.load_model(path, custom_objects={}, compile=False, safe_mode=True))
    except Exception as error:  # whatever Keras raises on a damaged file
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FracturelabError(f"{path}: cannot be loaded as a Keras model: {first[:200]}") from error


def check_model_file(path: str | Path) -> None:
    """Look through a model file without deserialising it; see `load_model` for what is refused."""
    path = Path(path)
    if not path.is_file():
        raise FracturelabError(f"{path}: no such model file")
    with open(path, "rb") as file:
        head = file.read(8)
    if head.startswith(b"\x89HDF"):
        raise FracturelabError(f"{path}: an HDF5 model, an old format that may hold code; expected a .keras file")
    if not zipfile.is_zipfile(path):
        raise FracturelabError(f"{path}: not a model; expected a .keras file as written by `fracturelab train`")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            config = json.loads(archive.read("config.json"))
            _check_config(config, path)
            _check_weights(archive, path)
    except FracturelabError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, RecursionError, EOFError, NotImplementedError) as error:
        raise FracturelabError(f"{path}: not a Keras model, or a damaged one ({error})") from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    names = [member.filename for member in archive.infolist()]
    for member in archive.infolist():
        mode = member.external_attr >> 16
        if member.filename not in _MEMBERS or stat.S_ISLNK(mode) or names.count(member.filename) > 1:
            raise FracturelabError(f"{path}: holds {member.filename!r}, which a Keras model does not; refused")
        limit = _MAX_WEIGHTS if member.filename.endswith(".h5") else _MAX_CONFIG
        if member.file_size > limit or member.file_size > 2000 * max(member.compress_size, 1):
            raise FracturelabError(f"{path}: {member.filename} would unpack to {member.file_size} bytes; refused")
    if _MEMBERS - set(names):
        raise FracturelabError(f"{path}: not a Keras model (no {', '.join(sorted(_MEMBERS - set(names)))})")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in a configuration, however deep."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _check_config(config: Any, path: Path) -> None:
    if not isinstance(config, dict) or "class_name" not in config:
        raise FracturelabError(f"{path}: not a Keras model (no class in config.json)")
    for item in _objects(config):
        name = item.get("class_name")
        if name is None or name in _VALUES:
            continue
        module, registered = str(item.get("module")), str(item.get("registered_name"))
        if name in _REFUSED or name == "__lambda__":
            raise FracturelabError(f"{path}: holds a {name}, which can carry code; refused")
        known = name in _MODELS if module in {"keras", "keras.src.models.functional"} else module in _MODULES
        if not known or ">" in registered or not str(name)[:1].isupper():
            raise FracturelabError(f"{path}: holds {name} of {module}, a custom object or no part of a model; refused")


def _check_weights(archive: zipfile.ZipFile, path: Path) -> None:
    """Weights without links or arrays kept outside the file."""
    import h5py

    with archive.open("model.weights.h5") as member, tempfile.TemporaryFile() as copy:
        while block := member.read(1 << 20):
            copy.write(block)
        copy.seek(0)
        with h5py.File(copy, "r") as file:
            check_arrays(file, path)
