"""The embedded default sets: what notebooks train and test on, rendered on first use and kept in the image cache."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from fracturelab.errors import FracturelabError
from fracturelab.phantoms.sources import GENERATOR_VERSION
from fracturelab.phantoms.writer import Recipe, write_set

LONG_BONES = ("forearm", "humerus", "femur", "leg")
EDITION = 4
"""Part of the name of every default set; raise it when a recipe below changes."""

_LEARNABLE = Recipe(n=1200, size=256, regions=LONG_BONES, zoom=(3.0, 5.0), difficulty=(0.0, 0.2))
_CLOSE = replace(_LEARNABLE, size=(128, 128), zoom=(4.5, 6.5), difficulty=(0.0, 0.1), nuisances=False)
RECIPES = {
    "clinic": replace(_LEARNABLE, nuisances=False),
    "unseen": replace(_LEARNABLE, nuisances=False, n=400, seed=1),
    "field": replace(_LEARNABLE, source="field", n=400),
    "hard": Recipe(n=400, seed=2),
    "types": replace(
        _LEARNABLE,
        n=None,
        per_kind=180,
        seed=5,
        size=(128, 128),
        zoom=(4.5, 6.5),
        difficulty=(0.0, 0.1),
        nuisances=False,
    ),
}
"""Recipe of each default set.

- clinic: long bones from close by, without anything else in the picture. A small network learns it in minutes.
- unseen: more of the same, which nothing is trained on.
- field: the same bones, photographed from a light box elsewhere, with casts, metal and markers.
- hard: X-rays of all regions of the body, mostly of whole limbs, with casts, metal and markers.
- types: as many X-rays of each fracture type, cut closely around the fracture, without anything else in the picture.
"""


def default_data(name: str = "clinic", *, n: int | None = None) -> Path:
    """The embedded default set of a name, written on first use and kept in the image cache.

    Args:
        name: One of `RECIPES`.
        n: Number of images, or of images a type for "types", where the usual number is too many.

    Returns:
        Folder with `images/` and `labels.csv`.

    Raises:
        FracturelabError: There is no set of this name, or it cannot be written.
    """
    from fracturelab.images import default_cache_dir

    if name not in RECIPES:
        raise FracturelabError(f"expected name to be one of {', '.join(RECIPES)}. Received: {name!r}")
    recipe = RECIPES[name]
    if n is not None:
        recipe = replace(recipe, per_kind=n) if recipe.per_kind else replace(recipe, n=n)
    count = recipe.per_kind or recipe.n
    folder = default_cache_dir() / f"phantoms-{name}-v{GENERATOR_VERSION}.{EDITION}-{count}"
    return write_set(folder, **asdict(recipe))
