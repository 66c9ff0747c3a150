"""Named random streams and fixed noise tiles: the reason why one seed gives one image, bit for bit.

Each part of a phantom (anatomy, view, label, fracture, cast, ...) draws from its own PCG64 stream, derived from the
seed, the source and the part's name. Adding a cast therefore does not move a bone, and a phantom with and without its
fracture is the same phantom.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

TILE = 512
# Correlation lengths of the bone texture tiles in pixels; the renderer takes the one nearest to 0.05 cm.
GRAINS = (0.6, 1.0, 1.7, 2.8, 4.6, 8.0)


def stream(seed: int, *names: str) -> np.random.Generator:
    """Returns the random stream of one part of one phantom.

    Args:
        seed: Seed of the phantom, any integer from 0 up.
        *names: Source, part and so on; the same names give the same stream in every process.
    """
    key = zlib.crc32("/".join(names).encode())
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([int(seed), key])))


@lru_cache(maxsize=32)
def _tile(kind: str, size: float) -> np.ndarray:
    """A periodic tile of unit-variance noise, stored 2 x 2 so that any crop is one slice."""
    z = stream(20240, "tile", kind, f"{size:g}").standard_normal((TILE, TILE))
    if kind == "band":
        z = gaussian_filter(z, size, mode="wrap") - gaussian_filter(z, 3 * size, mode="wrap")
    elif size > 0:
        z = gaussian_filter(z, size, mode="wrap")
    z = ((z - z.mean()) / z.std()).astype(np.float32)
    tiled = np.tile(z, (2, 2))
    tiled.setflags(write=False)
    return tiled


def noise(rng: np.random.Generator, h: int, w: int, *, kind: str = "smooth", size: float = 0.0) -> np.ndarray:
    """Returns (h, w) float32 noise of unit variance, cropped from a fixed tile at a place drawn from `rng`.

    Args:
        rng: Stream that chooses the place; always two draws, whatever the size.
        h: Height in pixels.
        w: Width in pixels.
        kind: "smooth" (low-pass) or "band" (grain, between `size` and three times `size`).
        size: Correlation length in pixels, 0 for white noise.
    """
    i, j = (int(k) for k in rng.integers(0, TILE, 2))
    tile = _tile(kind, size)
    if h <= TILE and w <= TILE:
        return tile[i : i + h, j : j + w]
    rows = np.arange(i, i + h) % TILE
    columns = np.arange(j, j + w) % TILE
    return tile[rows[:, None], columns[None, :]]


def grain(rng: np.random.Generator, h: int, w: int, *, pixels_per_cm: float) -> np.ndarray:
    """Trabecular grain of about 0.05 cm as (h, w) float32 noise, weaker where a pixel averages it out."""
    wanted = 0.05 * pixels_per_cm
    size = min(GRAINS, key=lambda g: abs(np.log(g / max(wanted, 0.3))))
    return noise(rng, h, w, kind="band", size=size) * np.float32(min(1.0, 0.15 + wanted / GRAINS[0]))
