"""Keypoints of a picture: places whose surroundings look the same when the picture is turned or cropped.

Blobs of any size are the extremes of differences of Gaussians (Lowe, *Distinctive image features from scale-invariant
keypoints*, 2004). The surroundings of each blob are sampled on a grid of 8 x 8 points, which turns with the local
gradient and grows with the blob (Brown, Szeliski and Winder, *Multi-image matching using multi-scale oriented
patches*, 2005). The low frequencies of these samples are the blob's code.
"""

from __future__ import annotations

import io
import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.fft import dct
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter

LONG_SIDE = 160
"""Keypoints are looked for in pictures of this long side, in pixels."""

_MOST = 200  # keypoints of a picture, the strongest ones
_SIGMAS = 1.6 * 2 ** (np.arange(9) / 3)  # of the Gaussians, in pixels
_SQUARE = 128
_BLOBS = 6  # differences among which the extremes lie
_BORDER = 5  # pixels
_EDGE = 0.97  # of the energy of the code along the gradient: an edge looks the same all along
_SPACING = 1.2  # between the points of the grid, in sigmas
_GRID = np.stack(np.meshgrid(np.arange(8) - 3.5, np.arange(8) - 3.5), axis=-1).reshape(-1, 2) @ np.array([1, 1j])
_BASIS = dct(np.eye(8), axis=0, norm="ortho")[:5].astype(np.float32)
_WEIGHT = np.hypot(*np.mgrid[:5, :5]).ravel()[1:].astype(np.float32) ** 1.5  # X-rays fall off with the frequency
_ODD = np.tile(np.arange(5) % 2 == 1, (5, 1)).T.ravel()[1:]  # frequencies that change sign in a mirrored picture


class Keypoints(NamedTuple):
    """The keypoints of one picture, strongest first.

    Attributes:
        places: complex64 (n,), x + iy in pixels.
        frames: complex64 (n,), size and direction: sigma times exp(i angle of the gradient).
        codes: int8 (n, 24), the low frequencies of the surroundings, 127 times a unit vector.
        shape: Height and width of the picture.
        square: The picture squeezed into a square of 128 pixels, as a JPEG file.
    """

    places: np.ndarray
    frames: np.ndarray
    codes: np.ndarray
    shape: tuple[int, int]
    square: bytes


def find_keypoints(picture: np.ndarray) -> Keypoints:
    """Find up to 200 keypoints in a grey picture (height, width) whose long side is `LONG_SIDE`."""
    levels = [gaussian_filter(picture.astype(np.float32), _SIGMAS[0], mode="nearest", truncate=3)]
    for smaller, larger in itertools.pairwise(_SIGMAS):
        levels.append(gaussian_filter(levels[-1], np.sqrt(larger**2 - smaller**2), mode="nearest", truncate=3))
    stack = np.stack(levels)
    strength = np.abs(np.diff(stack[: _BLOBS + 1], axis=0))
    peaks = (strength == maximum_filter(strength, size=3, mode="constant")) & (strength > 0)
    peaks[[0, -1]] = peaks[:, :_BORDER] = peaks[:, -_BORDER:] = peaks[:, :, :_BORDER] = peaks[:, :, -_BORDER:] = False
    level, y, x = np.nonzero(peaks)
    order = np.argsort(-strength[level, y, x], kind="stable")[:_MOST]
    level, y, x = level[order], y[order], x[order]
    # Three levels up, sigma is twice as large: the gradient there is steady.
    across = stack[level + 3, y, x + 1] - stack[level + 3, y, x - 1]
    down = stack[level + 3, y + 1, x] - stack[level + 3, y - 1, x]
    frames = _SIGMAS[level] * np.exp(1j * np.arctan2(down, across))
    points = (x + 1j * y)[:, None] + _SPACING * frames[:, None] * _GRID
    where = [np.repeat(level, 64), points.imag.ravel(), points.real.ravel()]
    samples = map_coordinates(stack, where, order=1, mode="nearest").reshape(-1, 8, 8)
    codes = (_BASIS @ samples @ _BASIS.T).reshape(-1, 25)[:, 1:] * _WEIGHT
    codes = 127 * codes / (np.linalg.norm(codes, axis=1, keepdims=True) + 1e-6)
    square = io.BytesIO()
    Image.fromarray(picture).resize((_SQUARE, _SQUARE), Image.Resampling.HAMMING).save(square, "JPEG", quality=92)
    corners = np.square(codes[:, :4]).sum(axis=1) < _EDGE * 127**2
    places, frames = ((part[corners]).astype(np.complex64) for part in (x + 1j * y, frames))
    return Keypoints(places, frames, codes[corners].astype(np.int8), picture.shape, square.getvalue())


def mirrored(codes: np.ndarray) -> np.ndarray:
    """The codes that the keypoints have in the mirrored picture."""
    return np.where(_ODD, -codes, codes)
