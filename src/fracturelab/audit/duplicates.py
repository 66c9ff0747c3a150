"""Near-duplicates: candidates from the hash, confirmed by laying one picture over the other, joined into groups.

The hash alone is not proof: of FracAtlas's pairs at a distance of up to 4 bits, most are different patients in the same
pose. Two pictures count as copies when their local contrast agrees (`CORRELATION`). Resized, recompressed, brightened,
mirrored and turned copies are found. Copies that were cropped by more than about 1%, padded, turned by other angles or
histogram-equalised are not, and neither is a second exposure of the same patient.
"""

from __future__ import annotations

import numpy as np
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
_NOISE, _SHADING, _AROUND = 0.7, 2.0, 4.0  # Gaussians' widths in pixels of the thumbnail
_FLOOR = 2.0  # mean strengths of the whole picture's detail, added to the local one: flat parts stay flat
_SCALE = 20.0  # levels of int8 for one standard deviation


def local_contrast(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is left of a picture without its overall shading and with strong edges tamed.

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


def near_duplicate_pairs(thumbnails: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Find copies among pictures, in all eight orientations.

    Args:
        thumbnails: uint8, (n, 64, 64), each the whole picture squeezed into a square.

    Returns:
        The pairs as columns of equal length, in order: `first` < `second` (row numbers), `orientation` (0 to 7, what
        lays the second over the first), `distance` (bits of 64), `correlation` (up to 1). And bool (n,): which pictures
        are almost blank, and were not compared.
    """
    contrast, strength = local_contrast(thumbnails)
    blank = strength < MIN_CONTRAST
    rows = np.flatnonzero(~blank)
    coefficients = frequencies(thumbnails[rows])
    weighted = _weighted(coefficients)
    found: list[np.ndarray] = []
    for first, second, orientation, distance in candidate_pairs(coefficients):
        alike = _similarity(weighted, first, second, orientation) >= _SIMILARITY
        found.append(np.stack([first, second, orientation, distance])[:, alike])
    table = np.unique(np.concatenate(found, axis=1), axis=1) if found else np.zeros((4, 0), np.int64)
    first, second = rows[table[0]], rows[table[1]]
    correlation = _correlation(contrast, first, second, table[2])
    sure = np.flatnonzero(correlation >= CORRELATION)
    # A symmetric picture can match in several orientations: the best one stays.
    order = sure[np.lexsort((table[2][sure], -correlation[sure], second[sure], first[sure]))]
    ends = np.stack([first[order], second[order]])
    new = np.ones(len(order), bool)
    new[1:] = (ends[:, 1:] != ends[:, :-1]).any(axis=0)
    order = order[new]
    pairs = {
        "first": first[order],
        "second": second[order],
        "orientation": table[2][order],
        "distance": table[3][order],
        "correlation": correlation[order],
    }
    return pairs, blank


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


def _weighted(coefficients: np.ndarray) -> list[np.ndarray]:
    """Unit vectors of the frequencies in each orientation, higher ones raised, since X-rays fall off as 1/f."""
    vectors = coefficients * FREQUENCY
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    return [oriented(vectors, orientation) for orientation in range(8)]


def _similarity(weighted: list[np.ndarray], first: np.ndarray, second: np.ndarray, how: np.ndarray) -> np.ndarray:
    out = np.empty(len(first), np.float32)
    for orientation in np.unique(how):
        at = np.flatnonzero(how == orientation)
        for start in range(0, len(at), 100_000):
            part = at[start : start + 100_000]
            out[part] = np.einsum("ij,ij->i", weighted[0][first[part]], weighted[orientation][second[part]])
    return out


def _correlation(contrast: np.ndarray, first: np.ndarray, second: np.ndarray, how: np.ndarray) -> np.ndarray:
    out = np.empty(len(first), np.float32)
    for orientation in np.unique(how):
        at = np.flatnonzero(how == orientation)
        for start in range(0, len(at), 1024):
            part = at[start : start + 1024]
            one = contrast[first[part]].reshape(len(part), -1).astype(np.float32)
            other = orient(contrast[second[part]], int(orientation)).reshape(len(part), -1).astype(np.float32)
            product = np.einsum("ij,ij->i", one, other)
            out[part] = product / np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other) + 1e-9)
    return out
