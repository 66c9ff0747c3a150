"""What else lies on the plate: casts, plates, screws, nails, wires, rings, side markers, borders and collimation.

Each is drawn at the place where the phantom could break, or anywhere, whether it breaks or not.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil, floor

import numpy as np

F = np.float32

_FONT = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "A": ("01110", "10001", "10001", "11111", "10001", "10001", "10001"),
    "P": ("11110", "10001", "10001", "11110", "10000", "10000", "10000"),
    "T": ("11111", "00100", "00100", "00100", "00100", "00100", "00100"),
    "D": ("11110", "10001", "10001", "10001", "10001", "10001", "11110"),
    "X": ("10001", "01010", "00100", "00100", "00100", "01010", "10001"),
    "3": ("11110", "00001", "00001", "01110", "00001", "00001", "11110"),
    "7": ("11111", "00001", "00010", "00100", "00100", "01000", "01000"),
}


def _around(field: np.ndarray, points, pad: float) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """Pixel box (x0, y0, x1, y1) around points with a margin, and the map in it; both are empty outside the map."""
    h, w = field.shape
    xs, ys = [float(p[0]) for p in points], [float(p[1]) for p in points]
    x0, y0 = max(floor(min(xs) - pad), 0), max(floor(min(ys) - pad), 0)
    x1, y1 = max(min(ceil(max(xs) + pad) + 1, w), x0), max(min(ceil(max(ys) + pad) + 1, h), y0)
    return (x0, y0, x1, y1), field[y0:y1, x0:x1]


def _grid(box, p) -> tuple[np.ndarray, np.ndarray]:
    """Distances (1, w) and (h, 1) in x and y of the pixels of a box from a point."""
    x0, y0, x1, y1 = box
    return np.arange(x0, x1, dtype=F) - F(p[0]), (np.arange(y0, y1, dtype=F) - F(p[1]))[:, None]


def _towards(box, p, q) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of the way from p to q that is nearest to each pixel of a box, and the distance from there in x and y."""
    d = np.asarray(q, float) - np.asarray(p, float)
    l2 = float(d @ d) + 1e-6
    x, y = _grid(box, p)
    t = np.clip(x * F(d[0] / l2) + y * F(d[1] / l2), 0, 1)
    return t, x - t * F(d[0]), y - t * F(d[1])


def add_capsule(field: np.ndarray, p, q, r0: float, r1: float, depth: float = 1.0) -> None:
    """Raises `field` to the squared half thickness of a tapered capsule, where that is more. Pixels, in place."""
    box, part = _around(field, (p, q), max(r0, r1))
    t, dx, dy = _towards(box, p, q)
    r = F(r0) + t * F(r1 - r0)
    np.maximum(part, (r * r - np.square(dx) - np.square(dy)) * F(depth * depth), out=part)


def rod(metal: np.ndarray, p, q, r: float, density: float = 1.0) -> None:
    """Adds a rod of metal between two points, radius in pixels, in place."""
    box, part = _around(metal, (p, q), r + 1.5)
    _, dx, dy = _towards(box, p, q)
    dist = np.sqrt(np.square(dx) + np.square(dy))
    part += np.clip(F(r + 0.5) - dist, 0, 1) * F(density * min(1.0, 0.35 + 0.4 * r))


def ring(metal: np.ndarray, c, a: float, b: float, angle: float, width: float) -> None:
    """Adds an elliptic ring of metal, half axes and width in pixels, in place."""
    box, part = _around(metal, [c], max(a, b) + width + 2)
    x, y = _grid(box, c)
    ca, sa = F(np.cos(angle)), F(np.sin(angle))
    u, v = x * ca + y * sa, y * ca - x * sa
    q = np.sqrt(np.square(u / F(a)) + np.square(v / F(b)))
    g = np.sqrt(np.square(u / F(a * a)) + np.square(v / F(b * b))) / np.maximum(q, F(1e-3))
    part += np.clip(F(width + 0.5) - np.abs(q - 1) / np.maximum(g, F(1e-3)), 0, 1)


def add_hardware(rng: np.random.Generator, metal: np.ndarray, p0, p1, *, site: float, half: float) -> tuple[str, ...]:
    """Draws osteosynthesis on a bone from p0 to p1 (pixels) around `site` (share of its length).

    Args:
        rng: Stream of the hardware.
        metal: (h, w) float32, in place.
        p0: Proximal end of the bone.
        p1: Distal end.
        site: Where it is centred.
        half: Half width of the bone in pixels.

    Returns:
        The kinds drawn.
    """
    r = rng
    p0, p1 = np.asarray(p0, float), np.asarray(p1, float)
    length = max(float(np.hypot(*(p1 - p0))), 1.0)
    d = (p1 - p0) / length
    n = np.array([-d[1], d[0]])
    half = max(half, 1.0)
    reach = min(r.uniform(3, 9) * half, 0.48 * length)
    at = float(np.clip(site * length, reach * 0.7, length - reach * 0.7))
    a, c = p0 + d * max(at - reach, 0.01 * length), p0 + d * min(at + reach, 0.99 * length)
    kinds, weights = ("plate", "screws", "nail", "wires", "fixator", "cerclage"), (0.4, 0.12, 0.15, 0.2, 0.06, 0.07)
    kind = str(r.choice(kinds, p=weights))
    thin = max(0.12 * half, 0.45)
    if kind in ("plate", "screws"):
        side = r.choice([-1, 1])
        offset = n * side * half * r.choice([r.uniform(0.9, 1.2), r.uniform(-0.2, 0.5)])
        wide = max(half * r.uniform(0.14, 0.32), 0.6)
        count = int(r.integers(4, 10)) if kind == "plate" else int(r.integers(1, 4))
        if kind == "plate":
            rod(metal, a + offset, c + offset, wide)
        for t in np.linspace(0.06, 0.94, count) if kind == "plate" else r.uniform(0.3, 0.7, count):
            if r.random() < 0.85 or kind == "screws":
                p = a + (c - a) * t + offset
                tilt = d * half * r.normal(0, 0.12 if kind == "plate" else 0.6)
                rod(metal, p + n * side * wide, p - n * side * half * r.uniform(1.3, 2.1) + tilt, thin)
                rod(metal, p + n * side * wide * 1.2 - d * thin, p + n * side * wide * 1.2 + d * thin, thin * 1.2)
    elif kind == "nail":
        a, c = p0 + d * 0.05 * length, p0 + d * 0.94 * length
        rod(metal, a, c, max(half * r.uniform(0.28, 0.5), 0.6))
        for t in (0.08, 0.88, 0.94):
            p = a + (c - a) * t
            rod(metal, p - n * half * 1.3, p + n * half * 1.3, thin)
    elif kind == "wires":
        for _ in range(int(r.integers(1, 4))):
            tilt = n * half * r.uniform(0.4, 1.6) * r.choice([-1, 1])
            start, end = a + tilt + n * half * r.uniform(-0.3, 0.3), c - tilt * r.uniform(0.1, 0.8)
            rod(metal, start, end, max(0.09 * half, 0.4))
    elif kind == "fixator":
        offset = n * r.choice([-1, 1]) * half * r.uniform(3.5, 6)
        rod(metal, a + offset, c + offset, max(0.3 * half, 0.8), 1.4)
        for t in (0.05, 0.25, 0.75, 0.95):
            p = a + (c - a) * t
            rod(metal, p + offset * 1.15, p - offset / np.hypot(*offset) * half, thin * 1.3)
    else:
        for t in np.linspace(0.3, 0.7, int(r.integers(2, 5))):
            p = a + (c - a) * t
            ring(metal, p, half * 1.1, half * 0.3, np.arctan2(n[1], n[0]) + r.normal(0, 0.1), max(0.07 * half, 0.35))
    return (kind,)


def cast_map(rng: np.random.Generator, shape, points, radius: float) -> np.ndarray:
    """Thickness of a plaster cast or splint along a chain of points, all in (low-resolution) pixels.

    Args:
        rng: Stream of the cast.
        shape: (h, w).
        points: Chain of two or more points.
        radius: Half width of the limb with padding.

    Returns:
        (h, w) float32.
    """
    wall = radius * rng.uniform(0.1, 0.26)
    offset = np.zeros(2)
    d = np.asarray(points[-1], float) - np.asarray(points[0], float)
    n = np.array([-d[1], d[0]]) / max(float(np.hypot(*d)), 1e-6)
    if rng.random() < 0.4:
        offset = n * rng.choice([-1, 1]) * wall * rng.uniform(0.9, 1.4)
    outer, inner = np.zeros(shape, F), np.zeros(shape, F)
    for p, q in pairwise(points):
        p, q = np.asarray(p, float), np.asarray(q, float)
        wobble = rng.uniform(0.92, 1.08, 2)
        add_capsule(outer, p, q, (radius + wall) * wobble[0], (radius + wall) * wobble[1])
        add_capsule(inner, p + offset, q + offset, radius * wobble[0], radius * wobble[1])
    return 2 * np.maximum(np.sqrt(outer) - np.sqrt(np.maximum(inner, 0)), 0)


def _glyph(letter: str, height: int) -> np.ndarray:
    rows = np.array([[int(b) for b in row] for row in _FONT[letter]], F)
    y = np.minimum((np.arange(height) + 0.5) * 7 / height, 6.99).astype(int)
    x = np.minimum((np.arange(max(height * 5 // 7, 3)) + 0.5) * 5 / max(height * 5 // 7, 3), 4.99).astype(int)
    return rows[y[:, None], x[None, :]]


def add_marker(rng: np.random.Generator, y: np.ndarray, letter: str, style: str) -> None:
    """Draws a side marker near the rim of a picture, in place; `y` in 0 to 1."""
    h, w = y.shape
    tall = max(5, round(max(h, w) * rng.uniform(0.03, 0.055)))
    glyph = _glyph(letter, tall)
    gh, gw = glyph.shape
    pad = max(1, tall // 4)
    u, v = rng.uniform(0.05, 0.95, 2)
    if rng.random() < 0.7:  # along the left or right rim
        u = rng.choice([rng.uniform(0.03, 0.2), rng.uniform(0.8, 0.97)])
    top = tall + pad if style == "box" else pad
    bh, bw = top + gh + pad, gw + 2 * pad
    x0, y0 = int(u * max(w - bw, 1)), int(v * max(h - bh, 1))
    bright, dark = F(rng.uniform(0.85, 1.0)), F(rng.uniform(0.0, 0.15))
    area = y[y0 : y0 + bh, x0 : x0 + bw]
    if area.shape != (bh, bw):
        return
    spot = area[top : top + gh, pad : pad + gw]
    if style == "tape":
        np.maximum(area, F(rng.uniform(0.55, 0.8)), out=area)
        spot[glyph > 0] = dark
        return
    if style == "box":  # a white square with a sign, the letter below
        area[:tall] = bright
        area[tall // 3 : tall - tall // 4, bw // 4 : bw - bw // 4] = dark
    elif style == "plate":
        area[:] = dark
    elif style == "wire" and rng.random() < 0.25:
        glyph = glyph[::-1, ::-1]
    np.maximum(spot, glyph * bright, out=spot)


def border_layers(rng: np.random.Generator, h: int, w: int) -> list[tuple[np.ndarray, float]]:
    """White or dark strips along the rim with slightly curved edges, as ((h, w) share, grey) pairs."""
    out = []
    order = rng.permutation(4)
    for side in order[: int(rng.integers(1, 4))]:
        n, across = (w, h) if side in (0, 1) else (h, w)
        kind = rng.choice(3, p=[0.55, 0.33, 0.12])
        thick = across * rng.uniform(*((0.004, 0.015), (0.015, 0.06), (0.06, 0.15))[kind])
        t = np.linspace(-1, 1, n, dtype=F)
        edge = thick * (1 + 0.25 * rng.uniform(-1, 1) * t + 0.2 * rng.uniform(-1, 1) * t * t)
        edge = edge + rng.uniform(0, 0.002) * across * np.sin(t * rng.uniform(3, 12))
        grey = float(rng.choice([rng.uniform(0.9, 1.0), rng.uniform(0.5, 0.85), 0.0], p=[0.72, 0.1, 0.18]))
        k = np.arange(across, dtype=F)
        share = np.clip(edge[None, :] - k[:, None] + F(0.5), 0, 1).astype(F)  # (across, n), at the top
        out.append(((share, share[::-1], share.T, share.T[:, ::-1])[side], grey))
    return out


def collimation_mask(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """1 inside the collimated field, 0 outside, with a soft slightly turned edge, (h, w) float32."""
    angle = rng.normal(0, 0.03)
    x = (np.arange(w, dtype=F) - F(w / 2))[None, :]
    y = (np.arange(h, dtype=F) - F(h / 2))[:, None]
    ca, sa = F(np.cos(angle)), F(np.sin(angle))
    u, v = x * ca + y * sa, y * ca - x * sa
    a, b = w / 2 * rng.uniform(0.78, 0.97), h / 2 * rng.uniform(0.78, 0.97)
    k = F(1 / max(0.004 * max(h, w), 0.7))
    return np.clip((F(a) - np.abs(u)) * k, 0, 1) * np.clip((F(b) - np.abs(v)) * k, 0, 1)
