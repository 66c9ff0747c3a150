"""The fracture in a view: the part of the picture that it changes, developed with the exposure of the whole."""

from __future__ import annotations

import numpy as np

from fracturelab.phantoms.breaking import broken, zone_mask
from fracturelab.phantoms.fractures import draw_fracture
from fracturelab.phantoms.order import Order
from fracturelab.phantoms.radiograph import develop, margin
from fracturelab.phantoms.shapes import thickness
from fracturelab.phantoms.view import View

# Kinds that often break the bone beside, too (radius and ulna, tibia and fibula).
_PAIRED = ("oblique", "spiral", "comminuted", "greenstick", "impacted")


def break_view(order: Order, view: View, *, attempt: int):
    """Draws the fracture of a view.

    Args:
        order: What the phantom is to show.
        view: The view without its fracture.
        attempt: Number of the attempt: the higher, the grosser the fracture.

    Returns:
        (box, grey, thickness, mask): the part of the picture that changes as (x0, y0, x1, y1), its developed grey, its
        bone thickness, and the mask of the fracture; None when the bone lies outside the picture.
    """
    rng, kind, severity = order.rng(view.part, "fracture", str(attempt)), order.kind, order.severity + 0.25 * attempt
    k = view.skeleton
    index, a = view.site
    bone = k.bones[index]
    geometry = view.geometry
    pixel = 1.0 / geometry.scale
    shifted = a + (rng.normal(0, 0.25) * bone.section(a)[1] if attempt else 0.0)
    todo = [(draw_fracture(rng, kind, bone, shifted, severity=severity, pixel=pixel), bone)]
    other = next((b for b in k.bones if b.name == bone.pair), None)
    if other and kind in _PAIRED and rng.random() < 0.35:
        along, _ = other.axes()
        at = float((bone.point(a) - np.asarray(other.origin)) @ along) + rng.normal(0, 0.6)
        if 0.12 * other.length < at < 0.9 * other.length:
            todo.append((draw_fracture(rng, kind, other, at, severity=severity * 0.8, pixel=pixel), other))
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
        part = np.s_[by0 - y0 : by1 - y0, bx0 - x0 : bx1 - x0]
        thick[part] += change
        mask[part] |= zone_mask(f, places, across) & (np.abs(change) > 0.03 + 0.04 * f.half)
    np.maximum(thick, 0, out=thick)
    # develop with a margin, so that what lies beyond the box stays as it was
    y = develop(view.plate, thick, (x0, y0, x1, y1))
    left, top, right, bottom = (edge * inside for inside in (x0 > 0, y0 > 0, x1 < w, y1 < h))
    inner = x0 + left, y0 + top, x1 - right, y1 - bottom
    cut = np.s_[top : len(thick) - bottom, left : thick.shape[1] - right]
    return inner, y[cut], thick[cut], mask[cut]
