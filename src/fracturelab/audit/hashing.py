"""Which pairs of pictures might be copies: a 64-bit perceptual hash, and a search that never compares all with all.

The hash is the pHash idea (Zauner, *Implementation and benchmarking of perceptual image hash functions*, 2010): the
signs of the 64 lowest frequencies of a cosine transform, without the mean. Brightness and contrast do not touch them,
and all eight orientations follow from one transform: mirroring negates the odd frequencies of that axis, a quarter turn
swaps the axes.

The search is multi-index hashing (Norouzi, Punjani and Fleet, *Fast exact search in Hamming space with multi-index
hashing*, 2014) with multi-probing (Lv et al., 2007): the hash is cut into five bands, and only pictures that agree in
one whole band are compared; the two bits of a band that lie nearest to zero, which are those that a copy flips, are
tried both ways. Every pair at a distance of up to 4 agrees in a band, so none of those is missed; of pairs up to
`RADIUS` most are found.
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

INVERSE = np.array([0, 1, 2, 3, 4, 6, 5, 7])
"""The orientation that undoes each orientation."""

_SIDE = 32  # the transform is taken of pictures this large
_ORDER = 11  # frequencies 0 to 10
_BANDS = 5
_PROBES = 2  # bits of a band that are tried both ways
_CHUNK = 2_000_000  # comparisons held in memory at once

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
    """The 64 lowest frequencies of each picture, without its mean.

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
    """The frequencies that the pictures would have in another orientation, (n, 64), from those they have."""
    if orientation >= 4:
        coefficients = coefficients[:, _TRANSPOSED]
    signs = np.ones(BITS, np.float32)
    if orientation & 2:
        signs[_ROWS % 2 == 1] *= -1
    if orientation & 1:
        signs[_COLUMNS % 2 == 1] *= -1
    return coefficients * signs


def hashes(coefficients: np.ndarray) -> np.ndarray:
    """The 64-bit hash of each picture: which frequencies are positive.

    Args:
        coefficients: (n, 64), from `frequencies`.

    Returns:
        uint64, (n,).
    """
    packed = np.packbits(coefficients > 0, axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8")[:, 0].astype(np.uint64)


def candidate_pairs(coefficients: np.ndarray, *, radius: int = RADIUS) -> Iterator[tuple[np.ndarray, ...]]:
    """Find pairs of pictures whose hashes are close in any of the eight orientations.

    A pair can come more than once.

    Args:
        coefficients: (n, 64), from `frequencies`.
        radius: Largest number of differing bits.

    Yields:
        Arrays `first`, `second` (row numbers, first < second), `orientation` (of the second) and `distance` (bits).
    """
    own = hashes(coefficients)
    bands = [np.arange(band, BITS, _BANDS) for band in range(_BANDS)]
    buckets = [_Buckets(_band_key(coefficients[:, bits] > 0)) for bits in bands]
    for orientation in range(8):
        turned = oriented(coefficients, orientation)
        queries = hashes(turned)
        for bits, bucket in zip(bands, buckets, strict=True):
            for keys in _probes(turned[:, bits]):
                for asked, found in bucket.matches(keys):
                    distance = np.bitwise_count(own[found] ^ queries[asked])
                    near = np.flatnonzero((distance <= radius) & (asked != found))
                    if near.size == 0:
                        continue
                    first, second = found[near], asked[near]
                    swap = first > second
                    yield (
                        np.where(swap, second, first),
                        np.where(swap, first, second),
                        np.where(swap, INVERSE[orientation], orientation),
                        distance[near].astype(np.int64),
                    )


def _band_key(positive: np.ndarray) -> np.ndarray:
    return positive @ (1 << np.arange(positive.shape[1]))


def _probes(values: np.ndarray) -> Iterator[np.ndarray]:
    """The keys of a band to look up: its own, then with the bits nearest to zero flipped in every combination."""
    key = _band_key(values > 0)
    nearest = np.argpartition(np.abs(values), _PROBES, axis=1)[:, :_PROBES]
    flips = 1 << nearest
    for choice in range(1 << _PROBES):
        yield key ^ sum(flips[:, bit] for bit in range(_PROBES) if choice >> bit & 1)


class _Buckets:
    """Row numbers by key, laid out so that one lookup is a slice."""

    def __init__(self, keys: np.ndarray) -> None:
        size = int(keys.max(initial=0)) + 1
        self.rows = np.argsort(keys, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=size))])

    def matches(self, keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs (number of the query, row number found), in pieces of bounded size."""
        known = np.minimum(keys, len(self.starts) - 2)
        starts = self.starts[known]
        counts = np.where(keys == known, self.starts[known + 1] - starts, 0)
        ends = np.cumsum(counts)
        begin = 0
        while begin < len(keys):
            done = ends[begin - 1] if begin else 0
            stop = max(begin + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
            piece = counts[begin:stop]
            asked = np.repeat(np.arange(begin, stop), piece)
            within = np.arange(len(asked)) - np.repeat(np.cumsum(piece) - piece, piece)
            yield asked, self.rows[starts[asked] + within]
            begin = stop
