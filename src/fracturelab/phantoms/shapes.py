"""Bones as shapes: tubes with cortex and marrow, and star-shaped blobs, turned into thickness maps.

Everything is in centimetres in the frame of one bone: `a` runs along it from its proximal end, `v` across it. A map
holds the thickness of cortical bone along the beam (cancellous bone counts by its share), which is what attenuates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import cos, sin
from typing import NamedTuple

import numpy as np

F = np.float32
SAMPLES = 384
_U = np.linspace(0.0, 1.0, SAMPLES)
_V = 1 - _U
_BOW = _U * _V
_KERNEL = np.hanning(23)[1:-1]
_KERNEL /= _KERNEL.sum()
_ANGLES = np.arange(SAMPLES) * (2 * np.pi / SAMPLES)


class TubeTables(NamedTuple):
    """A tube sampled evenly along its length: outer and inner half width, centre line, cancellous share, depth."""

    radius: np.ndarray
    core: np.ndarray
    mid: np.ndarray
    fill: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class Tube:
    """A hollow bone along `a`, given by knots; its tables are made when it is first drawn.

    Attributes:
        length: Length in cm.
        knots: (u, half width, offset) with u from 0 to 1, the rest in cm.
        cortex: Wall thickness of the shaft and of the ends in cm.
        metaphysis: Share of the length over which the wall thins and cancellous bone takes over.
        fill: Cancellous share in the shaft and at the ends.
        ends: Rounding of the first and of the second end, in half widths.
        bow: Sideways bow in the middle, in cm.
    """

    length: float
    knots: tuple
    cortex: tuple[float, float]
    metaphysis: float = 0.22
    fill: tuple[float, float] = (0.05, 0.24)
    ends: tuple[float, float] = (0.5, 0.5)
    bow: float = 0.0

    def extent(self) -> tuple[float, float, float, float]:
        """Bounds (a0, a1, v0, v1) in cm."""
        low = min(k[2] - k[1] for k in self.knots) + min(self.bow, 0.0)
        high = max(k[2] + k[1] for k in self.knots) + max(self.bow, 0.0)
        return 0.0, self.length, 1.08 * low - 0.02, 1.08 * high + 0.02

    def at(self, u: float) -> tuple[float, float]:
        """Centre and half width at the share `u` of the length, in cm."""
        us = [k[0] for k in self.knots]
        r = float(np.interp(u, us, [k[1] for k in self.knots]))
        return float(np.interp(u, us, [k[2] for k in self.knots])) + 4 * self.bow * u * (1 - u), r

    @cached_property
    def tables(self) -> TubeTables:
        """The sampled tube."""
        us, rs, ms = zip(*self.knots, strict=True)
        r = _smooth(np.interp(_U, us, rs))
        mid = _smooth(np.interp(_U, us, ms)) + (4 * self.bow) * _BOW
        (of_shaft, of_ends), bell = self.cortex, _bell(self.metaphysis)
        wall = of_ends + (of_shaft - of_ends) * bell
        share = self.fill[1] + (self.fill[0] - self.fill[1]) * bell
        e0, e1 = max(self.ends[0] * r[0], 1e-3), max(self.ends[1] * r[-1], 1e-3)
        d0, d1 = _U * self.length, _V * self.length
        shaft = float(r[SAMPLES // 2])
        depth = np.minimum(shaft / np.maximum(r, 1e-3), 1) ** 0.35
        core = np.maximum(r - wall, 0) * _cap(d0 - of_ends, d1 - of_ends, e0, e1)
        grade = np.empty_like(mid)
        grade[1:-1] = (mid[2:] - mid[:-2]) * ((SAMPLES - 1) / (2 * self.length))
        grade[0], grade[-1] = grade[1], grade[-2]
        slope = np.sqrt(1 + grade * grade)
        r = r * _cap(d0, d1, e0, e1) * slope
        return TubeTables(*(z.astype(F) for z in (r, core * slope, mid, share, depth / slope)))


def _smooth(z: np.ndarray) -> np.ndarray:
    z = np.concatenate([np.full(10, z[0]), z, np.full(10, z[-1])])
    return np.convolve(z, _KERNEL, "valid")


@lru_cache(maxsize=16)
def _bell(metaphysis: float) -> np.ndarray:
    bell = np.clip(np.minimum(_U, _V) / metaphysis, 0, 1)
    return bell * bell * (3 - 2 * bell)


def _cap(d0: np.ndarray, d1: np.ndarray, e0: float, e1: float) -> np.ndarray:
    """Rounding of both ends: distances to the ends, and the lengths over which they round, in cm."""
    t0 = 1 - np.clip(d0 / e0, 0, 1)
    t1 = 1 - np.clip(d1 / e1, 0, 1)
    return np.sqrt((1 - t0 * t0) * (1 - t1 * t1))


@dataclass(frozen=True)
class Blob:
    """A star-shaped bone around (a, v): outline as radius over angle, thin shell, cancellous inside.

    Attributes:
        a: Centre along the bone in cm.
        v: Centre across the bone.
        ra: Half axis along.
        rv: Half axis across.
        tilt: Rotation in radians.
        power: 2 for an ellipse, 4 for a rounded box.
        wobble: (amplitude, phase) of the 2nd, 3rd, ... harmonic of the outline.
        depth: Half thickness along the beam in cm; the smaller half axis when None.
        shell: Share of the radius that is cortex.
        fill: Cancellous share inside.
        flat: Nearly constant thickness with a denser rim (ilium, scapula).
    """

    a: float
    v: float
    ra: float
    rv: float
    tilt: float = 0.0
    power: float = 2.0
    wobble: tuple = ()
    depth: float | None = None
    shell: float = 0.12
    fill: float = 0.25
    flat: bool = False

    def extent(self) -> tuple[float, float, float, float]:
        """Bounds (a0, a1, v0, v1) in cm."""
        r = max(self.ra, self.rv) * (1 + sum(abs(w[0]) for w in self.wobble))
        r *= 2 ** max(0.5 - 1 / self.power, 0)
        return self.a - r, self.a + r, self.v - r, self.v + r

    @cached_property
    def outline(self) -> np.ndarray:
        """Radius in cm over the angle from `a` towards `v`, sampled evenly."""
        c = np.abs(np.cos(_ANGLES - self.tilt)) / self.ra
        s = np.abs(np.sin(_ANGLES - self.tilt)) / self.rv
        if self.power == 2:
            r = 1 / np.sqrt(c * c + s * s)
        else:
            r = (c**self.power + s**self.power) ** (-1.0 / self.power)
        for n, (amplitude, phase) in enumerate(self.wobble, start=2):
            r = r * (1 + amplitude * np.cos(n * _ANGLES - phase))
        return r.astype(F)


@dataclass(frozen=True)
class Bone:
    """One bone: parts in its own frame, and where that frame lies in the plane of the limb.

    Attributes:
        name: Anatomical name, as in "radius" or "metacarpal 2".
        origin: Place of a = v = 0 in the plane of the limb, in cm.
        angle: Direction of `a`, in radians from +y (down) towards -x.
        length: Length along `a` in cm.
        parts: Tubes and blobs, merged by their maximum.
        density: Factor on the whole bone.
        plates: Growth plates as (a, width, tilt), lucent lines across the bone, in cm.
        side: +1 or -1: the sense of `v` (a mirrored bone).
        pair: Name of the bone that lies beside it and often breaks with it.
    """

    name: str
    origin: tuple[float, float]
    angle: float
    length: float
    parts: tuple
    density: float = 1.0
    plates: tuple = ()
    side: int = 1
    pair: str | None = None

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors of `a` and `v` in the plane of the limb."""
        c, s = cos(self.angle), sin(self.angle)
        return np.array([-s, c]), np.array([c * self.side, s * self.side])

    def point(self, a: float, v: float = 0.0) -> np.ndarray:
        """Place of (a, v) in the plane of the limb, in cm."""
        along, across = self.axes()
        return np.asarray(self.origin) + a * along + v * across

    @cached_property
    def bounds(self) -> tuple[float, float, float, float]:
        """Bounds (a0, a1, v0, v1) of all parts, in cm."""
        a0, a1, v0, v1 = zip(*(p.extent() for p in self.parts), strict=True)
        return min(a0), max(a1), min(v0), max(v1)

    def section(self, a: float) -> tuple[float, float]:
        """Centre and half width of the bone at `a`, in cm."""
        for part in self.parts:
            if isinstance(part, Tube):
                return part.at(min(max(a / part.length, 0.02), 0.98))
        _, _, v0, v1 = self.bounds
        return (v0 + v1) / 2, (v1 - v0) / 2


def _tube_map(p: Tube, a: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    t = p.tables
    u = a * F((SAMPLES - 1) / p.length)
    inside = (u > 0) & (u < SAMPLES - 1)
    i = np.clip(u, 0, SAMPLES - 1).astype(np.intp)
    off = np.square(v - t.mid[i])
    outer = np.sqrt(np.maximum(np.square(t.radius[i]) - off, 0))
    inner = np.sqrt(np.maximum(np.square(t.core[i]) - off, 0))
    outer -= inner
    outer += inner * t.fill[i] * (1 + F(0.2) * grain)
    outer *= t.depth[i] * F(2) * inside
    return outer


def _blob_map(p: Blob, a: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    x, y = a - F(p.a), v - F(p.v)
    rho = x * x + y * y
    depth = F(2 * (p.depth if p.depth is not None else min(p.ra, p.rv)))
    if p.power == 2 and not p.wobble and not p.flat:  # an ellipse needs no angle
        c, s = F(cos(p.tilt)), F(sin(p.tilt))
        q = np.square((x * c + y * s) * F(1 / p.ra)) + np.square((y * c - x * s) * F(1 / p.rv))
    else:
        i = np.arctan2(y, x) * F(SAMPLES / (2 * np.pi)) + F(SAMPLES + 0.5)
        r = p.outline[i.astype(np.intp) % SAMPLES]
        if p.flat:
            d = np.maximum(r - np.sqrt(rho), 0) * F(1 / max(p.shell * float(p.outline.mean()), 1e-3))
            t = np.minimum(d, 1)
            return depth * (F(p.fill) * t * (1 + F(0.2) * grain) + F(0.5) * t * np.exp(-np.square(d - 1) * 2))
        q = rho / (r * r)
    k = F(1 - p.shell)
    outer = np.sqrt(np.maximum(1 - q, 0))
    inner = k * np.sqrt(np.maximum(1 - q * (1 / (k * k)), 0))
    outer -= inner
    outer += inner * (F(p.fill) * (1 + F(0.2) * grain))
    outer *= depth
    return outer


def thickness(bone: Bone, a: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """Thickness of a bone along the beam in cm of cortical bone.

    Args:
        bone: The bone.
        a: (h, w) float32 coordinates along the bone in cm.
        v: (h, w) float32 coordinates across it in cm.
        grain: (h, w) float32 texture of unit variance.

    Returns:
        (h, w) float32.
    """
    out: np.ndarray = np.zeros((), F)
    for n, part in enumerate(bone.parts):
        m = _tube_map(part, a, v, grain) if isinstance(part, Tube) else _blob_map(part, a, v, grain)
        out = m if n == 0 else np.maximum(out, m, out=out)
    for at, width, tilt in bone.plates:
        d = (a - F(at) - F(tilt) * v) * F(1 / width)
        out *= 1 - F(0.8) * np.exp(-(d * d))
    if bone.density != 1.0:
        out *= F(bone.density)
    return out
