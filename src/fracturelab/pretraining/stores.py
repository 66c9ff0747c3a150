"""Views and their targets on disk, in chunks that are written whole or not at all.

A chunk is a folder of `.npy` files, one row an example. Chunks are made once (a teacher's answers are dear), read
through memory maps, and depend on nothing but their number and the arguments: a stopped run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab.models.files import sweep, write_json
from fracturelab.pretraining.settings import check_settings
from fracturelab.pretraining.views import random_view
from fracturelab.progress import tqdm

if TYPE_CHECKING:
    import keras
    import pandas as pd

SETTINGS = "settings.json"  # beside the chunks
CHUNK = 500  # examples in a chunk
MAP_SIDE = 10  # the dense targets are MAP_SIDE x MAP_SIDE
UNKNOWN = -1  # a class target that this example does not have

Arrays = dict[str, np.ndarray]


def write_chunks(folder: Path, count: int, make: Callable[[int], Arrays], *, settings: dict, label: str) -> Path:
    """Write chunks 0 to count - 1 that are not there yet.

    Args:
        folder: Where the chunks lie; made if need be.
        count: How many chunks there shall be.
        make: Called with the number of a chunk, gives its arrays.
        settings: What the chunks depend on, plain values. A folder made with other settings is refused.
        label: What the progress bar says.

    Returns:
        The folder.

    Raises:
        FracturelabError: The folder holds chunks of other settings, or its settings cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / SETTINGS
    check_settings(described, settings, what="its views were")
    if not described.exists():
        write_json(described, settings)
    sweep(folder, ("*.part-*",))
    for number in tqdm(range(count), desc=label, unit="chunk"):
        target = folder / f"{number:05d}"
        if target.exists():
            continue
        part = folder / f"{number:05d}.part-{secrets.token_hex(6)}"
        part.mkdir()
        try:
            for name, values in make(number).items():
                np.save(part / f"{name}.npy", values)
            os.replace(part, target)
        except OSError:
            if not target.is_dir():  # else another process was sooner
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def open_chunks(folder: Path) -> list[Arrays]:
    """Memory maps of all whole chunks of a folder, in order."""
    chunks = sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit())
    return [{p.stem: np.load(p, mmap_mode="r") for p in sorted(chunk.glob("*.npy"))} for chunk in chunks]


def write_phantoms(
    folder: Path,
    *,
    count: int,
    size: int,
    seed: int,
    difficulty: tuple[float, float],
    zoom: tuple[float, float] | None = None,
    teacher: keras.Model | None = None,
) -> Path:
    """Render twins of the source "clinic", with every target they know.

    Row 2k is fractured; row 2k + 1 is the same phantom without its fracture, so that nothing else tells the two apart.
    `place` says for both which cells of the dense maps the fracture passes through.

    Args:
        folder: Where to.
        count: How many, rounded up to whole chunks.
        size: Side of the images in pixels.
        seed: First seed; the seed of pair k is this plus k.
        difficulty: From gross (0) to subtle (1): rises linearly from the first number to the second over the set.
        zoom: Range of the magnification over the view of a whole region; the mix of the source when None.
        teacher: Adds this teacher's features of each phantom; see `build_teacher`.

    Returns:
        The folder.
    """
    from fracturelab.phantoms import FRACTURE_KINDS, GENERATOR_VERSION, REGIONS, render

    def make(number: int) -> Arrays:
        examples: list[dict[str, Any]] = []
        for row in range(number * CHUNK, (number + 1) * CHUNK, 2):
            level = difficulty[0] + (difficulty[1] - difficulty[0]) * row / max(count - 1, 1)
            options: dict[str, Any] = {"source": "clinic", "size": size, "difficulty": level, "zoom": zoom}
            broken = render(seed + row // 2, fractured=True, **options)
            whole = render(seed + row // 2, fractured=False, view=broken.view, **options)
            place = _pool(broken.mask.astype(np.float32), "max")
            for phantom in (broken, whole):
                maps = np.stack([_pool(phantom.bone_map, "mean"), place * phantom.label], -1)
                examples.append({
                    "image": phantom.image,
                    "fracture": phantom.label,
                    "kind": 0 if phantom.kind is None else 1 + FRACTURE_KINDS.index(phantom.kind),
                    "region": REGIONS.index(phantom.region),
                    "hardware": int(bool(phantom.nuisances.get("hardware"))),
                    "cast": int(bool(phantom.nuisances.get("cast"))),
                    "maps": (maps * 255).astype(np.uint8),
                    "place": place.astype(bool),
                })  # fmt: skip
        arrays = _stack(examples)
        if teacher is not None:
            side = int(teacher.input.shape[1])
            arrays |= teacher_targets(teacher, np.stack([_enlarge(e["image"], side) for e in examples]))
        return arrays

    settings = {
        "size": size,
        "seed": seed,
        "difficulty": list(difficulty),
        "zoom": zoom and list(zoom),
        "generator": GENERATOR_VERSION,
        "count": count,
        "teacher": teacher is not None,
        "twins": True,
        **({} if teacher is None else {"teacher_weights": _teacher_digest(teacher)}),
    }
    return write_chunks(folder, -(-count // CHUNK), make, settings=settings, label="phantoms")


def write_real_views(
    folder: Path, table: pd.DataFrame, *, views: int, size: int, seed: int, teacher: keras.Model
) -> Path:
    """Make views of real radiographs and let the teacher look at them at its own, larger size.

    Args:
        folder: Where to.
        table: Rows of readable images with their labels; the fixed test part must not be in it.
        views: Views of each image.
        size: Side of the kept views in pixels; the teacher's size must be a multiple of it.
        seed: Every view follows from (seed, number of the view).
        teacher: See `build_teacher`.

    Returns:
        The folder.
    """
    from fracturelab.datasets import file_hashes
    from fracturelab.images import read_image

    paths, labels = table["path"].tolist(), table["label"].tolist()
    total = len(paths) * views
    order = np.random.default_rng(seed).permutation(total)
    side = int(teacher.input.shape[1])
    factor = side // size

    def make(number: int) -> Arrays:
        rows = order[number * CHUNK : (number + 1) * CHUNK]
        large = np.stack(
            [
                random_view(read_image(paths[row % len(paths)]), size=side, rng=np.random.default_rng([seed, int(row)]))
                for row in rows
            ]
        )
        small = large.reshape(len(rows), size, factor, size, factor).mean((2, 4))
        arrays = {
            "image": (small + 0.5).astype(np.uint8),
            "fracture": np.array([labels[row % len(paths)] for row in rows], np.int8),
            "number": np.asarray(rows % len(paths), np.int32),
        }
        for name in ("kind", "region", "hardware", "cast"):
            arrays[name] = np.full(len(rows), UNKNOWN, np.int8)
        return arrays | teacher_targets(teacher, large)

    seen = json.dumps([file_hashes(paths), [int(label) for label in labels]])
    settings = {
        "size": size, "seed": seed, "views": views, "images": len(paths), "teacher_size": side,
        "images_sha256": hashlib.sha256(seen.encode()).hexdigest(), "teacher_weights": _teacher_digest(teacher),
    }  # fmt: skip
    return write_chunks(folder, total // CHUNK, make, settings=settings, label="real views")


def build_teacher(weights_path: str | Path, *, backbone: str, options: dict, size: int) -> keras.Model:
    """A frozen backbone that gives its two feature maps.

    Args:
        weights_path: Its weights.
        backbone: Its name in `keras.applications`.
        options: Options of its builder, such as `{"alpha": 0.75}`.
        size: Side of the images it looks at, in pixels.

    Returns:
        A model from float32 (n, size, size, 1), 0..255, to its maps at the last and the last but one stride.
    """
    import keras

    from fracturelab.models.backbones import build_backbone, feature_layers

    base = build_backbone(backbone, input_size=size, options=options, weights_path=weights_path, trainable=False)
    return keras.Model(base.inputs[0], [base.get_layer(name).output for name in feature_layers(base)], name="teacher")


def teacher_targets(teacher: keras.Model, images: np.ndarray, *, batch_size: int = 25) -> Arrays:
    """The teacher's features of some images, as a student shall match them.

    Args:
        teacher: From `build_teacher`.
        images: uint8 (n, size, size).
        batch_size: Images at once.

    Returns:
        `teacher_map` float16 (n, h/2, w/2, c): the last map, averaged two by two; `teacher_pool` float16 (n, c' + c):
        global averages of both maps.
    """
    maps, pools = [], []
    for part in batched(images, batch_size):
        middle, last = (np.asarray(x) for x in teacher.predict_on_batch(part[..., None].astype(np.float32)))
        n, height, width, channels = last.shape
        maps.append(last.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4)))
        pools.append(np.concatenate([middle.mean((1, 2)), last.mean((1, 2))], axis=1))
    return {
        "teacher_map": np.concatenate(maps).astype(np.float16),
        "teacher_pool": np.concatenate(pools).astype(np.float16),
    }


def _teacher_digest(teacher: keras.Model) -> str:
    """sha256 over a teacher's network and its weights, in hexadecimal."""
    from fracturelab.models.structure import structure_digest
    from fracturelab.models.weights import digest_of

    return hashlib.sha256(f"{structure_digest(teacher)} {digest_of(teacher)}".encode()).hexdigest()


def batched(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive slices of at most `size` rows."""
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _stack(examples: Sequence[dict]) -> Arrays:
    arrays = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    return {name: v.astype(np.int8) if v.dtype.kind == "i" else v for name, v in arrays.items()}


def _pool(values: np.ndarray, how: str) -> np.ndarray:
    side = values.shape[0] // MAP_SIDE
    blocks = values[: side * MAP_SIDE, : side * MAP_SIDE].reshape(MAP_SIDE, side, MAP_SIDE, side)
    return blocks.mean((1, 3)) if how == "mean" else blocks.max((1, 3))


def _enlarge(image: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
