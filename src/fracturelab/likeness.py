"""Is an image like those that a model was trained on? Answered without the model, at a stated error rate.

A model answers whatever it is shown: a photograph of a cat, a negative, a hand where it has learned legs. Ten plain
facts of the picture (brightness, contrast, border, aspect, detail ...) are compared with those of the training images:
the score is the Mahalanobis distance to their mean. Its limit is the conformal quantile of the scores of validation
images, which took no part in mean and spread: over the draws of both, an image like those exceeds it with a
probability of at most `rate`, whatever the facts' distribution (Vovk, Gammerman and Shafer, *Algorithmic Learning in a
Random World*, 2005).

What it cannot see: an image with such a brightness, border and detail that shows something else all the same.
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
        mean: (k,) of each of `FACTS` over the training images.
        spread: (k,) their standard deviations.
        inverse: (k, k) inverse of their correlations, shrunk.
        limit: Images with a higher score are unlike them.
        rate: Share of images like them that is called unlike, at most.
        calibrated_on: Validation images that the limit was taken from.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    inverse: NDArray[np.float64]
    limit: float
    rate: float
    calibrated_on: int

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """How far each image (n, size, size, 1) is from the training images: (n,) distances, `limit` the last near."""
        return _distances(measure(images), self.mean, self.spread, self.inverse)

    def remarks(self, images: NDArray[np.uint8]) -> list[str]:
        """A sentence for each image (n, size, size, 1) that is unlike the training images, "" for the others."""
        facts = measure(images)
        far = _distances(facts, self.mean, self.spread, self.inverse) > self.limit
        found = [""] * len(images)
        for row in np.flatnonzero(far):
            apart = (facts[row] - self.mean) / self.spread
            furthest = int(np.abs(apart).argmax())
            word = list(FACTS.values())[furthest][1 if apart[furthest] < 0 else 2]
            found[row] = (
                f"This picture is {word} than the images the model was trained on; of images like those, about "
                f"{share(self.rate)} would be said to be so. Do not rely on the answer."
            )
            if self.scores(negative(images[row : row + 1]))[0] <= self.limit:
                found[row] += " Its negative would be like them: are black and white exchanged?"
        return found

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
            "mean": _rounded(self.mean),
            "spread": _rounded(self.spread),
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
        train: Indices of the training images: mean and spread.
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
    mean = facts.mean(0)
    spread = np.maximum(facts.std(0), [least for least, _, _ in FACTS.values()])
    apart = (facts - mean) / spread
    together = (1 - _SHRINK) * (apart.T @ apart / len(apart))
    np.fill_diagonal(together, 1.0)  # of a fact that hardly varies, too, whose spread is the least one
    inverse = np.linalg.inv(together)
    scores = np.sort(_distances(measure(images, validation), mean, spread, inverse))
    rate = max(rate, 1 / (len(scores) + 1))
    last = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return Likeness(mean, spread, inverse, float(scores[last - 1]) * (1 + 1e-5), rate, len(scores))


def of_card(card: Mapping[str, Any]) -> Likeness | None:
    """What a model's card says of its training images; None where it says nothing.

    Raises:
        FracturelabError: It says something else than `describe` does.
    """
    said = card.get("likeness")
    if said is None:
        return None
    try:
        mean, spread, inverse = (np.array(said[name], np.float64) for name in ("mean", "spread", "inverse"))
        found = Likeness(mean, spread, inverse, float(said["limit"]), float(said["rate"]), int(said["calibrated_on"]))
        count = len(FACTS)
        whole = list(said["facts"]) == list(FACTS) and mean.shape == spread.shape == (count,)
        whole = whole and inverse.shape == (count, count) and bool((spread > 0).all()) and 0 < found.rate < 1
        numbers = np.concatenate([mean, spread, inverse.ravel(), [found.limit]])
    except (KeyError, TypeError, ValueError, IndexError):
        whole, numbers = False, np.zeros(0)
    if not whole or not np.isfinite(numbers).all():
        raise FracturelabError(
            f"the card of {card.get('name') or 'the model'} holds a damaged `likeness`; take it out or train again"
        )
    return found


def measure(images: NDArray[np.uint8], rows: ArrayLike | None = None) -> NDArray[np.float64]:
    """The facts of letterboxed images; what surrounds the picture does not count.

    Args:
        images: uint8 (n, size, size, 1).
        rows: Indices of the images to measure; None for all.

    Returns:
        (n, k), in the order of `FACTS`; greys are 0 to 1, the aspect is log(width / height).
    """
    from fracturelab.images import letterbox

    chosen = range(len(images)) if rows is None else np.asarray(rows, np.int64)
    found = np.zeros((len(chosen), len(FACTS)))
    for place, row in enumerate(chosen):
        found[place] = _facts(letterbox(np.asarray(images[row]), _SIDE)[:, :, 0].astype(np.float64) / 255)
    return found


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
        float(np.median(detail)),
    ]


def _distances(
    facts: NDArray[np.float64], mean: NDArray[np.float64], spread: NDArray[np.float64], inverse: NDArray[np.float64]
) -> NDArray[np.float64]:
    apart = (facts - mean) / spread
    return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", apart, inverse, apart), 0.0))


def _rounded(values: NDArray[np.float64]) -> Any:
    return [_rounded(row) for row in values] if values.ndim > 1 else [float(f"{value:.6g}") for value in values]
