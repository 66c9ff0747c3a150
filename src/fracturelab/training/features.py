"""Features of a frozen network for each view of each image, computed once and kept in memory-mapped files.

View 0 is the image itself and view 1 its mirror image. Further views are augmented; they follow from (seed, view,
image). A store is one `.npy` file for one view and one layer. Its name is a checksum over everything that its content
follows from: the files' sha256, the pixels, the view, the network with its weights, and the layer. So no store is taken
for another. A store is written under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock
import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.images import default_cache_dir
from fracturelab.models.inference import compiled, in_openvino
from fracturelab.models.structure import structure_digest
from fracturelab.models.weights import digest_of
from fracturelab.pipeline import DEFAULT_AUGMENTATION, Augmentation, augment, image_seeds
from fracturelab.system.progress import tqdm
from fracturelab.training.prepare import Prepared

if TYPE_CHECKING:
    import keras

_VERSION = 2  # raise when the content of a view or of a store changes
_STALE_SECONDS = 86_400
_BATCH = 16
_BATCHES_AT_A_TIME = 2  # small batches stay in the processor's cache, and two use all of its cores


@dataclass(frozen=True)
class FeatureStore:
    """Where features are kept, and how much of the disk they may take.

    Attributes:
        folder: The folder; None for `features` in the cache folder of the images.
        limit: Most bytes on disk for the features, and again for the activations at the freeze line. Beyond it fewer
            views are kept. If not even one view's activations fit, every epoch of fine-tuning runs the whole network.
        shared: Features of all images are computed at once, so that fits on other splits of the same images use them
            too, even at the same time; whoever made the folder removes it.
    """

    folder: str | Path | None = None
    limit: int = 4 * 2**30
    shared: bool = False

    @property
    def path(self) -> Path:
        """The folder."""
        return default_cache_dir() / "features" if self.folder is None else Path(self.folder)

    def views_within(self, part: keras.Model, *, images: int, dtype: str) -> int:
        """Number of views of some images that fit in the limit, for the outputs of a part of a network."""
        return self.limit // (images * math.prod(part.output.shape[1:]) * np.dtype(dtype).itemsize)

    def lock(self) -> filelock.BaseFileLock:
        """The lock of the folder; to enter it waits until no other process has it."""
        _make_room(self.path, 0)
        return filelock.FileLock(self.path / "lock")


DEFAULT_STORE = FeatureStore()


def view_of(
    images: NDArray[np.uint8], *, view: int, rows: NDArray[np.int64], seed: int, augmentation: Augmentation
) -> NDArray[np.float32]:
    """One view of some images.

    Args:
        images: uint8 (n, size, size, 1).
        view: 0 the image, 1 its mirror image, more: augmented.
        rows: (n,) index of each image in its data set; an augmented view follows from it.
        seed: Seed of the augmented views.
        augmentation: Limits of the augmented views.

    Returns:
        float32 (n, size, size, 1), 0..255.
    """
    if view == 0:
        return images.astype(np.float32)
    if view == 1:
        return images[:, :, ::-1].astype(np.float32)
    return np.asarray(augment(images, seeds=image_seeds(seed=seed, epoch=view, images=rows), augmentation=augmentation))


def compute(
    outputs: Mapping[str, keras.Model],
    prepared: Prepared,
    *,
    rows: NDArray[np.int64],
    views: int,
    seed: int = 0,
    half: Sequence[str] = (),
    augmentation: Augmentation = DEFAULT_AUGMENTATION,
    runtime: str = "tensorflow",
    store: FeatureStore = DEFAULT_STORE,
    progress: bool = True,
) -> dict[str, list[np.memmap]]:
    """Run frozen parts of a network over every view of some images; stores that exist are used again.

    Args:
        outputs: Name of each layer and the model from the network's input to it. All are computed in one pass.
        prepared: The images.
        rows: Indices of the images.
        views: Number of views of each image.
        seed: Seed of the augmented views.
        half: Names of layers that are stored as float16 instead of float32.
        augmentation: Limits of the augmented views.
        runtime: "tensorflow", or "openvino", whose last digits differ.
        store: Where features are kept. While a shared folder is in use by another process, this one waits: the other
            may make the same features.
        progress: Show a progress bar.

    Returns:
        For each name a list of read-only arrays (len(rows), ...), one for each view.

    Raises:
        FracturelabError: The disk has no room for the features, or the folder cannot be written.
    """
    import keras

    files: dict[tuple[str, int], _File] = {}
    common: dict[str, Any] = {"version": _VERSION, "size": prepared.size, "files": prepared.hashes[rows].tolist()}
    common["pixels"] = _checksum(prepared.images, rows)
    for name, part in outputs.items():
        shape, dtype = (len(rows), *part.output.shape[1:]), np.dtype("float16" if name in half else "float32")
        network = [structure_digest(part), digest_of(part)]
        for view in range(views):
            key = {**common, "layer": name, "network": network, "dtype": str(dtype), "view": view}
            if runtime != "tensorflow":
                key["runtime"] = runtime
            if view > 1:
                key |= {"seed": seed, "rows": rows.tolist(), "augmentation": repr(augmentation)}
            digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
            files[name, view] = _File(store.path / f"{digest[:40]}.npy", shape, dtype)

    with store.lock() if store.shared else contextlib.nullcontext():
        stores = _existing(files)
        missing = {place: file for place, file in files.items() if place not in stores}
        if missing:
            need = sum(math.prod(file.shape) * file.dtype.itemsize for file in missing.values())
            _make_room(store.path, need)
            todo = sorted({view for _, view in missing})
            parts = list(outputs.values())  # one part is its own whole, and keeps what was traced or converted of it
            whole = keras.Model(parts[0].input, [part.output for part in parts]) if len(parts) > 1 else parts[0]
            forward = in_openvino(whole) if runtime == "openvino" else compiled(whole)
            text, total = f"features, {len(todo)} views, {need / 1e6:.0f} MB", len(rows) * len(todo)
            bar = tqdm(total=total, desc=text, unit="image", disable=not progress, mininterval=1.0)
            for view in todo:

                def fill(arrays: Mapping[str, np.memmap], start: int, view: int = view) -> None:
                    """One batch; a thread writes rows of its own."""
                    index = rows[start : start + _BATCH]
                    images = prepared.images[index]
                    batch = view_of(images, view=view, rows=index, seed=seed, augmentation=augmentation)
                    for name, values in zip(outputs, keras.tree.flatten(forward(batch)), strict=True):
                        if name in arrays:
                            arrays[name][start : start + len(index)] = np.asarray(values)
                    bar.update(len(index))

                _write({name: file for (name, number), file in missing.items() if number == view}, fill)
            bar.close()
            stores = _existing(files)
            if len(stores) < len(files):
                raise FracturelabError(f"{store.path}: a store of features vanished while it was used; run again")
    return {name: [stores[name, view] for view in range(views)] for name in outputs}


class _File(NamedTuple):
    """A store: its path, and the shape and type of its array."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype


def _existing(files: Mapping[tuple[str, int], _File]) -> dict[tuple[str, int], np.memmap]:
    """The stores that are complete."""
    stores = {}
    for place, (path, shape, dtype) in files.items():
        with contextlib.suppress(OSError, ValueError, EOFError):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if array.shape == shape and array.dtype == dtype:
                stores[place] = array
    return stores


def _write(files: Mapping[str, _File], fill: Callable[[Mapping[str, np.memmap], int], None]) -> None:
    """Fill arrays batch by batch in files of temporary names, and rename them when they are complete.

    Args:
        files: The store of each layer, all of one folder and of as many images.
        fill: Called with the arrays and the first row of each batch, from several threads.
    """
    suffix = f".tmp{secrets.token_hex(6)}"  # no process id: two containers may both have process 1
    parts = {name: file.path.with_suffix(suffix) for name, file in files.items()}
    first = next(iter(files.values()))
    try:
        arrays = {name: _reserved(parts[name], file.dtype, file.shape) for name, file in files.items()}
        with ThreadPoolExecutor(_BATCHES_AT_A_TIME) as pool:
            list(pool.map(lambda start: fill(arrays, start), range(0, first.shape[0], _BATCH)))
        for name, file in files.items():
            arrays[name].flush()
            os.replace(parts[name], file.path)
    except OSError as error:
        folder = first.path.parent
        raise FracturelabError(f"{folder}: features cannot be written ({error.strerror or error})") from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _checksum(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> int:
    """CRC-32 of every pixel of some images, read image by image; a second for some 40,000 images of 224 pixels."""
    checksum = 0
    for row in rows:
        checksum = zlib.crc32(np.ascontiguousarray(images[row]).data, checksum)
    return checksum


def _reserved(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A memory-mapped array with its room on the disk reserved: a write without room would kill the process."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return array


def _make_room(folder: Path, need: int) -> None:
    """Create the folder, delete incomplete files of killed runs, and refuse a store that the disk has no room for."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.tmp*"):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                leftover.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise FracturelabError(f"{folder}: cannot be written ({error.strerror or error})") from error
    if need > 0.9 * free:
        raise FracturelabError(
            f"{folder}: features need {need / 1e6:.0f} MB, the disk has {free / 1e6:.0f} MB free; make room, or point "
            "FRACTURELAB_CACHE to another disk"
        )


def remove(stores: Sequence[np.memmap]) -> None:
    """Delete stores that no later run will use, such as the large activations at a freeze line."""
    for store in stores:
        if isinstance(store, np.memmap) and store.filename is not None:
            Path(store.filename).unlink(missing_ok=True)
