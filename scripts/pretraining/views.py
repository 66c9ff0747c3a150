"""Random views of a radiograph: where the camera could have been, and how the plate could have been exposed."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import pandas as pd


WHOLE = (0.85, 1.2)  # zoom of views that show a radiograph as good as whole, so that its label holds for them
CLOSE = (1.2, 3.0)  # zoom of views of a part
_FINEST = 4  # a view is sampled at up to this many times its size before it is averaged down


class Radiographs:
    """Real X-rays, read anew each time one is viewed: nothing but their names is in memory.

    Args:
        table: Rows of readable images with their labels; the fixed test part must not be in it.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.paths = table["path"].tolist()
        self.labels = np.asarray(table["label"], np.int64)

    def __len__(self) -> int:
        """Number of X-rays."""
        return len(self.paths)

    def view(self, number: int, *, size: int, zoom: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
        """A random view of one X-ray, see `random_view`."""
        from fracturelab.images import read_image

        return random_view(read_image(self.paths[number], min_side=3 * size), size=size, zoom=zoom, rng=rng)

    def digest(self) -> str:
        """sha256 over the files and their labels, in hexadecimal."""
        from fracturelab.datasets import file_hashes

        seen = json.dumps([file_hashes(self.paths), self.labels.tolist()])
        return hashlib.sha256(seen.encode()).hexdigest()


def random_view(
    image: np.ndarray, *, size: int, rng: np.random.Generator, zoom: tuple[float, float] = WHOLE
) -> np.ndarray:
    """Turn, shift, zoom, mirror and re-expose one radiograph.

    Args:
        image: uint8 (h, w) or (h, w, 1), bone bright.
        size: Side of the square view in pixels.
        rng: Source of randomness; the same state gives the same view.
        zoom: Range of the magnification; at 1 the longer side fills the view.

    Returns:
        uint8 (size, size); what lies outside the radiograph is 0, as in `images.letterbox`.
    """
    pixels = image.reshape(image.shape[0], image.shape[1])
    height, width = pixels.shape
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.15:
        pixels = pixels[::-1]
    turn = math.radians(rng.normal(0, 10)) + math.pi / 2 * int(rng.choice([0, 1, 2, 3], p=[0.85, 0.06, 0.03, 0.06]))
    magnified = math.exp(rng.uniform(math.log(zoom[0]), math.log(zoom[1])))
    scale = size / max(height, width) * magnified
    # Pillow's transform takes single points: finer ones, averaged, keep thin lines where the view is smaller.
    finer = min(max(round(1 / scale), 1), _FINEST)
    # The further in, the more freely the view may wander over the radiograph.
    reach = 0.08 + 0.5 * max(0.0, 1 - 1 / magnified)
    centre_x = width * (0.5 + rng.uniform(-reach, reach))
    centre_y = height * (0.5 + rng.uniform(-reach, reach))
    cos, sin = math.cos(turn) / (scale * finer), math.sin(turn) / (scale * finer)
    half = size * finer / 2
    coefficients = (cos, sin, centre_x - cos * half - sin * half, -sin, cos, centre_y + sin * half - cos * half)
    source = Image.fromarray(np.ascontiguousarray(pixels))
    fine = (size * finer, size * finer)
    view = source.transform(fine, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC, fillcolor=0)
    return expose(np.asarray(view.reduce(finer)), rng=rng)


def expose(image: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Change gamma, contrast and brightness of a uint8 image, mildly; black stays black."""
    levels = np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(math.exp(rng.normal(0, 0.18)))
    levels = np.clip(levels * rng.uniform(0.8, 1.2) + rng.normal(0, 0.02) * (levels > 0.02), 0, 1)
    return (levels * 255 + 0.5).astype(np.uint8)[image]


def disturb(images: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Expose, and add noise to, a batch that a teacher saw undisturbed.

    Args:
        images: uint8 (n, h, w).
        rng: Source of randomness.

    Returns:
        float32 (n, h, w), 0..255.
    """
    result = np.stack([expose(image, rng=rng) for image in images]).astype(np.float32)
    strength = rng.uniform(0, 6, (len(images), 1, 1)).astype(np.float32)
    result += rng.standard_normal(result.shape, dtype=np.float32) * strength * (result > 4)
    return np.clip(result, 0, 255)
