"""The fracture in a view: the part of the picture that it changes, developed with the exposure of the whole."""

from __future__ import annotations

import numpy as np

from fracturelab.phantoms.breaking import broken, zone_mask
from fracturelab.phantoms.fractures import Fracture, draw_fracture
from fracturelab.phantoms.radiograph import develop, margin
from fracturelab.phantoms.randomness import stream
from fracturelab.phantoms.shapes import Bone, thickness
from fracturelab.phantoms.sources import Source
from fracturelab.phantoms.view import View

# Kinds that often break the bone beside, too (radius and ulna, tibia and fibula).
_PAIRED = ("oblique", "spiral", "comminuted", "greenstick", "impacted")


def break_view(seed: int, source: Source, view: View, *, part: str, kind: str, severity: float, attempt: int):
    """Draws the fracture of a view.

    Args:
        seed: Seed of the phantom.
        source: Settings.
        view: The view without it.
        part: Name of the view.
        kind: Kind of fracture.
        severity: 0 subtle to 1 gross, more when earlier attempts did not show.
        attempt: Number of the attempt.

    Returns:
        (box, grey, thickness, mask): the part of the picture that changes as (x0, y0, x1, y1), its developed grey, its
        bone thickness, and the mask of the fracture; None when the bone lies outside the picture.
    """
    rng = stream(seed, source.name, part, "fracture", str(attempt))
    k = view.skeleton
    index, a = view.site
    bone = k.bones[index]
    geometry = view.geometry
    pixel = 1.0 / geometry.scale
    todo: list[tuple[Fracture, Bone]] = []
    shifted = a + (rng.normal(0, 0.25) * bone.section(a)[1] if attempt else 0.0)
    todo.append((draw_fracture(rng, kind, bone, index, shifted, severity=severity, pixel=pixel), bone))
    beside = [i for i, b in enumerate(k.bones) if b.name == bone.pair]
    if beside and kind in _PAIRED and rng.random() < 0.35:
        other = k.bones[beside[0]]
        along, _ = other.axes()
        at = float((bone.point(a) - np.asarray(other.origin)) @ along) + rng.normal(0, 0.6)
        if 0.12 * other.length < at < 0.9 * other.length:
            todo.append((draw_fracture(rng, kind, other, beside[0], at, severity=severity * 0.8, pixel=pixel), other))
    placed = [(f, b, box) for f, b in todo if (box := geometry.box(b, grow=0.3 + 2.2 * f.half))]
    if not placed:
        return None
    edge = margin(view.plate)
    h, w = geometry.shape
    n = np.array([box for _, _, box in placed])
    x0, y0 = max(int(n[:, 0].min()) - edge, 0), max(int(n[:, 1].min()) - edge, 0)
    x1, y1 = min(int(n[:, 2].max()) + edge, w), min(int(n[:, 3].max()) + edge, h)
    thick = view.bone[y0:y1, x0:x1].copy()
    mask = np.zeros(thick.shape, bool)
    for f, b, inside in placed:
        bx0, by0, bx1, by1 = inside
        places, across = geometry.frame(b, inside)
        tex = view.texture[by0:by1, bx0:bx1]
        change = broken(f, b, places, across, tex, pixel=pixel) - thickness(b, places, across, tex)
        part_ = np.s_[by0 - y0 : by1 - y0, bx0 - x0 : bx1 - x0]
        thick[part_] += change
        mask[part_] |= zone_mask(f, places, across) & (np.abs(change) > 0.03 + 0.04 * f.half)
    np.maximum(thick, 0, out=thick)
    # develop with a margin, so that what lies beyond the box stays as it was
    y = develop(view.plate, thick, (x0, y0, x1, y1))
    cut = np.s_[edge if y0 else 0 : (-edge if y1 < h else None), edge if x0 else 0 : (-edge if x1 < w else None)]
    inner = (
        x0 + (edge if x0 else 0),
        y0 + (edge if y0 else 0),
        x1 - (edge if x1 < w else 0),
        y1 - (edge if y1 < h else 0),
    )
    return inner, y[cut], thick[cut], mask[cut]
