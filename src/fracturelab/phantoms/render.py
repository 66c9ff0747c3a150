"""One seed, one phantom: image, label and ground truth."""

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
    """One synthetic radiograph and everything known about it.

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
    """Decides which nuisances are present: independent of the label unless a correlation is asked for.

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
    for name, chance in zip(NUISANCES, chances, strict=True):
        rate = s.rates[name]
        if name in correlate:
            c = float(correlate[name])
            if not 0 <= c <= 1:
                raise FracturelabError(f"expected correlate[{name!r}] between 0 and 1. Received: {c}")
            rate = c if label else 1 - c
        out[name] = bool(nuisances.get(name, chance < rate))
    return out


def _plate_shape(chance: float, vary: float, s: Source, size: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shape of the plate in pixels and of the canvas it stands on."""
    aspect = s.aspects[pick(chance, [a[1] for a in s.aspects])][0] * (0.99 + 0.02 * vary)
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
    """Renders one phantom; the same arguments give the same image, bit for bit.

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
    if not letterbox:
        canvas = shape
    flags = draw_nuisances(seed, s, label, correlate, nuisances)
    flags["two_views"] = flags["two_views"] and where not in TRUNK
    for number in range(view, view + 8):
        done = _render_view(
            seed,
            s,
            label=label,
            kind=what,
            region=where,
            severity=severity,
            zoom=zoom_range,
            shape=shape,
            canvas=canvas,
            flags=flags,
            number=number,
        )
        if done.visibility is None or done.visibility.visible:
            return done
    raise FracturelabError(
        f"seed {seed}: no fracture of this kind shows in this picture. Ask for a size larger than {size}, "
        "a larger zoom, or fewer nuisances"
    )


def _render_view(seed, s: Source, *, label, kind, region, severity, zoom, shape, canvas, flags, number) -> Phantom:
    """Renders one phantom in the view of this number, whether or not its fracture shows."""
    h, w = shape
    rng = lambda *names: stream(seed, s.name, *names)  # noqa: E731
    # the plate: one view, or two beside each other
    parts, boxes = ["first"], [(0, 0, w, h)]
    gap = 0
    if flags["two_views"]:
        gap = max(1, round(max(h, w) * rng("gap").uniform(0.005, 0.03)))
        parts.append("second")
        m = w // 2
        boxes = [(0, 0, m - gap // 2, h), (m - gap // 2 + gap, 0, w, h)]
    if number:
        parts = [f"{p} {number}" for p in parts]
    views: list[View] = []
    y0 = np.zeros(shape, F)
    bone = np.zeros(shape, F)
    for part, (x0, t0, x1, t1) in zip(parts, boxes, strict=True):
        v = make_view(
            seed,
            s,
            part=part,
            region=region,
            kind=kind,
            shape=(t1 - t0, x1 - x0),
            zoom=zoom,
            flags=flags,
            like=views[0] if views else None,
            closer=1 + 0.5 * number,
        )
        views.append(v)
        y0[t0:t1, x0:x1] = develop(v.plate, v.bone)
        bone[t0:t1, x0:x1] = v.bone

    side = "R" if np.linalg.det(views[0].geometry.matrix) > 0 else "L"
    finish, warp = finisher(seed, s, shape, flags, side, boxes)
    plain = finish(y0)
    mask = np.zeros(shape, bool)
    seen: Visibility | None = None
    image = plain
    if label:
        seen, image, mask, bone = _break(seed, s, views, parts, boxes, kind, severity, y0, plain, bone, finish, warp)
    elif warp is not None:
        bone = warp(bone)
    density = 1 - np.exp(-0.9 * bone)
    image, mask, density = (stand(z, canvas) for z in (image, mask, density.astype(F)))
    box = None
    if mask.any():
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1)
    first = views[0]
    return Phantom(
        image=image,
        label=label,
        kind=kind if label else None,
        region=region,
        bone=first.skeleton.bones[first.site[0]].name if label else None,
        mask=mask,
        box=box,
        side=side,
        age=first.skeleton.age,
        nuisances={
            **flags,
            "cast": any(v.cast for v in views),
            "hardware": first.hardware,
            "ring": any(v.ring for v in views),
            "overlap": any(v.overlap for v in views),
            "growth_plates": first.skeleton.plates,
            "rotation": first.turned,
            "pixels_per_cm": first.geometry.scale,
            "photographed": s.photographed,
            "severity": float(severity),
        },
        bone_map=density,
        visibility=seen,
        seed=seed,
        source=s.name,
        view=number,
    )


def _break(seed, s: Source, views, parts, boxes, kind, severity, y0, plain, bone0, finish, warp):
    """Draws the fracture until it shows; returns (visibility, image, mask, bone)."""
    best = (Visibility(-1, 0, 0.0, 0.0), plain, np.zeros(y0.shape, bool), bone0)
    for attempt in range(_ATTEMPTS):
        y, mask, bone = y0.copy(), np.zeros(y0.shape, bool), bone0.copy()
        for part, v, (left, top, _, _) in zip(parts, views, boxes, strict=True):
            got = break_view(seed, s, v, part=part, kind=kind, severity=severity + 0.25 * attempt, attempt=attempt)
            if got is None:
                continue
            (x0, t0, x1, t1), grey, thick, m = got
            at = np.s_[top + t0 : top + t1, left + x0 : left + x1]
            y[at], bone[at] = grey, thick
            mask[at] |= m
        if warp is not None:
            mask = warp(mask.astype(F)) > 0.35
            bone = warp(bone)
        image = finish(y)
        seen = fracture_visibility(image, plain, mask)
        if seen.pixels > best[0].pixels:
            best = (seen, image, mask, bone)
        if seen.visible:
            break
    seen, image, mask, bone = best
    if mask.any():
        mask = binary_dilation(mask)
    return seen, image, mask, bone
