"""Which pairs of pictures might be copies: a 64-bit perceptual hash, and a search for the close ones.

The hash is the pHash idea (Zauner, *Implementation and benchmarking of perceptual image hash functions*, 2010): the
signs of the 64 lowest frequencies of a cosine transform, without the mean. Brightness and contrast do not touch them,
and all eight orientations follow from one transform: mirroring negates the odd frequencies of that axis, a quarter turn
swaps the axes.

Every hash is compared with every other one: 40,000 pictures are 6.4 billion comparisons, which take half a minute on
one core.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BITS = 64
RADIUS = 10
"""Hashes further apart than this many bits are not copies."""

ORIENTATIONS = (
    "as is",
    "mirrored left-right",
    "mirrored top-bottom",
    "half turn",
    "transposed",
    "quarter turn",
    "three-quarter turn",
    "transposed across",
)
"""What was done to the second picture of a pair to lay it over the first, by orientation number."""

_SIDE = 32  # the transform is taken of pictures this large
_ORDER = 11  # frequencies 0 to 10
_BLOCK = 200_000  # comparisons at once: they fit in the processor's cache

# The lowest frequencies (row, column), up to a sum of 10, without the mean and one at the end: 64, the same transposed.
_PLACES = [
    (total - column, column)
    for total in range(1, _ORDER)
    for column in range(total + 1)
    if (total - column, column) != (5, 5)
]
_ROWS, _COLUMNS = np.array(_PLACES).T
FREQUENCY = np.hypot(_ROWS, _COLUMNS).astype(np.float32)
"""How high each of the 64 frequencies is, in half waves per picture."""

_TRANSPOSED = np.array([_PLACES.index((column, row)) for row, column in _PLACES])


def orient(pictures: np.ndarray, orientation: int) -> np.ndarray:
    """Mirror and turn pictures.

    Args:
        pictures: (..., height, width).
        orientation: 0 to 7, as in `ORIENTATIONS`: from 4 on the axes are swapped first; then bit 1 turns the picture
            upside down and bit 0 mirrors it left to right.

    Returns:
        A view of the pictures, (..., height, width), from 4 on (..., width, height).
    """
    if orientation >= 4:
        pictures = pictures.swapaxes(-1, -2)
    if orientation & 2:
        pictures = pictures[..., ::-1, :]
    if orientation & 1:
        pictures = pictures[..., ::-1]
    return pictures


def frequencies(thumbnails: np.ndarray) -> np.ndarray:
    """Compute the 64 lowest frequencies of each picture, without its mean.

    Args:
        thumbnails: (n, side, side), side a multiple of 32.

    Returns:
        float32, (n, 64): coefficients of the orthonormal cosine transform (DCT-II) at 32 x 32, low ones first.
    """
    count, side = thumbnails.shape[:2]
    factor = side // _SIDE
    angles = np.pi * (np.arange(_SIDE) + 0.5) / _SIDE
    # Area averages and the transform are both linear: one matrix does both.
    basis = np.cos(np.arange(_ORDER)[:, None] * angles) * np.sqrt(2 / _SIDE)
    basis[0] /= np.sqrt(2)
    basis = np.repeat(basis / factor, factor, axis=1).astype(np.float32)
    out = np.empty((count, BITS), np.float32)
    for start in range(0, count, 2048):
        part = thumbnails[start : start + 2048].astype(np.float32)
        out[start : start + 2048] = (basis @ part @ basis.T)[:, _ROWS, _COLUMNS]
    return out


def oriented(coefficients: np.ndarray, orientation: int) -> np.ndarray:
    """Compute the frequencies (n, 64) of pictures in another orientation from those in their own."""
    if orientation >= 4:
        coefficients = coefficients[:, _TRANSPOSED]
    signs = np.ones(BITS, np.float32)
    if orientation & 2:
        signs[_ROWS % 2 == 1] *= -1
    if orientation & 1:
        signs[_COLUMNS % 2 == 1] *= -1
    return coefficients * signs


def hashes(coefficients: np.ndarray) -> np.ndarray:
    """Compute the 64-bit hash of each picture: a bit is set where a frequency is positive.

    Args:
        coefficients: (n, 64), from `frequencies`.

    Returns:
        uint64, (n,).
    """
    packed = np.packbits(coefficients > 0, axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8")[:, 0].astype(np.uint64)


def candidate_pairs(coefficients: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Find all pairs of pictures whose hashes are close in one of the eight orientations.

    Args:
        coefficients: (n, 64), from `frequencies`.

    Yields:
        The orientation of the second picture, and arrays `first`, `second` (row numbers, first < second) and `distance`
        (bits, at most `RADIUS`).
    """
    own, step = hashes(coefficients), max(1, _BLOCK // max(len(coefficients), 1))
    for orientation in range(8):
        turned = hashes(oriented(coefficients, orientation))
        for start in range(0, len(own), step):
            distance = np.bitwise_count(own[start : start + step, None] ^ turned[start:])
            first, second = np.nonzero(distance <= RADIUS)
            first, second = first[first < second], second[first < second]
            if len(first):
                yield orientation, first + start, second + start, distance[first, second]
