"""Near-duplicates: candidates from the hash, confirmed by laying one picture over the other, joined into groups.

The hash alone is not proof: of FracAtlas's pairs at a distance of up to 4 bits, most are different patients in the same
pose. Two pictures count as copies when their local contrast agrees (`CORRELATION`). Resized, recompressed, brightened,
mirrored and quarter-turned copies are found. Copies that were cropped by more than about 1% or turned by other angles
are not (`turned` looks for them), and neither are padded or histogram-equalised ones, nor a second exposure of the same
patient.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fracturelab.audit.hashing import FREQUENCY, candidate_pairs, frequencies, orient, oriented

SIDE = 64
"""Thumbnails are this many pixels square."""

CORRELATION = 0.92
"""Least correlation of local contrast between copies. Measured: 120 X-rays of FracAtlas against changed copies of
themselves (JPEG quality 20; gamma 1.5; noise of 8 grey levels; half as bright, half the size and quality 40; 1.3 times
as bright with clipped whites, half the size and quality 50) never fell below 0.93. Among all 2,868 of FracAtlas 72
pairs lie above 0.92, each the same exposure to the eye; among 40,000 different synthetic radiographs (800 million
pairs) 28 do. Different X-rays in one and the same conspicuous frame reach 0.85 in 1% of pairs."""

MIN_CONTRAST = 0.6
"""Pictures whose fine detail deviates by less than this many grey levels (of 255) are almost blank: no two of them can
be told apart, so they are compared by their bytes alone. The least of FracAtlas's X-rays has 3."""

_SIMILARITY = 0.92  # of the 64 frequencies: a cheap test that spares most candidates the dear one
_PAIR = ["first", "second", "orientation", "distance", "correlation"]
_NOISE, _SHADING, _AROUND = 0.7, 2.0, 4.0  # Gaussians' widths in pixels of the thumbnail
_FLOOR = 2.0  # mean strengths of the whole picture's detail, added to the local one: flat parts stay flat
_SCALE = 20.0  # levels of int8 for one standard deviation


def local_contrast(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalise the local contrast of pictures: overall shading is removed and strong edges are weakened.

    A wide Gaussian blur is taken off a narrow one, and what is left is divided by its own local strength (local
    contrast normalisation, Jarrett et al., *What is the best multi-stage architecture for object recognition?*, 2009).
    Different X-rays of one body part agree in shading and frame, which a plain correlation mostly measures; copies
    agree in this too.

    Args:
        thumbnails: uint8, (n, 64, 64).

    Returns:
        int8 (n, 64, 64), 20 levels for one standard deviation; and float32 (n,), the deviation of the fine detail in
        grey levels.
    """
    side = thumbnails.shape[-1]
    shading, around = _blur_matrix(side, _SHADING), _blur_matrix(side, _AROUND)
    noise = _blur_matrix(side, _NOISE)
    out = np.empty(thumbnails.shape, np.int8)
    strength = np.empty(len(thumbnails), np.float32)
    for start in range(0, len(thumbnails), 512):
        part = thumbnails[start : start + 512].astype(np.float32)
        detail = noise @ part @ noise.T - shading @ part @ shading.T
        spread = detail.std(axis=(1, 2), keepdims=True)
        local = np.sqrt(np.maximum(around @ np.square(detail) @ around.T, 0))
        detail /= local + _FLOOR * np.abs(detail).mean(axis=(1, 2), keepdims=True) + 1e-6
        detail -= detail.mean(axis=(1, 2), keepdims=True)
        detail /= detail.std(axis=(1, 2), keepdims=True) + 1e-6
        out[start : start + 512] = np.clip(np.rint(detail * _SCALE), -127, 127)
        strength[start : start + 512] = spread[:, 0, 0]
    return out, strength


def near_duplicate_pairs(thumbnails: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Find copies among pictures, in all eight orientations.

    Args:
        thumbnails: uint8, (n, 64, 64), each the whole picture squeezed into a square.

    Returns:
        The pairs, one row each, in order: `first` < `second` (row numbers), `orientation` (0 to 7, to be applied to the
        second picture so that it lies over the first), `distance` (bits of 64), `correlation` (up to 1). And bool (n,):
        the pictures that are almost blank, and were not compared.
    """
    contrast, strength = local_contrast(thumbnails)
    blank = strength < MIN_CONTRAST
    rows = np.flatnonzero(~blank)
    coefficients = frequencies(thumbnails[rows])
    weighted = coefficients * FREQUENCY  # higher frequencies raised, since X-rays fall off as 1/f
    parts = [pd.DataFrame(columns=_PAIR).astype(dict.fromkeys(_PAIR[:4], np.int64) | {"correlation": np.float64})]
    for orientation, first, second, distance in candidate_pairs(coefficients):
        alike = _correlation(weighted[first], oriented(weighted[second], orientation)) >= _SIMILARITY
        for start in range(0, alike.sum(), 1024):
            part = np.flatnonzero(alike)[start : start + 1024]
            ends = rows[first[part]], rows[second[part]]
            correlation = _correlation(contrast[ends[0]], orient(contrast[ends[1]], orientation))
            pairs = dict(zip(_PAIR, (*ends, orientation, distance[part], correlation), strict=True))
            parts.append(pd.DataFrame(pairs)[correlation >= CORRELATION])
    # A symmetric picture can match in several orientations: the best one stays.
    pairs = pd.concat(parts).sort_values(
        ["first", "second", "correlation"], ascending=[True, True, False], kind="stable"
    )
    return pairs.drop_duplicates(["first", "second"], ignore_index=True), blank


def join_pairs(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number the groups that pairs tie together.

    Args:
        count: Number of things.
        first: Row numbers.
        second: Row numbers, tied to those of `first`.

    Returns:
        int64, (count,): group numbers from 0, in order of first appearance.
    """
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    _, where, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(where))[inverse].astype(np.int64)


def _blur_matrix(side: int, sigma: float) -> np.ndarray:
    return gaussian_filter1d(np.eye(side), sigma, axis=0, mode="nearest").astype(np.float32)


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine between the entries of two arrays (n, ...), row by row: float32 (n,)."""
    first, second = (part.reshape(len(part), -1).astype(np.float32) for part in (first, second))
    norms = np.einsum("ij,ij->i", first, first) * np.einsum("ij,ij->i", second, second)
    return np.einsum("ij,ij->i", first, second) / np.sqrt(norms + 1e-9)
