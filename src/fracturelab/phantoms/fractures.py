"""Ten kinds of fracture as geometry on one bone: cut, gap, displacement, angulation, fragments, lesion.

A fracture is drawn in the frame of its bone. Displaced fragments turn about the joints at the far ends of the bone, so
the rest of the limb stays where it was: with and without the fracture, only this bone differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fracturelab.phantoms.shapes import Bone

F = np.float32

FRACTURE_KINDS = (
    "avulsion",
    "comminuted",
    "fracture dislocation",
    "greenstick",
    "hairline",
    "impacted",
    "longitudinal",
    "oblique",
    "pathological",
    "spiral",
)

# share of each kind in the default mix
KIND_WEIGHTS = np.array([0.10, 0.13, 0.06, 0.09, 0.13, 0.09, 0.07, 0.16, 0.07, 0.10])

_AT_ENDS = ("avulsion", "fracture dislocation")
_NEAR_ENDS = ("impacted",)
JAG = 512


@dataclass(frozen=True)
class Fracture:
    """One fracture on one bone; lengths in cm, in the frame of the bone.

    Attributes:
        kind: One of `FRACTURE_KINDS`.
        a: Place along the bone.
        v: Centre of the bone there.
        half: Half width of the bone there.
        slope: Slope of the cut (da/dv).
        gap: Width of the cut.
        bend: Angulation in radians.
        shift: Sideways displacement.
        overlap: Shortening.
        depth: How much of the bone the cut takes away, 0 to 1.
        sense: +1 or -1, the side that breaks or opens.
        reach: Length of a longitudinal cut, or of the lesion.
        jag: (512,) raggedness of the cut.
        chips: Loose fragments as (a, v, half axis, half axis, tilt).
    """

    kind: str
    a: float
    v: float
    half: float
    slope: float
    gap: float
    bend: float
    shift: float
    overlap: float
    depth: float
    sense: int
    reach: float
    jag: np.ndarray
    chips: tuple

    def zone(self) -> tuple[float, float, float, float]:
        """Bounds (a0, a1, v0, v1) in cm within which the fracture may show."""
        h = self.half
        long = 1.5 * h + (1 + abs(self.slope)) * h + abs(self.shift) + self.overlap + 2 * self.gap
        if self.kind in ("longitudinal", "pathological"):
            long = max(self.reach, h) + h
        if self.kind == "fracture dislocation":
            long += abs(self.shift) * 1.2
        wide = 1.7 * h + abs(self.shift) + abs(self.bend) * h
        for _, v, p, q, _ in self.chips:
            wide = max(wide, abs(v - self.v) + max(p, q))
        return self.a - long, self.a + long, self.v - wide, self.v + wide


def _place(rng: np.random.Generator, kind: str, low: float, high: float) -> float:
    """Draws the share of the length at which a fracture of `kind` sits, within [low, high]."""
    t, end = rng.random(), rng.random()
    if kind in _AT_ENDS or kind in _NEAR_ENDS:
        margin = (0.02, 0.045) if kind == "avulsion" else ((0.09, 0.2) if kind in _NEAR_ENDS else (0.08, 0.16))
        near = [low + t * (margin[1] - margin[0]) + margin[0]] if low <= 0.05 else []
        far = [high - t * (margin[1] - margin[0]) - margin[0]] if high >= 0.95 else []
        both = near + far
        return both[int(end * len(both))] if both else low + (high - low) * (0.25 + 0.5 * t)
    pad = 0.08 if kind == "hairline" else 0.18
    lo, hi = max(low, pad), min(high, 1 - pad)
    if hi <= lo:
        lo, hi = low + 0.2 * (high - low), high - 0.2 * (high - low)
    return lo + (hi - lo) * t


def choose_site(rng: np.random.Generator, kind: str, bones: list[Bone], sites: list) -> tuple[int, float]:
    """Choose the bone and the place (in cm along it) for a fracture of `kind`.

    It is drawn for every phantom, fractured or not, so that the place of a view is independent of its label.
    """
    weights = np.array([s[3] * (0.35 if bones[s[0]].name.startswith(("sup", "inf", "isch")) else 1.0) for s in sites])
    i, low, high, _ = sites[int(rng.choice(len(sites), p=weights / weights.sum()))]
    return i, _place(rng, kind, low, high) * bones[i].length


def draw_fracture(
    rng: np.random.Generator, kind: str, bone: Bone, a: float, *, severity: float, pixel: float
) -> Fracture:
    """Draw the geometry of one fracture.

    Args:
        rng: Stream of the fracture.
        kind: One of `FRACTURE_KINDS`.
        bone: The bone.
        a: Place along it in cm.
        severity: 0 subtle to 1 gross (more than 1 when a fracture did not show).
        pixel: Size of a pixel in cm: a line thinner than that cannot be seen, so gaps are measured in it too.

    Returns:
        The fracture.
    """
    r = rng
    v, half = bone.section(a)
    half = max(half, 0.15)
    s = float(severity)
    sense = int(r.choice([-1, 1]))
    u = lambda lo, hi: float(r.uniform(lo, hi))  # noqa: E731
    jag = r.standard_normal(JAG)
    kernel = np.exp(-0.5 * (np.arange(-48, 49) / u(4.0, 16.0)) ** 2)
    jag = np.convolve(np.pad(jag, 48, mode="wrap"), kernel / np.sqrt((kernel**2).sum()), "valid") * half * u(0.05, 0.22)
    line = max(u(0.02, 0.06) + 0.10 * s * half, pixel * u(0.7, 1.0) * (0.8 + 0.7 * s))
    over = max(s - 1.0, 0.0)
    line *= 1 + 0.9 * over
    g = dict.fromkeys(("slope", "bend", "shift", "overlap", "reach"), 0.0)
    g.update(gap=line, depth=min(0.75 + 0.25 * s, 1.0))
    chips = []
    if kind == "hairline":
        g.update(slope=u(-1.1, 1.1), gap=line * 0.9, depth=min(0.4 + 0.45 * s, 0.95))
    elif kind == "oblique":
        g.update(slope=sense * u(0.35, 1.5), bend=sense * u(0, 0.12 + 0.25 * s))
        g.update(shift=half * r.normal(0, 0.15 + 0.75 * s), overlap=half * u(0, 0.5) * s)
    elif kind == "spiral":
        g.update(slope=sense * u(2.0, 3.4), shift=half * r.normal(0, 0.1 + 0.45 * s), bend=u(-0.06, 0.06) * (1 + s))
        g.update(gap=line * 1.2)
    elif kind == "comminuted":
        g.update(slope=u(-0.6, 0.6), shift=half * r.normal(0, 0.1 + 0.5 * s), bend=r.normal(0, 0.08 + 0.1 * s))
        g.update(gap=line * 1.3 + 0.3 * half * s)
        for _ in range(int(r.integers(2, 5 + int(3 * min(s, 1))))):
            p = half * u(0.25, 0.75)
            at = a + half * r.normal(0, 0.9), v + half * r.normal(0, 0.9 + 0.4 * s)
            chips.append((*at, p * u(1.0, 1.8), p * 0.7, u(0, np.pi)))
    elif kind == "greenstick":
        g.update(slope=sense * u(-0.4, 0.4), bend=sense * (u(0.06, 0.14) + 0.3 * s * u(0.5, 1.0)), gap=line * 1.3)
    elif kind == "impacted":
        g.update(slope=u(-0.4, 0.4), bend=u(-0.2, 0.2) * (0.4 + s), overlap=half * (0.25 + u(0.2, 0.7) * (0.4 + s)))
        g.update(shift=half * r.normal(0, 0.1 + 0.15 * s))
    elif kind == "longitudinal":
        g.update(slope=u(-0.14, 0.14), reach=half * u(2.2, 4.5), shift=half * u(-0.35, 0.35), gap=line * 1.1)
        g.update(depth=min(0.6 + 0.4 * s, 1))
    elif kind == "avulsion":
        size = half * (u(0.28, 0.45) + 0.2 * s + 0.25 * over)
        away = line + half * u(0.05, 0.3) * (0.3 + s)
        g.update(reach=size, shift=away)
        edge = v + sense * half * 0.85
        chips.append(
            (a + half * u(-0.3, 0.3) * s, edge + sense * (away + 0.2 * size), size * 1.1, size * 0.75, u(-0.5, 0.5))
        )
    elif kind == "pathological":
        g.update(slope=sense * u(0.1, 0.8), reach=half * u(1.1, 2.2), depth=min(0.5 + 0.3 * s + u(0, 0.15), 0.92))
        g.update(bend=u(-0.15, 0.15) * s, shift=half * r.normal(0, 0.2) * s)
    else:  # fracture dislocation: the end beyond the cut leaves its joint
        g.update(slope=u(-0.6, 0.6), shift=sense * half * (0.55 + u(0.3, 1.0) * (0.4 + s)))
        g.update(bend=u(-0.25, 0.25) * (0.5 + s), overlap=half * u(0, 0.4) * s)
        at = a + half * u(-0.5, 0.5), v - sense * half * u(0.7, 1.3)
        chips.append((*at, half * u(0.2, 0.4), half * u(0.15, 0.3), u(0, np.pi)))
    place = {"a": float(a), "v": float(v), "half": float(half)}
    return Fracture(kind=kind, sense=sense, jag=jag.astype(F), chips=tuple(chips), **place, **g)
