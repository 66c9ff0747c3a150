"""Does a heat map find the fractures, measured against their outlines, with intervals over groups.

* Pointing game (Zhang et al. 2018) and share of heat inside the outlines, over the X-rays with a fracture.
* FROC (Bunch et al. 1978): the share of fractures that are marked while an X-ray has one, or two, false marks on
  average. Marks are the five highest peaks of a map.
* AP50: average precision of boxes around the heat above half of its maximum; a box is right where it overlaps a
  fracture's box by half (intersection over union).

Marks and boxes are ranked over all X-rays by P(fractured) times the height of the peak in its own map, so that maps
that do not depend on the picture are ranked by the same answers: what differs is the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.evaluation.checks import group_codes
from fracturelab.evaluation.intervals import Interval
from fracturelab.evaluation.resampling import Array, bootstrap, bounded_mean_interval, percentile_interval

TOLERANCE = 0.05
"""How far beside a fracture a peak may lie, as a share of the image's side: 16 pixels of 320."""
MARKS = 5
FALSE_MARKS = (1, 2)
RESAMPLES = 500


def localisation_scores(
    maps: NDArray,
    masks: NDArray,
    boxes: Sequence[NDArray],
    answers: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """Score one method's maps of X-rays with and without fractures.

    Args:
        maps: (n, size, size), nowhere negative.
        masks: (n, size, size), 1 inside a fracture's outline; empty for normal X-rays.
        boxes: For each X-ray (k, 4): left, top, right and bottom of each fracture.
        answers: (n,) P(fractured).
        groups: (n,) as in `evaluate`.
        seed: Of the bootstrap.

    Returns:
        `pointing`, `inside`, `froc_1`, `froc_2` and `ap50`.
    """
    from scipy.ndimage import distance_transform_edt

    codes = group_codes(groups, n=len(maps))
    slack = TOLERANCE * maps.shape[1]
    broken = np.flatnonzero([len(of_image) > 0 for of_image in boxes])
    pointing, inside = np.zeros(len(broken)), np.zeros(len(broken))
    for place, row in enumerate(broken):
        heat = np.asarray(maps[row], float)
        if heat.max() > 0:
            near = distance_transform_edt(masks[row] == 0) <= slack
            pointing[place] = near[heat == heat.max()].mean()
            inside[place] = heat[masks[row] == 1].sum() / heat.sum()
    own = np.unique(codes[broken], return_inverse=True)[1]
    scores = {
        name: bounded_mean_interval(values, own, n_resamples=RESAMPLES, seed=seed)
        for name, values in (("pointing", pointing), ("inside", np.clip(inside, 0, 1)))
    }
    lesions = np.array([len(of_image) for of_image in boxes], float)
    values = np.asarray(answers, float)
    ranked = {}
    for name, find, right in (("froc", _peaks, _beside(slack)), ("ap50", _heat_boxes, _overlapping)):
        judged = [_judged(find(np.asarray(heat)), truth, right) for heat, truth in zip(maps, boxes, strict=True)]
        image = np.repeat(np.arange(len(maps)), [len(part) for part in judged])
        height, new, false = np.concatenate(judged).T if len(image) else np.zeros((3, 0))
        order = np.argsort(-values[image] * height, kind="stable")
        ranked[name] = image[order], new[order], false[order]

    def score(counts: Array) -> Array:
        total = counts @ lesions
        rows = [np.zeros(len(counts))] * 3
        with np.errstate(invalid="ignore", divide="ignore"):
            image, new, false = ranked["froc"]
            hits, wrong = np.cumsum(counts[:, image] * new, 1), np.cumsum(counts[:, image] * false, 1)
            per_image = wrong / counts.sum(axis=1, keepdims=True)
            rows[:2] = [np.where(per_image <= most, hits, 0).max(axis=1, initial=0) / total for most in FALSE_MARKS]
            image, new, false = ranked["ap50"]
            gained = counts[:, image] * new
            hits, wrong = np.cumsum(gained, 1), np.cumsum(counts[:, image] * false, 1)
            precision = np.nan_to_num(hits / (hits + wrong))
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            rows[2] = (precision * gained).sum(axis=1) / total
        return np.stack(rows, axis=1)

    names = [*(f"froc_{most}" for most in FALSE_MARKS), "ap50"]
    once = score(np.ones((1, len(maps))))[0]
    resampled = bootstrap(score, codes, n_resamples=RESAMPLES, seed=seed)
    for name, value, column in zip(names, once, resampled.T, strict=True):
        scores[name] = percentile_interval(float(value), column)
    return scores


def _peaks(heat: NDArray) -> Iterator[tuple[float, NDArray]]:
    """The highest peaks of a map, highest first: height in shares of the highest, and (x, y)."""
    from scipy.ndimage import center_of_mass, label, maximum_filter

    if heat.max() <= 0:
        return
    highest = (heat == maximum_filter(heat, size=2 * round(TOLERANCE * len(heat)) + 1)) & (heat > 0)
    parts, count = label(highest)
    places = center_of_mass(highest, parts, range(1, count + 1))
    heights = np.array([heat[parts == number].max() for number in range(1, count + 1)]) / heat.max()
    for number in np.argsort(-heights, kind="stable")[:MARKS]:
        yield float(heights[number]), np.array(places[number][::-1])


def _heat_boxes(heat: NDArray) -> Iterator[tuple[float, NDArray]]:
    """Boxes around the parts of a map above half of its maximum, highest first: height, and (x0, y0, x1, y1)."""
    from scipy.ndimage import find_objects, label

    if heat.max() <= 0:
        return
    parts = find_objects(label(heat >= heat.max() / 2)[0])
    heights = [float(heat[part].max() / heat.max()) for part in parts]
    for number in np.argsort(-np.array(heights), kind="stable")[:MARKS]:
        rows, columns = parts[number]
        yield heights[number], np.array([columns.start, rows.start, columns.stop, rows.stop], float)


def _beside(slack: float) -> Callable[[NDArray, NDArray, NDArray], NDArray[np.bool_]]:
    """Which fractures a peak marks: all that it lies in, within the tolerance."""

    def right(peak: NDArray, truth: NDArray, taken: NDArray) -> NDArray[np.bool_]:
        return ((peak >= truth[:, :2] - slack) & (peak <= truth[:, 2:] + slack)).all(axis=1)

    return right


def _overlapping(box: NDArray, truth: NDArray, taken: NDArray) -> NDArray[np.bool_]:
    """Which fracture a box finds: the one that it overlaps most, by half at least and not found before."""
    sides = np.minimum(box[2:], truth[:, 2:]) - np.maximum(box[:2], truth[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    overlap = common / ((box[2:] - box[:2]).prod() + (truth[:, 2:] - truth[:, :2]).prod(axis=1) - common)
    overlap[taken] = 0
    return (overlap >= 0.5) & (np.arange(len(truth)) == overlap.argmax())


def _judged(marks: Iterator[tuple[float, NDArray]], truth: NDArray, right: Callable) -> NDArray[np.float64]:
    """(marks, 3): height, number of fractures that the mark is the first to find, and whether it finds none at all."""
    taken = np.zeros(len(truth), bool)
    rows = []
    for height, place in marks:
        hit = right(place, truth, taken) if len(truth) else taken
        rows.append((height, (hit & ~taken).sum(), not hit.any()))
        taken = taken | hit
    return np.array(rows, float).reshape(-1, 3)
