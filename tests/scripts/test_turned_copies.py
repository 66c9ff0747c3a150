"""The command that measures turned and cropped copies."""

from __future__ import annotations

import numpy as np

from scripts.turned_copies import Change, change_image, turned_table


def test_a_crop_keeps_the_size_and_a_part_of_the_picture():
    rows, columns = np.mgrid[:80, :100]
    image = (rows + columns).astype(np.uint8)
    cropped = change_image(image, Change(crop=0.3), np.random.default_rng(0))
    assert cropped.shape == image.shape
    assert abs(np.diff(cropped[40].astype(float)).mean() - 0.7) < 0.02
    turned = change_image(image, Change(20), np.random.default_rng(0))
    assert turned[0, 0] == turned[-1, -1] == 0


def test_the_table_shows_what_was_found_and_what_it_costs():
    share = {"turned 10": {"found": 0.985, "candidates": 0.99}}
    seconds = {"closer look at 1,000": 16.0, "confirming of 1,000": 14.0, "search in 40,000": 1800.0}
    results = {"share": share, "changed": 200, "new_pairs": [["a", "b", 0.9]], "processor_seconds": seconds}
    table = turned_table([{"data": {"n": 2927}, "results": results}])
    for text in ("| copies turned 10 | 98.5% of 200 |", "among 2,927 X-rays | 1 |", "one core | 30 s |", "| 30 min |"):
        assert text in table
    assert turned_table([]) == ""
