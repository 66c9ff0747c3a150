"""Maps that know nothing of the model: whoever points no better than these has shown nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def random_maps(n: int, size: int, *, grid: int = 20, seed: int = 0) -> NDArray[np.float32]:
    """Random maps as smooth as a heat map is: noise on a grid like that of a feature map, stretched.

    Args:
        n: How many.
        size: Side in pixels.
        grid: Side of the noise.
        seed: The same seed gives the same maps.

    Returns:
        float32 (n, size, size), from 0 to 1.
    """
    from fracturelab.explanations.overlay import stretch

    rng = np.random.default_rng(seed)
    maps = [stretch(rng.random((grid, grid), dtype=np.float32), (size, size)) for _ in range(n)]
    return np.clip(np.stack(maps), 0, 1) if maps else np.zeros((0, size, size), np.float32)


def centre_maps(n: int, size: int, *, width: float = 0.2) -> NDArray[np.float32]:
    """The same bell in the middle for every image: radiographers centre on what hurts.

    Args:
        n: How many.
        size: Side in pixels.
        width: Standard deviation as a share of the side.

    Returns:
        float32 (n, size, size), from 0 to 1.
    """
    line = (np.arange(size) - (size - 1) / 2) / (width * size)
    bell = np.exp(-0.5 * (line[:, np.newaxis] ** 2 + line**2)).astype(np.float32)
    return np.repeat(bell[np.newaxis], n, axis=0)
