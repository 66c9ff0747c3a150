"""Phantoms to test heat maps on."""

from __future__ import annotations

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.phantoms.trials import fracture_trials, switched

SIZE = 64


def test_trials_hold_the_whole_fracture_and_twins_differ_near_it_alone():
    trials = fracture_trials(6, size=SIZE, seed=3)
    assert trials.fractured.shape == trials.intact.shape == (6, SIZE, SIZE, 1)
    for broken, intact, (x0, y0, x1, y1), mask in zip(
        trials.fractured, trials.intact, trials.boxes, trials.masks, strict=True
    ):
        assert 0 < x0 < x1 < SIZE
        assert 0 < y0 < y1 < SIZE
        ys, xs = np.nonzero(mask)
        assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (x0, y0, x1, y1)
        change = np.abs(broken.astype(int) - intact)[..., 0]
        assert change[mask].mean() > 4 * max(change[~mask].mean(), 0.5)
    images, labels, seeds = trials.both()
    np.testing.assert_array_equal(images[2], trials.fractured[1])
    assert labels.tolist() == [1, 0] * 6
    assert (seeds[::2] == seeds[1::2]).all()
    again, other = fracture_trials(2, size=SIZE, seed=3), fracture_trials(2, size=SIZE, seed=4)
    np.testing.assert_array_equal(again.fractured, trials.fractured[:2])
    assert not set(other.seeds) & set(trials.seeds)
    assert fracture_trials(0, size=SIZE).boxes.shape == (0, 4)


def test_fractures_of_trials_lie_anywhere():
    boxes = fracture_trials(40, size=48, seed=9).boxes
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / 48
    assert (centres.std(axis=0) > 0.13).all()
    assert (np.abs(centres.mean(axis=0) - 0.5) < 0.12).all()


def test_switched_adds_one_thing():
    pair = switched(4, "border", size=SIZE, seed=1)
    rim = np.ones((SIZE, SIZE), bool)
    rim[12:-12, 12:-12] = False
    assert pair.changed[:, rim].sum() > 4 * pair.changed[:, ~rim].sum()
    broken = switched(4, "fracture", size=SIZE, seed=1)
    assert broken.changed.any(axis=(1, 2)).sum() >= 2
    with pytest.raises(FracturelabError, match="nuisance"):
        switched(1, "no such thing", size=SIZE)
