"""Settings of a source of one's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fracturelab.phantoms import Recipe, render
from fracturelab.phantoms.sources import FIELD


def test_settings_of_ones_own_change_one_thing_alone():
    by_name, by_settings = render(3, source="field", size=64), render(3, source=FIELD, size=64)
    np.testing.assert_array_equal(by_name.image, by_settings.image)
    plain = render(3, source=replace(FIELD, photographed=False), size=64)
    assert plain.nuisances == {**by_name.nuisances, "photographed": False}
    assert not np.array_equal(plain.image, by_name.image)


def test_a_recipe_takes_settings_too():
    recipe = Recipe(n=3, source="field", size=64)
    named, own = (list(made.phantoms()) for made in (recipe, replace(recipe, source=FIELD)))
    for mine, theirs in zip(own, named, strict=True):
        np.testing.assert_array_equal(mine.image, theirs.image)
