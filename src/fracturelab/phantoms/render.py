"""Renders one phantom from a seed: image, label and ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from fracturelab.errors import FracturelabError
from fracturelab.phantoms.anatomy import REGIONS
from fracturelab.phantoms.broken_view import break_view
from fracturelab.phantoms.finish import finisher, pick, stand
from fracturelab.phantoms.fractures import FRACTURE_KINDS, KIND_WEIGHTS
from fracturelab.phantoms.order import Order
from fracturelab.phantoms.radiograph import develop
from fracturelab.phantoms.randomness import stream
from fracturelab.phantoms.sources import NUISANCES, Source, settings
from fracturelab.phantoms.view import TRUNK, View, make_view
from fracturelab.phantoms.visibility import Visibility, fracture_visibility

F = np.float32
MAX_SIDE = 4096
_ATTEMPTS = 6


@dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph with its ground truth.

    Attributes:
        image: (h, w) uint8, bone bright.
        label: 1 fractured, 0 normal.
        kind: One of `FRACTURE_KINDS`, None when normal.
        region: One of `REGIONS`.
        bone: Name of the broken bone, None when normal.
        mask: (h, w) bool, the fracture.
        box: (x0, y0, x1, y1) around the mask, None when normal.
        side: "L" or "R".
        age: "child" or "adult".
        nuisances: What else is in the picture, by name; `hardware` is a tuple of kinds.
        bone_map: (h, w) float32 in 0 to 1, how much bone lies in the beam.
        visibility: How well the fracture shows, None when normal.
        seed: The seed.
        source: The source.
        view: Number of the view, 0 but for the few whose first view hid the fracture.
    """

    image: np.ndarray
    label: int
    kind: str | None
    region: str
    bone: str | None
    mask: np.ndarray
    box: tuple[int, int, int, int] | None
    side: str
    age: str
    nuisances: dict
    bone_map: np.ndarray
    visibility: Visibility | None
    seed: int
    source: str
    view: int = 0


def _pair(value: Any, name: str) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = value if isinstance(value, tuple | list) else (value, value)
    low, high = float(low), float(high)
    if not (np.isfinite([low, high]).all() and 0 <= low <= high):
        raise FracturelabError(f"expected {name} to be a number from 0 up, or a pair (low, high). Received: {value!r}")
    return low, high


def _choice(value, allowed, name: str):
    if value is not None and value not in allowed:
        raise FracturelabError(f"expected {name} to be one of {', '.join(allowed)}. Received: {value!r}")
    return value


def draw_nuisances(
    seed: int, s: Source, label: int, correlate: Mapping | None, nuisances: Mapping | None
) -> dict[str, bool]:
    """Decide which nuisances are present, independently of the label unless a correlation is given.

    Args:
        seed: Seed of the phantom.
        s: Settings of the source.
        label: 1 fractured, 0 normal; matters only for nuisances in `correlate`.
        correlate: Nuisance to P(nuisance | fractured), which is also 1 - P(nuisance | normal).
        nuisances: Nuisances to force on or off.

    Returns:
        Name to presence, for every one of `NUISANCES`.
    """
    correlate, nuisances = dict(correlate or {}), dict(nuisances or {})
    for name in [*correlate, *nuisances]:
        _choice(name, NUISANCES, "the name of a nuisance")
    out = {}
    chances = stream(seed, s.name, "nuisances").random(len(NUISANCES))  # new names go to the end of NUISANCES
    for name, drawn in zip(NUISANCES, chances, strict=True):
        rate = s.rates[name]
        if name in correlate:
            c = float(correlate[name])
            if not 0 <= c <= 1:
                raise FracturelabError(f"expected correlate[{name!r}] between 0 and 1. Received: {c}")
            rate = c if label else 1 - c
        out[name] = bool(nuisances.get(name, drawn < rate))
    return out


def _plate_shape(drawn: float, vary: float, s: Source, size: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shape of the plate in pixels and of the canvas it stands on."""
    aspect = s.aspects[pick(drawn, [a[1] for a in s.aspects])][0] * (0.99 + 0.02 * vary)
    if isinstance(size, tuple | list):
        h, w = (int(v) for v in size)
        shape = canvas = (h, w)
    else:
        n = int(size)
        canvas = (n, n)
        shape = (n, max(8, round(n * aspect))) if aspect < 1 else (max(8, round(n / aspect)), n)
    if min(canvas) < 32 or max(canvas) > MAX_SIDE:
        raise FracturelabError(f"expected size between 32 and {MAX_SIDE} pixels a side. Received: {size}")
    return shape, canvas


def render(
    seed: int,
    *,
    source: str | Source = "clinic",
    size: int | tuple[int, int] = 128,
    fractured: bool | None = None,
    kind: str | None = None,
    region: str | None = None,
    zoom: float | tuple[float, float] | None = None,
    difficulty: float | tuple[float, float] | None = None,
    correlate: Mapping[str, float] | None = None,
    nuisances: Mapping[str, bool] | None = None,
    letterbox: bool = True,
    view: int = 0,
) -> Phantom:
    """Render one phantom; the same arguments give the same image, bit for bit.

    With `fractured` False and True the same seed gives twins that differ only in the fracture. A fracture must show:
    see `fracture_visibility`; where it does not, it is drawn again and coarser, and where metal or overexposure hides
    its place altogether (some per cent of fractured images), the view is drawn anew and numbered in `Phantom.view`.

    Args:
        seed: Integer from 0 up.
        source: "clinic" or "field", or settings of one's own; what is drawn follows from the seed and their name.
        size: Long side in pixels (a square canvas, the plate letterboxed with 0 as the models see real X-rays), or
            (height, width) of a plate that fills the picture; 32 to 4096.
        fractured: Label; drawn with even odds when None (True when `kind` is given).
        kind: Kind of fracture; drawn when None.
        region: Region of the body; drawn when None.
        zoom: Magnification over the view of the whole region, or a range of it; the mix of the source when None.
        difficulty: 0 gross to 1 subtle, or a range; the whole range when None.
        correlate: Nuisance to probability c: P(nuisance | fractured) = c and P(nuisance | normal) = 1 - c.
        nuisances: Nuisances to force on or off.
        letterbox: With an integer `size`, False gives the plate alone, without bars.
        view: Number of the view to start with; to make the twin of a phantom whose `view` is not 0.

    Returns:
        The phantom.

    Raises:
        FracturelabError: An argument is out of range or unknown.

    Examples:
        >>> phantom = render(0, size=64, fractured=True)
        >>> phantom.image.shape, phantom.label
        ((64, 64), 1)
    """
    s = settings(source)
    if isinstance(seed, bool) or int(seed) != seed or seed < 0:
        raise FracturelabError(f"expected seed to be an integer from 0 up. Received: {seed!r}")
    seed = int(seed)
    _choice(kind, FRACTURE_KINDS, "kind")
    _choice(region, REGIONS, "region")
    zoom_range, hard = _pair(zoom, "zoom"), _pair(difficulty, "difficulty")
    if zoom_range and zoom_range[0] < 0.2:
        raise FracturelabError(f"expected zoom of at least 0.2. Received: {zoom!r}")
    if hard and hard[1] > 1:
        raise FracturelabError(f"expected difficulty of at most 1. Received: {difficulty!r}")
    chances = stream(seed, s.name, "what").random(16)
    drawn = chances[0] < 0.5
    label = int(drawn if fractured is None and kind is None else (True if fractured is None else fractured))
    what = kind or FRACTURE_KINDS[pick(chances[1], KIND_WEIGHTS)]
    where = region or REGIONS[pick(chances[2], s.regions)]
    t = chances[3]
    severity = 1 - (hard[0] + (hard[1] - hard[0]) * t if hard else t)
    shape, canvas = _plate_shape(chances[4], chances[5], s, size)
    flags = draw_nuisances(seed, s, label, correlate, nuisances)
    flags["two_views"] = flags["two_views"] and where not in TRUNK
    order = Order(seed, s, label, what, where, severity, zoom_range, shape, canvas if letterbox else shape, flags)
    for number in range(view, view + 8):
        phantom = _render_view(order, number)
        if phantom.visibility is None or phantom.visibility.visible:
            return phantom
    raise FracturelabError(
        f"seed {seed}: no fracture of this kind shows in this picture. Ask for a size larger than {size}, "
        "a larger zoom, or fewer nuisances"
    )


def _render_view(order: Order, number: int) -> Phantom:
    """Renders one phantom in the view of this number, whether or not its fracture shows."""
    h, w = order.shape
    # the plate: one view, or two beside each other
    parts, boxes = ["first"], [(0, 0, w, h)]
    if order.flags["two_views"]:
        gap = max(1, round(max(h, w) * order.rng("gap").uniform(0.005, 0.03)))
        left = w // 2 - gap // 2
        parts, boxes = ["first", "second"], [(0, 0, left, h), (left + gap, 0, w, h)]
    views: list[View] = []
    grey, bone = np.zeros(order.shape, F), np.zeros(order.shape, F)
    for part, (x0, y0, x1, y1) in zip(parts, boxes, strict=True):
        name = f"{part} {number}" if number else part
        first = views[0] if views else None
        view = make_view(order, name, (y1 - y0, x1 - x0), like=first, closer=1 + 0.5 * number)
        views.append(view)
        grey[y0:y1, x0:x1], bone[y0:y1, x0:x1] = develop(view.plate, view.bone), view.bone
    first = views[0]
    side = "R" if np.linalg.det(first.geometry.matrix) > 0 else "L"
    finish, warp = finisher(order, side, boxes)
    image, mask = finish(grey), np.zeros(order.shape, bool)
    seen: Visibility | None = None
    if order.label:
        seen, image, mask, bone = _break(order, views, boxes, grey, bone, finish, warp)
    elif warp is not None:
        bone = warp(bone)
    density = (1 - np.exp(-0.9 * bone)).astype(F)
    image, mask, density = (stand(z, order.canvas) for z in (image, mask, density))
    box = None
    if mask.any():
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
    nuisances = {
        **order.flags,
        **first.extras,
        **{name: any(view.extras[name] for view in views) for name in ("cast", "ring", "overlap")},
        "growth_plates": first.skeleton.plates,
        "pixels_per_cm": first.geometry.scale,
        "photographed": order.source.photographed,
        "severity": float(order.severity),
    }
    kind, broken = (order.kind, first.skeleton.bones[first.site[0]].name) if order.label else (None, None)
    what = (order.label, kind, order.region, broken, mask, box, side, first.skeleton.age, nuisances)
    return Phantom(image, *what, density, seen, order.seed, order.source.name, number)


def _break(order: Order, views: list[View], boxes, grey, bone, finish, warp):
    """Draws the fracture until it shows; returns (visibility, image, mask, bone)."""
    plain = finish(grey)
    best = (Visibility(-1, 0, 0.0, 0.0), plain, np.zeros(grey.shape, bool), bone)
    for attempt in range(_ATTEMPTS):
        y, mask, thick = grey.copy(), np.zeros(grey.shape, bool), bone.copy()
        for view, (left, top, _, _) in zip(views, boxes, strict=True):
            drawn = break_view(order, view, attempt=attempt)
            if drawn is not None:
                (x0, y0, x1, y1), *maps = drawn
                at = np.s_[top + y0 : top + y1, left + x0 : left + x1]
                y[at], thick[at] = maps[:2]
                mask[at] |= maps[2]
        if warp is not None:
            mask, thick = warp(mask.astype(F)) > 0.35, warp(thick)
        image = finish(y)
        seen = fracture_visibility(image, plain, mask)
        if seen.pixels > best[0].pixels:
            best = (seen, image, mask, thick)
        if seen.visible:
            break
    seen, image, mask, thick = best
    return seen, image, binary_dilation(mask) if mask.any() else mask, thick
