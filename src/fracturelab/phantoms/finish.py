"""Finishes a plate: separator, collimation, strips, marker, photograph, uint8, and the canvas it stands on."""

from __future__ import annotations

import numpy as np

from fracturelab.phantoms.confounders import add_marker, border_layers, collimation_mask
from fracturelab.phantoms.order import Order
from fracturelab.phantoms.photograph import draw_photograph

F = np.float32


def pick(drawn: float, weights) -> int:
    """Index drawn with the given weights by one number in 0 to 1."""
    total = np.cumsum(weights)
    return min(int(np.searchsorted(total, drawn * total[-1], side="right")), len(total) - 1)


def stand(z: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Puts a plate in the middle of its canvas."""
    if z.shape == canvas:
        return z
    out = np.zeros(canvas, z.dtype)
    y, x = (canvas[0] - z.shape[0]) // 2, (canvas[1] - z.shape[1]) // 2
    out[y : y + z.shape[0], x : x + z.shape[1]] = z
    return out


def finisher(order: Order, side: str, boxes):
    """Returns the function from developed grey to the finished uint8 plate, and the warp for maps (None without)."""
    (h, w), s, flags = order.shape, order.source, order.flags
    r = order.rng("finish")
    surround = (0.0, 0.03, 0.95)[pick(r.random(), (0.5, 0.35, 0.15))]
    line = (0.0, 0.03, 0.93)[pick(r.random(), (0.4, 0.25, 0.35))]
    style = s.marker_styles[int(r.integers(len(s.marker_styles)))]
    letter = {"L": "R", "R": "L"}[side] if r.random() < 0.05 else side
    field = collimation_mask(order.rng("collimation"), h, w) if flags["collimation"] else None
    strips = border_layers(order.rng("border"), h, w) if flags["border"] else []
    photo = draw_photograph(order.rng("photograph"), s, h, w) if s.photographed else None

    def finish(y: np.ndarray) -> np.ndarray:
        z = y.copy()
        if len(boxes) == 2:
            z[:, boxes[0][2] : boxes[1][0]] = line
        if field is not None:
            z = z * field + F(surround) * (1 - field)
        for share, grey in strips:
            z += share * (F(grey) - z)
        if flags["marker"]:
            add_marker(order.rng("marker"), z, letter, style)
        if photo is not None:
            z = photo.take(np.clip(z, 0, 1))
        z *= 255
        z += 0.5
        return np.clip(z, 0, 255).astype(np.uint8)

    return finish, photo.warp if photo is not None else None
