"""Recipes compared over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.evaluation import compare, compare_seeds


def fits(n: int = 120, seeds: int = 3):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    weak = [1 / (1 + np.exp(-(0.5 * labels + rng.normal(size=n)))) for _ in range(seeds)]
    strong = [1 / (1 + np.exp(-(2.5 * labels + rng.normal(size=n)))) for _ in range(seeds)]
    return labels, weak, strong


def test_means_over_seeds_and_their_difference():
    labels, weak, strong = fits()
    found = compare_seeds(labels, weak, strong)
    alone = [compare(labels, a, b, threshold_a=0.5, threshold_b=0.5) for a, b in zip(weak, strong, strict=True)]
    assert found.aucs_a == pytest.approx([one.auc_a.value for one in alone])
    assert found.differences == pytest.approx([one.difference.value for one in alone])
    assert found.difference.value == pytest.approx(np.mean(found.differences))
    assert found.mean_b.value - found.mean_a.value == pytest.approx(found.difference.value)
    assert 0 < found.difference.low < found.difference.value < found.difference.high
    assert found.difference.width < min(one.difference.width for one in alone)  # fits that err apart average out


def test_the_same_fits_differ_by_nothing_and_order_gives_the_sign():
    labels, weak, strong = fits()
    assert compare_seeds(labels, weak, weak).difference == (0.0, 0.0, 0.0)
    there, back = compare_seeds(labels, weak, strong), compare_seeds(labels, strong, weak)
    assert there.difference.low == pytest.approx(-back.difference.high)


def test_recipes_without_a_mistake_on_few_images_may_still_differ():
    labels = [0, 0, 0, 1, 1, 1]
    a, b = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [0.3, 0.1, 0.2, 0.9, 0.7, 0.8]
    found, alone = compare_seeds(labels, [a, b], [b, b]), compare(labels, a, b, threshold_a=0.5, threshold_b=0.5)
    assert found.aucs_a == found.aucs_b == (1.0, 1.0)
    assert found.difference == pytest.approx(alone.difference)
    assert found.difference.low == -found.difference.high < -0.4
    assert found.mean_a == pytest.approx(alone.auc_a) and found.mean_a.low < 0.8
    assert compare_seeds(labels, [a, b], [a, b]).difference == (0.0, 0.0, 0.0)


def test_one_seed_says_what_compare_says():
    for n in (20, 120):
        labels, weak, strong = fits(n, 1)
        found, alone = (
            compare_seeds(labels, weak, strong),
            compare(labels, *weak, *strong, threshold_a=0.5, threshold_b=0.5),
        )
        assert (found.mean_a, found.mean_b, found.difference) == (alone.auc_a, alone.auc_b, alone.difference)


def test_groups_count_once():
    labels, weak, strong = fits()
    copies = [np.repeat(one, 4) for one in weak], [np.repeat(one, 4) for one in strong]
    alone = compare_seeds(labels, weak, strong)
    grouped = compare_seeds(np.repeat(labels, 4), *copies, groups=np.repeat(np.arange(len(labels)), 4))
    assert (grouped.n, grouped.n_groups) == (4 * len(labels), len(labels))
    assert grouped.difference.width == pytest.approx(alone.difference.width, rel=0.1)


def test_one_class_is_undefined_and_unequal_numbers_of_fits_are_refused():
    labels, weak, strong = fits()
    assert compare_seeds(np.ones(len(labels), int), weak, strong).difference.value is None
    for wrong in ((weak, strong[:2]), ([], [])):
        with pytest.raises(FracturelabError, match="as many fits"):
            compare_seeds(labels, *wrong)
