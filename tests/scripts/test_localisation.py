"""Localisation: maps that are right, beside, elsewhere or empty have the scores that follow from the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.localisation import localisation_scores

SIZE = 100
BOXES = [np.array([[20.0, 30, 40, 50]]), np.array([[60.0, 60, 80, 80], [5.0, 5, 15, 15]]), np.zeros((0, 4))]


def drawn(*found: np.ndarray) -> np.ndarray:
    masks = np.zeros((len(found), SIZE, SIZE), np.uint8)
    for mask, boxes in zip(masks, found, strict=True):
        for x0, y0, x1, y1 in boxes.astype(int):
            mask[y0:y1, x0:x1] = 1
    return masks


def scores(maps, answers=(0.9, 0.8, 0.1)):
    found = localisation_scores(np.asarray(maps, float), drawn(*BOXES), BOXES, answers)
    return {name: interval.value for name, interval in found.items()}


def test_a_map_of_the_outlines_is_perfect():
    maps = drawn(*BOXES)
    assert scores(maps) == {"pointing": 1, "inside": 1, "froc_1": 1, "froc_2": 1, "ap50": 1}
    found = localisation_scores(maps.astype(float), maps, BOXES, [0.9, 0.8, 0.1])
    for interval in found.values():
        assert interval.low <= interval.value <= interval.high


def test_an_empty_map_finds_nothing():
    assert set(scores(np.zeros((3, SIZE, SIZE))).values()) == {0}


def test_a_map_beside_the_fracture_points_within_the_tolerance_alone():
    maps = np.zeros((3, SIZE, SIZE))
    maps[0, 40, 43] = maps[1, 70, 87] = 1  # 4 pixels beside the first, 8 beside the second
    found = scores(maps)
    assert found["pointing"] == 0.5
    assert found["inside"] == 0
    assert found["froc_1"] == pytest.approx(1 / 3)
    assert found["ap50"] == 0


def test_false_marks_are_counted_over_all_x_rays_and_ranked_by_the_answers():
    maps = drawn(BOXES[0], np.array([[60.0, 60, 80, 80]]), np.array([[50.0, 50, 60, 60]])).astype(float)
    # One of three fractures is never marked; the normal X-ray's mark is ranked last, or first.
    assert scores(maps)["ap50"] == pytest.approx(2 / 3)
    last = scores(maps, (0.5, 0.4, 0.9))
    assert last["ap50"] == pytest.approx(2 / 3 * 2 / 3)
    assert last["froc_1"] == pytest.approx(2 / 3)


def test_more_false_marks_than_are_allowed_cost_the_fractures_ranked_after_them():
    maps = np.zeros((1, SIZE, SIZE))
    boxes = [np.array([[90.0, 90, 96, 96]])]
    for number, place in enumerate([(10, 10), (10, 50), (50, 10)]):
        maps[0][place] = 1 - number / 10
    maps[0, 93, 93] = 0.75  # the fourth mark
    found = localisation_scores(maps, drawn(*boxes), boxes, [0.9])
    assert (found["froc_1"].value, found["froc_2"].value) == (0, 0)
    maps[0, 93, 93] = 0.85  # the third
    found = localisation_scores(maps, drawn(*boxes), boxes, [0.9])
    assert (found["froc_1"].value, found["froc_2"].value) == (0, 1)


def test_half_an_overlap_is_enough_and_a_second_box_is_false():
    boxes = [np.array([[20.0, 20, 40, 40]])]
    maps = np.zeros((1, SIZE, SIZE))
    maps[0, 20:40, 20:30] = 1
    assert localisation_scores(maps, drawn(*boxes), boxes, [0.9])["ap50"].value == 1
    maps[0, 20:40, 20:30] = 0
    maps[0, 20:40, 20:29] = 1
    assert localisation_scores(maps, drawn(*boxes), boxes, [0.9])["ap50"].value == 0
