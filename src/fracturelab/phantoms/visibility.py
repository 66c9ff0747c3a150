"""Whether a fracture shows: the same phantom with and without it, compared in grey levels of the finished image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# A fracture counts as visible when at least this many pixels of it, in an image whose long side is 128 px (and in
# proportion to the long side above that), differ by at least MIN_STEP grey levels of 255 and NOISE_FACTOR times the
# local noise.
MIN_PIXELS = 14
MIN_STEP = 10.0
NOISE_FACTOR = 2.5


class Visibility(NamedTuple):
    """How well a fracture shows.

    Attributes:
        pixels: Pixels of the fracture that differ enough.
        needed: Pixels needed.
        contrast: Mean absolute difference over those pixels, grey levels.
        noise: Local noise, grey levels.
    """

    pixels: int
    needed: int
    contrast: float
    noise: float

    @property
    def visible(self) -> bool:
        """Whether enough pixels differ."""
        return self.pixels >= self.needed


def local_noise(image: np.ndarray) -> float:
    """Noise of an image in grey levels, from the median of its Laplacian (after Immerkaer 1996, robust to edges).

    Args:
        image: (h, w) grey levels.
    """
    z = np.asarray(image, np.float32)
    z = z[2:, 1:-1] + z[:-2, 1:-1] - 2 * z[1:-1, 1:-1]
    z = z[:, 2:] + z[:, :-2] - 2 * z[:, 1:-1]
    return float(np.median(np.abs(z)) / (0.6745 * 6.0))


def fracture_visibility(with_fracture: np.ndarray, without: np.ndarray, mask: np.ndarray) -> Visibility:
    """Compare a phantom with and without its fracture.

    Args:
        with_fracture: (h, w) uint8 image.
        without: The same without the fracture.
        mask: (h, w) bool, the fracture.

    Returns:
        The number of pixels that differ, how many are needed, their contrast and the noise.

    Raises:
        ValueError: The three arrays do not have the same shape.
    """
    if not (with_fracture.shape == without.shape == mask.shape):
        raise ValueError(
            "expected three arrays of one shape. "
            f"Received: with_fracture {with_fracture.shape}, without {without.shape}, mask {mask.shape}"
        )
    needed = max(4, round(MIN_PIXELS * max(mask.shape) / 128))
    if not mask.any():
        return Visibility(0, needed, 0.0, 0.0)
    step = np.abs(with_fracture.astype(np.float32) - without.astype(np.float32))
    sigma = local_noise(without)
    hit = mask & (step >= max(MIN_STEP, NOISE_FACTOR * sigma))
    n = int(hit.sum())
    return Visibility(n, needed, float(step[hit].mean()) if n else 0.0, sigma)
