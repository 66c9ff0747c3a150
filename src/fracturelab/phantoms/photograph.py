"""A film photographed from a light box or a screen: perspective, moire, glare, vignette and stray light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from fracturelab.phantoms.randomness import noise
from fracturelab.phantoms.sources import Source

F = np.float32


@dataclass(frozen=True)
class Photograph:
    """The geometry and the light of one photograph: sampling coordinates, factor and addition, all (h, w)."""

    rows: np.ndarray
    columns: np.ndarray
    factor: np.ndarray
    light: np.ndarray
    surround: float
    blur: float

    def warp(self, z: np.ndarray, *, fill: float = 0.0) -> np.ndarray:
        """Samples a map of the film in the frame of the photograph."""
        return map_coordinates(z, (self.rows, self.columns), order=1, mode="constant", cval=fill, prefilter=False)

    def take(self, y: np.ndarray) -> np.ndarray:
        """Photographs grey values in 0 to 1."""
        z = self.warp(y, fill=self.surround)
        if self.blur > 0.2:
            z = gaussian_filter(z, self.blur, truncate=3.0)
        return z * self.factor + self.light


def draw_photograph(rng: np.random.Generator, source: Source, h: int, w: int) -> Photograph:
    """Draws one photograph of a film of (h, w) pixels, same size."""
    r = rng
    tilt = r.uniform(*source.tilt)
    shift = r.uniform(-1, 1, (4, 2)) * tilt - 0.012
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    target = (
        corners + shift * np.where(corners > 0.5, -1, 1) * -1
    )  # where each corner of the photograph looks on the film
    # projective map from the unit square to the four targets (direct linear transform)
    rows = []
    for (x, y), (u, v) in zip(corners, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, v])
    m = np.array(rows)
    g = np.append(np.linalg.solve(m[:, :8], m[:, 8]), 1.0)
    x = np.linspace(0, 1, w, dtype=F)[None, :]
    y = np.linspace(0, 1, h, dtype=F)[:, None]
    den = F(g[6]) * x + F(g[7]) * y + F(1)
    u = (F(g[0]) * x + F(g[1]) * y + F(g[2])) / den
    v = (F(g[3]) * x + F(g[4]) * y + F(g[5])) / den
    cx, cy = r.uniform(0.35, 0.65, 2)
    far = np.square(x - F(cx)) + np.square(y - F(cy))
    factor = 1 - F(r.uniform(*source.vignette)) * far
    side = max(h, w)
    k = r.uniform(0.15, 0.45) * 6.28  # radians per pixel: the grid of the screen, and its slow beat with the camera's
    angle = r.uniform(-0.2, 0.2)
    px = x * (w - 1)
    py = y * (h - 1)
    beat = 6.28 * r.uniform(2, 9) / side
    strength = r.uniform(*source.moire)
    wave = np.sin((px * np.cos(angle) + py * np.sin(angle)) * F(k)) * 0.5
    wave = wave + np.sin(
        (px * np.cos(angle * 5 + 0.6) + py * np.sin(angle * 5 + 0.6)) * F(beat) + F(r.uniform(0, 6.28))
    )
    factor = factor * (1 + F(strength) * wave)
    light = np.full((h, w), r.uniform(*source.ambient), F)
    glare = r.uniform(*source.glare)
    gx, gy = r.uniform(-0.1, 1.1, 2)
    sx, sy = r.uniform(0.06, 0.35, 2)
    if r.random() < 0.6:
        light += F(glare) * np.exp(-np.square((x - F(gx)) / F(sx)) - np.square((y - F(gy)) / F(sy)))
    light += F(r.uniform(0.003, 0.015)) * noise(r, h, w)
    surround = float(r.choice([r.uniform(0.0, 0.12), r.uniform(0.8, 1.0)], p=[0.6, 0.4]))
    return Photograph(
        (v * (h - 1)).astype(F),
        (u * (w - 1)).astype(F),
        (factor * r.uniform(0.75, 0.95)).astype(F),
        light,
        surround,
        float(r.uniform(0.0, 0.5) * side / 128),
    )
