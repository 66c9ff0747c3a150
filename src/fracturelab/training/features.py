"""What a frozen network says about each view of each image, computed once and kept in memory-mapped files.

View 0 is the image itself, view 1 its mirror image, further views are augmented as (seed, view, image) says. A store is
one `.npy` file for one view and one layer; its name is a checksum over everything that it follows from (the files'
sha256, the pixels, view, the network and its weights, layer), so that a store is never taken for another. It is written
under another name and renamed when whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.inference import compiled
from fracturelab.models.structure import structure_digest
from fracturelab.models.weights import digest_of
from fracturelab.pipeline import Augmentation, augment, image_seeds
from fracturelab.training.prepare import Prepared

if TYPE_CHECKING:
    import keras

_VERSION = 2  # raise when what a view or a store is changes
_STALE_SECONDS = 86_400
_AT_A_TIME = 2  # batches; small ones stay in the processor's cache, and two fill what one leaves idle


def default_store_dir() -> Path:
    """Folder of stores: `features` in the images' cache folder."""
    from fracturelab.images import default_cache_dir

    return default_cache_dir() / "features"


def store_bytes(shape: Sequence[int], *, images: int, views: int, dtype: str) -> int:
    """Size on disk of the stores of one layer, in bytes."""
    return int(np.prod([images, views, *shape], dtype=np.int64)) * np.dtype(dtype).itemsize


def view_of(
    images: NDArray[np.uint8], *, view: int, rows: NDArray[np.int64], seed: int, augmentation: Augmentation
) -> NDArray[np.float32]:
    """One view of some images.

    Args:
        images: uint8 (n, size, size, 1).
        view: 0 the image, 1 its mirror image, more: augmented.
        rows: (n,) index of each image in its data set; an augmented view follows from it.
        seed: Seed of the augmented views.
        augmentation: How far they may be.

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
    dtypes: Mapping[str, str] | None = None,
    augmentation: Augmentation | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
    batch_size: int = 16,
    alone: bool = False,
) -> dict[str, list[np.memmap]]:
    """Run frozen parts of a network over every view of some images, reusing the stores that are there.

    Args:
        outputs: Name of each layer and the model from the network's input to it. All are computed in one pass.
        prepared: The images.
        rows: Indices of the images.
        views: Number of views an image.
        seed: Seed of the augmented views.
        dtypes: "float16" or "float32" for each name; float32 where not said.
        augmentation: How far augmented views may be.
        folder: Where stores are kept; None for `default_store_dir()`.
        progress: Show a progress bar.
        batch_size: Images a batch.
        alone: Wait while another process computes into this folder, which may make what is wanted here.

    Returns:
        For each name a list of read-only arrays (len(rows), ...), one a view.

    Raises:
        FracturelabError: The disk lacks the room, or the folder cannot be written.
    """
    if alone:
        with _alone(default_store_dir() if folder is None else Path(folder)):
            return compute(
                outputs,
                prepared,
                rows=rows,
                views=views,
                seed=seed,
                dtypes=dtypes,
                augmentation=augmentation,
                folder=folder,
                progress=progress,
                batch_size=batch_size,
            )
    import keras

    from fracturelab.system.progress import tqdm

    folder = default_store_dir() if folder is None else Path(folder)
    names = list(outputs)
    kinds = {name: np.dtype((dtypes or {}).get(name, "float32")) for name in names}
    shapes = {name: tuple(outputs[name].output.shape[1:]) for name in names}
    how = augmentation or Augmentation()
    networks = {name: [structure_digest(outputs[name]), digest_of(outputs[name])] for name in names}
    common = {
        "version": _VERSION,
        "size": prepared.size,
        "files": prepared.hashes[rows].tolist(),
        "pixels": _checksum(prepared.images, rows),
    }

    def place(name: str, view: int) -> Path:
        key = {**common, "layer": name, "network": networks[name], "dtype": str(kinds[name]), "view": view}
        if view > 1:
            key |= {"seed": seed, "rows": rows.tolist(), "augmentation": repr(how)}
        return folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:40]}.npy"

    stores: dict[tuple[str, int], np.memmap] = {}
    for view in range(views):
        for name in names:
            found = _open(place(name, view), (len(rows), *shapes[name]), kinds[name])
            if found is not None:
                stores[name, view] = found
    missing = [view for view in range(views) if any((name, view) not in stores for name in names)]
    if not missing:
        return {name: [stores[name, view] for view in range(views)] for name in names}

    wanted = [(name, view) for view in missing for name in names if (name, view) not in stores]
    need = sum(store_bytes(shapes[name], images=len(rows), views=1, dtype=str(kinds[name])) for name, _ in wanted)
    _make_room(folder, need)
    model = keras.Model(next(iter(outputs.values())).input, [outputs[name].output for name in names])
    forward = compiled(model)

    def fill(files: Mapping[str, np.memmap], view: int, start: int) -> int:
        """One batch; a thread writes rows of its own."""
        index = rows[start : start + batch_size]
        batch = view_of(prepared.images[index], view=view, rows=index, seed=seed, augmentation=how)
        answers = keras.tree.flatten(forward(batch))
        for name, answer in zip(names, answers, strict=True):
            if name in files:
                files[name][start : start + len(index)] = answer.numpy()
        return len(index)

    description = f"features, {len(missing)} views, {need / 1e6:.0f} MB"
    bar = tqdm(total=len(rows) * len(missing), desc=description, unit="image", disable=not progress, mininterval=1.0)
    own = f".tmp{secrets.token_hex(6)}"  # process ids are no names: two containers may both be number 1
    for view in missing:
        todo = [name for name in names if (name, view) not in stores]
        parts = {name: place(name, view).with_suffix(own) for name in todo}
        try:
            files = {name: _reserved(parts[name], kinds[name], (len(rows), *shapes[name])) for name in todo}
            with ThreadPoolExecutor(_AT_A_TIME) as pool:
                for done in pool.map(partial(fill, files, view), range(0, len(rows), batch_size)):
                    bar.update(done)
            for name in todo:
                files[name].flush()
                os.replace(parts[name], place(name, view))
        except OSError as error:
            raise FracturelabError(f"{folder}: features cannot be written ({error.strerror or error})") from error
        finally:
            for part in parts.values():
                part.unlink(missing_ok=True)
        for name in todo:
            opened = _open(place(name, view), (len(rows), *shapes[name]), kinds[name])
            if opened is None:
                raise FracturelabError(f"{folder}: a store of features vanished while it was used; run again")
            stores[name, view] = opened
    bar.close()
    return {name: [stores[name, view] for view in range(views)] for name in names}


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, waiting for whoever has it; where there are no locks, two may do the same work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "ab")  # noqa: SIM115 - held open while the block lasts
    except OSError as error:
        raise FracturelabError(f"{folder}: cannot be written ({error.strerror or error})") from error
    with lock:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _checksum(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> int:
    """CRC-32 of every pixel of some images, read image by image; a second for some 40,000 images of 224 pixels."""
    found = 0
    for row in rows:
        found = zlib.crc32(np.ascontiguousarray(images[row]).data, found)
    return found


def _open(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap | None:
    """A store, or None where there is none that is whole."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == dtype else None


def _reserved(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A memory-mapped array whose room on the disk is taken: writing into a hole of a full disk kills the process."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return array


def _make_room(folder: Path, need: int) -> None:
    """Create the folder, drop what killed runs left half written, and refuse a store the disk has no room for."""
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
    """Delete stores that nobody will need again, such as the large activations at a freeze line."""
    for store in stores:
        if isinstance(store, np.memmap) and store.filename is not None:
            Path(store.filename).unlink(missing_ok=True)
