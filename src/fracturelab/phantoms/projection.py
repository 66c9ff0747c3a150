"""From centimetres in the plane of the limb to pixels of the picture, and back into the frame of one bone."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, floor, sin

import numpy as np

from fracturelab.phantoms.shapes import Bone

F = np.float32


@dataclass(frozen=True)
class Geometry:
    """Where the picture looks.

    Attributes:
        matrix: (2, 2) rotation and mirror from cm to pixels, without the scale.
        centre: Place in cm that lies in the middle of the picture.
        scale: Pixels per cm.
        shape: (h, w).
    """

    matrix: np.ndarray
    centre: np.ndarray
    scale: float
    shape: tuple[int, int]

    def pixel(self, p) -> np.ndarray:
        """Place in pixels (x, y) of a place in cm."""
        x, y = float(p[0]) - float(self.centre[0]), float(p[1]) - float(self.centre[1])
        (m00, m01), (m10, m11) = self.matrix.tolist()
        h, w = self.shape
        return np.array([(m00 * x + m01 * y) * self.scale + w / 2, (m10 * x + m11 * y) * self.scale + h / 2])

    def frame(self, bone: Bone, box) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (a, v) in cm in the frame of a bone for the pixels of a box."""
        x0, y0, x1, y1 = box
        along, across = bone.axes()
        d, n = self.matrix @ along / self.scale, self.matrix @ across / self.scale
        o = self.pixel(bone.origin)
        x = np.arange(x0, x1, dtype=F) + F(0.5 - o[0])
        y = (np.arange(y0, y1, dtype=F) + F(0.5 - o[1]))[:, None]
        return x * F(d[0]) + y * F(d[1]), x * F(n[0]) + y * F(n[1])

    def box(self, bone: Bone, *, grow: float = 0.0) -> tuple[int, int, int, int] | None:
        """Pixel box (x0, y0, x1, y1) of a bone, or None when it lies outside; `grow` in cm."""
        a0, a1, v0, v1 = bone.bounds
        (m00, m01), (m10, m11) = self.matrix.tolist()
        c, s, scale = cos(bone.angle), sin(bone.angle), self.scale
        ax, ay = (-m00 * s + m01 * c) * scale, (-m10 * s + m11 * c) * scale
        vx, vy = (m00 * c + m01 * s) * bone.side * scale, (m10 * c + m11 * s) * bone.side * scale
        dx, dy = bone.origin[0] - float(self.centre[0]), bone.origin[1] - float(self.centre[1])
        am, vm = (a0 + a1) / 2, (v0 + v1) / 2
        ah, vh = (a1 - a0) / 2 + grow, (v1 - v0) / 2 + grow
        h, w = self.shape
        x = (m00 * dx + m01 * dy) * scale + w / 2 + ax * am + vx * vm
        y = (m10 * dx + m11 * dy) * scale + h / 2 + ay * am + vy * vm
        hx, hy = abs(ax) * ah + abs(vx) * vh + 1, abs(ay) * ah + abs(vy) * vh + 1
        x0, y0 = max(floor(x - hx), 0), max(floor(y - hy), 0)
        x1, y1 = min(ceil(x + hx) + 1, w), min(ceil(y + hy) + 1, h)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
