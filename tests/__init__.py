"""The tests, and the copy of FracAtlas that some of them read where there is one."""

from __future__ import annotations

import os
from pathlib import Path


def find_fracatlas() -> Path | None:
    """A copy of FracAtlas on this machine, or None.

    The environment's FRACTURELAB_FRACATLAS names it. Otherwise it is looked for in `data/fracatlas` of the checkout,
    then in `shared/data/fracatlas` beside the checkout.
    """
    chosen = os.environ.get("FRACTURELAB_FRACATLAS")
    if chosen:
        return Path(chosen).expanduser()
    checkout = Path(__file__).resolve().parents[1]
    places = (checkout / "data" / "fracatlas", checkout.parent / "shared" / "data" / "fracatlas")
    return next((place for place in places if place.is_dir()), None)
