"""Phantoms and what they teach on disk, in chunks that are written whole or not at all.

A chunk is a folder of `.npy` files, one row an example. Chunks are made once, read through memory maps, and depend on
nothing but their number and the arguments: a stopped run goes on where it was.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fracturelab.models.files import sweep
from fracturelab.system.files import write_json
from fracturelab.system.progress import tqdm
from scripts.pretraining.settings import check_settings

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
                examples.append(
                    {
                        "image": phantom.image,
                        "fracture": phantom.label,
                        "kind": 0 if phantom.kind is None else 1 + FRACTURE_KINDS.index(phantom.kind),
                        "region": REGIONS.index(phantom.region),
                        "hardware": int(bool(phantom.nuisances.get("hardware"))),
                        "cast": int(bool(phantom.nuisances.get("cast"))),
                        "maps": (maps * 255).astype(np.uint8),
                        "place": place.astype(bool),
                    }
                )
        return _stack(examples)

    settings = {
        "size": size,
        "seed": seed,
        "difficulty": list(difficulty),
        "zoom": zoom and list(zoom),
        "generator": GENERATOR_VERSION,
        "count": count,
        "twins": True,
    }
    return write_chunks(folder, -(-count // CHUNK), make, settings=settings, label="phantoms")


def _stack(examples: Sequence[dict]) -> Arrays:
    arrays = {name: np.stack([example[name] for example in examples]) for name in examples[0]}
    return {name: v.astype(np.int8) if v.dtype.kind == "i" else v for name, v in arrays.items()}


def _pool(values: np.ndarray, how: str) -> np.ndarray:
    side = values.shape[0] // MAP_SIDE
    blocks = values[: side * MAP_SIDE, : side * MAP_SIDE].reshape(MAP_SIDE, side, MAP_SIDE, side)
    return blocks.mean((1, 3)) if how == "mean" else blocks.max((1, 3))
