"""Maps that do not depend on the model, as references for the methods that do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fracturelab.explanations.overlay import stretch


def random_maps(n: int, size: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Random maps as smooth as a heat map: noise on a grid of 20 x 20, like that of a feature map, stretched.

    Returns:
        float32 (n, size, size), from 0 to 1.
    """
    noise = np.random.default_rng(seed).random((n, 20, 20), dtype=np.float32)
    return np.clip(stretch(noise, (size, size)), 0, 1)


def centre_maps(n: int, size: int) -> NDArray[np.float32]:
    """The same bell in the middle for every image, because radiographers centre on what hurts.

    Its standard deviation is a fifth of the side.

    Returns:
        float32 (n, size, size), from 0 to 1.
    """
    line = (np.arange(size) - (size - 1) / 2) / (0.2 * size)
    bell = np.exp(-0.5 * (line[:, np.newaxis] ** 2 + line**2)).astype(np.float32)
    return np.repeat(bell[np.newaxis], n, axis=0)
