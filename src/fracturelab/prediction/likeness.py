"""Is an image like the training images of a model? Tested without the model, at a stated error rate.

A model answers for any picture: a photograph of a cat, a negative, a hand where it was trained on legs. Ten plain
facts of the picture (brightness, contrast, border, aspect, detail ...) are compared with those of the training images:
each becomes the normal score of its rank among theirs, and the distance of the ten from the middle, correlations taken
into account, is the score (a Mahalanobis distance that heavy tails do not blunt). Its limit is the conformal quantile
of the scores of validation images, which took no part in ranks and correlations: over the draws of both, an image like
those exceeds it with a probability of at most `rate`, whatever the facts' distribution (Vovk, Gammerman and Shafer,
*Algorithmic Learning in a Random World*, 2005).

What it misses: an image of something else with a usual brightness, border and detail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError

RATE = 0.01
"""Share of images like the training images that are called unlike them."""
FEWEST = 19
"""With fewer validation images no limit below a rate of 5% can be given, and none is."""
_SIDE = 64
_SHRINK = 0.1
_SURE = 1e-3
# Quantiles of each fact that are kept, and the normal distribution's own.
_LEVELS = (0.005, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 0.995)
_NORMAL = np.array([-2.5758, -2.0537, -1.2816, -0.6745, 0.0, 0.6745, 1.2816, 2.0537, 2.5758])
_MIDDLE = len(_LEVELS) // 2

# Each fact with its least spread, and what an image is that has less or more of it than the training images.
FACTS: dict[str, tuple[float, str, str]] = {
    "brightness": (0.01, "darker", "brighter"),
    "median": (0.01, "darker in most places", "brighter in most places"),
    "contrast": (0.005, "flatter", "harder in contrast"),
    "black": (0.01, "with less black", "with more black"),
    "white": (0.005, "with less white", "with more white"),
    "border": (0.01, "darker at its border", "brighter at its border"),
    "centre": (0.01, "darker in its middle", "brighter in its middle"),
    "aspect": (0.03, "taller", "wider"),
    "detail": (0.002, "smoother", "busier"),
    "grain": (0.002, "less grainy", "grainier"),
}


@dataclass(frozen=True)
class Likeness:
    """What the training images look like, and from where on an image is unlike them.

    Attributes:
        quantiles: (k, 9) of each of `FACTS` over the training images.
        inverse: (k, k) inverse of the correlations of their normal scores, shrunk.
        limit: Images with a higher score are unlike them.
        rate: Share of images like them that is called unlike, at most.
        calibrated_on: Validation images that the limit was taken from.
    """

    quantiles: NDArray[np.float64]
    inverse: NDArray[np.float64]
    limit: float
    rate: float
    calibrated_on: int

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """How far each image (n, size, size, 1) is from the training images: (n,) distances, `limit` the last near."""
        return _distances(_normal_scores(measure(images), self.quantiles), self.inverse)

    def remarks(self, images: NDArray[np.uint8]) -> list[str]:
        """A sentence for each image (n, size, size, 1) that is unlike the training images, "" for the others."""
        normal = _normal_scores(measure(images), self.quantiles)
        remarks = [""] * len(images)
        for row in np.flatnonzero(_distances(normal, self.inverse) > self.limit):
            furthest = int(np.abs(normal[row]).argmax())
            word = list(FACTS.values())[furthest][1 if normal[row, furthest] < 0 else 2]
            remarks[row] = (
                f"This picture is {word} than the training images. About {share(self.rate)} "
                "images from the same source get this remark. Do not rely on the answer."
            )
            if self.scores(negative(images[row : row + 1]))[0] <= self.limit:
                remarks[row] += " Its negative would be like them: are black and white exchanged?"
        return remarks

    def of_set(self, images: NDArray[np.uint8]) -> list[str]:
        """A sentence where more of these images (n, size, size, 1) are unlike the training images than by chance."""
        from scipy.stats import betabinom

        far = int((self.scores(images) > self.limit).sum()) if len(images) else 0
        above = max(1, round(self.rate * (self.calibrated_on + 1)))  # ranks that an image like them may take beyond it
        if not far or betabinom.sf(far - 1, len(images), above, self.calibrated_on + 1 - above) > _SURE:
            return []
        return [
            f"{far} of these {len(images)} images are unlike those that the model was trained on, going by brightness, "
            f"contrast, border, aspect and detail; of images like those, about {share(self.rate)} would be: its "
            "answers on them may mean nothing."
        ]

    def to_dict(self) -> dict[str, Any]:
        """As the model's card holds it: plain JSON types."""
        return {
            "facts": list(FACTS),
            "quantiles": _rounded(self.quantiles),
            "inverse": _rounded(self.inverse),
            "limit": float(f"{self.limit:.6g}"),
            "rate": float(f"{self.rate:.6g}"),
            "calibrated_on": self.calibrated_on,
        }


def describe(
    images: NDArray[np.uint8], train: ArrayLike, validation: ArrayLike, *, rate: float = RATE
) -> Likeness | None:
    """Describe what training images look like.

    Args:
        images: uint8 (n, size, size, 1), letterboxed; may be a memory map.
        train: Indices of the training images: ranks and correlations.
        validation: Indices of images like them that are not among them: the limit.
        rate: Share of images like them that may be called unlike. With fewer than 1 / rate - 1 validation images the
            lowest rate that can be had is taken instead, 1 / (their number + 1).

    Returns:
        The description; None with fewer than `FEWEST` images on either side.
    """
    train, validation = np.asarray(train, np.int64), np.asarray(validation, np.int64)
    if min(len(train), len(validation)) < FEWEST:
        return None
    facts = measure(images, train)
    quantiles = _steep(np.quantile(facts, _LEVELS, axis=0).T)
    normal = _normal_scores(facts, quantiles)
    correlations = (1 - _SHRINK) * (normal.T @ normal / len(normal))
    np.fill_diagonal(correlations, 1.0)  # of a fact that hardly varies, too
    inverse: NDArray[np.float64] = np.linalg.inv(correlations).astype(np.float64)
    scores = np.sort(_distances(_normal_scores(measure(images, validation), quantiles), inverse))
    rate = max(rate, 1 / (len(scores) + 1))
    last = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return Likeness(quantiles, inverse, float(scores[last - 1]) * (1 + 1e-5), rate, len(scores))


def of_card(card: Mapping[str, Any]) -> Likeness | None:
    """The description of the training images in a model's card; None where there is none.

    Raises:
        FracturelabError: It is not as `describe` makes it.
    """
    given = card.get("likeness")
    if given is None:
        return None
    try:
        quantiles, inverse = (np.array(given[name], np.float64) for name in ("quantiles", "inverse"))
        limit, rate = (float(given[name]) for name in ("limit", "rate"))
        likeness = Likeness(quantiles, inverse, limit, rate, int(given["calibrated_on"]))
        whole = list(given["facts"]) == list(FACTS) and quantiles.shape == (len(FACTS), len(_LEVELS))
        whole &= inverse.shape == (len(FACTS), len(FACTS)) and bool((np.diff(quantiles) > 0).all())
        whole &= 0 < likeness.rate < 1 and likeness.calibrated_on >= FEWEST
        whole &= bool(np.isfinite([*quantiles.ravel(), *inverse.ravel(), likeness.limit]).all())
    except (KeyError, TypeError, ValueError, IndexError):
        whole = False
    if not whole:
        raise FracturelabError(
            f"the card of {card.get('name') or 'the model'} holds a damaged `likeness`; take it out or train again"
        )
    return likeness


def measure(images: NDArray[np.uint8], rows: ArrayLike | None = None) -> NDArray[np.float64]:
    """The facts of letterboxed images; what surrounds the picture does not count.

    Args:
        images: uint8 (n, size, size, 1).
        rows: Indices of the images to measure; None for all.

    Returns:
        (n, k), in the order of `FACTS`; greys are 0 to 1, the aspect is log(width / height). All but the grain, which
        is taken as the images are, hardly depend on `size`.
    """
    from fracturelab.images import letterbox

    chosen = range(len(images)) if rows is None else np.asarray(rows, np.int64)
    facts = np.zeros((len(chosen), len(FACTS)))
    for place, row in enumerate(chosen):
        image = np.asarray(images[row])
        facts[place] = [*_facts(letterbox(image, _SIDE)[:, :, 0].astype(np.float64) / 255), _grain(image[:, :, 0])]
    return facts


def negative(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (n, size, size, 1) with black and white exchanged inside the picture; the padding stays 0."""
    turned = np.zeros_like(images)
    for row, image in enumerate(images):
        inside = _inside(image[:, :, 0])
        turned[row, :, :, 0][inside] = 255 - image[:, :, 0][inside]
    return turned


def share(rate: float) -> str:
    """A rate in words: `1 in 100`."""
    return f"1 in {round(1 / rate)}"


def _inside(square: NDArray) -> tuple[slice, slice]:
    """The picture within its letterbox: centred, so that both bars are as wide as the narrower one seems."""
    filled = square > 0
    sides = []
    for axis in (1, 0):
        lines = np.flatnonzero(filled.any(axis))
        if not len(lines):
            return slice(0, square.shape[0]), slice(0, square.shape[1])
        bar = min(int(lines[0]), square.shape[1 - axis] - 1 - int(lines[-1]))
        sides.append(slice(bar, square.shape[1 - axis] - bar))
    return sides[0], sides[1]


def _facts(square: NDArray[np.float64]) -> list[float]:
    picture = square[_inside(square)]
    height, width = picture.shape
    edge_y, edge_x = max(1, round(0.08 * height)), max(1, round(0.08 * width))
    middle = picture[height // 3 : -(-2 * height // 3), width // 3 : -(-2 * width // 3)]
    rim = np.ones(picture.shape, bool)
    rim[edge_y : height - edge_y, edge_x : width - edge_x] = False
    steps = [np.abs(np.diff(picture, axis=axis)) for axis in (0, 1)]
    detail = np.concatenate([step.ravel() for step in steps] + [np.zeros(1)])
    return [
        float(picture.mean()),
        float(np.median(picture)),
        float(picture.std()),
        float((picture < 0.08).mean()),
        float((picture > 0.92).mean()),
        float(picture[rim].mean()),
        float(middle.mean()) if middle.size else float(picture.mean()),
        math.log(width / height),
        float(detail.mean()),
    ]


def _grain(square: NDArray[np.uint8]) -> float:
    """How far a pixel is from the mean of its neighbours to both sides, on average over the picture."""
    picture = square[_inside(square)].astype(np.int16)
    bends = [np.abs(np.diff(picture, n=2, axis=axis)) for axis in (0, 1)]
    return float(np.mean([bend.mean() if bend.size else 0.0 for bend in bends])) / 510


def _steep(quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles (k, 9) moved apart to the least spread of each fact, from their middle outwards."""
    least = np.array([spread for spread, _, _ in FACTS.values()])
    steep = quantiles.copy()
    for step in range(_MIDDLE + 1, len(_LEVELS)):
        gap = least * (_NORMAL[step] - _NORMAL[step - 1])
        steep[:, step] = np.maximum(steep[:, step], steep[:, step - 1] + gap)
        mirror = len(_LEVELS) - 1 - step
        steep[:, mirror] = np.minimum(steep[:, mirror], steep[:, mirror + 1] - gap)
    return steep


def _normal_scores(facts: NDArray[np.float64], quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where facts (n, k) stand among those of the training images; beyond their ends, by the half's own spread."""
    scores = np.empty_like(facts)
    for number, (values, own) in enumerate(zip(facts.T, quantiles, strict=True)):
        below, above = (abs((own[end] - own[_MIDDLE]) / _NORMAL[end]) for end in (0, -1))
        scores[:, number] = np.interp(values, own, _NORMAL)
        scores[:, number] += np.minimum(values - own[0], 0) / below + np.maximum(values - own[-1], 0) / above
    return scores


def _distances(normal: NDArray[np.float64], inverse: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", normal, inverse, normal), 0.0))


def _rounded(values: NDArray[np.float64]) -> Any:
    return [_rounded(row) for row in values] if values.ndim > 1 else [float(f"{value:.6g}") for value in values]
