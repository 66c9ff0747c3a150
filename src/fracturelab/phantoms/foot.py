"""The foot from the side and from the front: tarsals, metatarsals and toes, below the ankle joint."""

from __future__ import annotations

import numpy as np

from fracturelab.phantoms.shapes import Blob, Bone
from fracturelab.phantoms.skeleton import Skeleton, place_of, profile, turn

# lengths of metatarsal and phalanges, half width of the metatarsal
_RAYS = (
    ((6.2, 3.2, 2.4), 0.62),
    ((7.2, 2.6, 1.3, 1.0), 0.38),
    ((6.9, 2.4, 1.1, 0.9), 0.36),
    ((6.7, 2.3, 0.9, 0.9), 0.36),
    ((6.5, 2.1, 0.8, 0.8), 0.4),
)


def _toes(k: Skeleton, p, direction: float, f: int, flat: float) -> np.ndarray:
    """One ray of metatarsal and phalanges from `p`; returns its tip."""
    r, s = k.rng, k.scale
    lengths, half = _RAYS[f]
    for j, base in enumerate(lengths):
        length = k.vary(base, 0.04) * flat
        w = half * (1 - 0.08 * j) * (0.85 if j and f else 1)
        knots = profile((0, 0.12, 0.35, 0.65, 0.85, 0.94, 1), (1.7, 1.45, 0.95, 0.9, 1.25, 1.4, 1.2), times=w)
        name = f"metatarsal {f + 1}" if j == 0 else f"toe {f + 1} phalanx {j}"
        look = {"cortex": 0.42 * w, "plates": (0.1,) if j or f == 0 else (0.9,), "ends": (0.3, 0.7)}
        look |= {"fill": (0.05, 0.3), "metaphysis": 0.3}
        k.long_bone(name, p, direction, length, knots, **look)
        end = p + turn((0, length), direction)
        width = (1.25 if j else 1.5) * (1.25 if f == 0 else 0.95)
        k.flesh(p, end, width, width * 0.9, 0.85)
        p = end + turn((0, 0.1 * s + 0.5 * k.gap), direction)
        direction += r.uniform(-0.1, 0.1) if j else 0.0
    return p


def foot_side(k: Skeleton, ankle: np.ndarray, angle: float) -> np.ndarray:
    """Adds the foot seen from the side, toes towards +x; returns the tip of the toes."""
    s, r = k.scale, k.rng
    at = lambda x, y: np.asarray(ankle) + turn((x * s, y * s), angle)  # noqa: E731
    gap = 0.15 + 0.6 * k.gap / max(s, 0.1)
    o = -np.pi / 2  # blobs below lie along +x
    wavy = lambda: tuple((r.uniform(0, 0.05), r.uniform(0, 6.28)) for _ in range(3))  # noqa: E731
    talus = (
        Blob(2.0 * s, 0.0, 2.1 * s, 1.35 * s, power=2.4, wobble=wavy(), depth=1.7 * s, shell=0.09),
        Blob(3.9 * s, 0.25 * s, 1.2 * s, 0.8 * s, depth=1.0 * s, fill=0.22),
        Blob(4.9 * s, 0.3 * s, 0.9 * s, 1.15 * s, depth=1.2 * s, shell=0.1),
        Blob(0.3 * s, 0.7 * s, 0.9 * s, 0.5 * s, depth=0.8 * s),
    )
    place = at(-1.7, 1.2 + gap)
    k.bones.append(Bone("talus", place_of(place), angle + o + 0.1, 5.6 * s, talus, density=k.density * 0.9))
    place = at(-5.0, 3.7 + gap)
    knots = profile(
        (0, 0.12, 0.3, 0.5, 0.62, 0.8, 1),
        (1.75, 2.15, 1.9, 1.75, 1.75, 1.25, 1.2),
        {0.3: -0.1, 0.5: -0.35, 0.62: -0.4, 0.8: 0.1, 1: 0.2},
    )
    look = {"cortex": 0.14, "metaphysis": 0.1, "fill": (0.2, 0.25), "ends": (0.75, 0.35)}
    k.long_bone("calcaneus", place, angle + o + 0.16, 8.0 * s, knots, density=0.95, plates=(0.1,), **look)
    k.small_bone("navicular", at(4.3, 2.5 + gap), angle + 0.25, 1.35 * s, 0.7 * s, depth=1.4 * s)
    k.small_bone("cuboid", at(4.3, 4.5 + gap), angle + o, 1.5 * s, 1.15 * s, depth=1.2 * s, density=0.8)
    for n in range(3):
        place, look = at(5.9 + 0.15 * n, 3.0 + 0.55 * n + gap), {"depth": 0.8 * s, "density": 0.7}
        k.small_bone(f"cuneiform {n + 1}", place, angle + 0.3, 1.15 * s, 0.85 * s, **look)
    tip = at(9, 5)
    for f in range(5):
        base = at(7.1 - 0.35 * f, 3.2 + 0.55 * f + gap)
        tip_f = _toes(k, base, angle + o + 0.36 - 0.055 * f + r.uniform(-0.03, 0.03), f, 1.0)
        tip = tip_f if f == 1 else tip
    k.flesh(at(-0.6, 0), at(-2.2, 4.0), 3.4, 3.0, 1.0)
    k.flesh(at(-2.2, 4.0), at(4.5, 4.0), 3.0, 3.0, 1.0)
    k.flesh(at(4.5, 3.9), at(12.5, 6.0), 2.9, 1.5, 1.3)
    return tip


def foot_front(k: Skeleton, ankle: np.ndarray, angle: float, *, flat: float) -> np.ndarray:
    """Adds the foot seen from above or in front, foreshortened by `flat`; returns the tip of the toes."""
    s, r = k.scale, k.rng
    side = r.uniform(-0.25, 0.25)
    at = lambda x, y: np.asarray(ankle) + turn((x * s, y * s), angle)  # noqa: E731
    gap = 0.15 + 0.6 * k.gap / max(s, 0.1)
    k.small_bone("talus", at(0.0, 1.25 + gap), angle, 1.2 * s, 1.95 * s, depth=1.6 * s, power=3.0)
    look = {"depth": 2.0 * s, "density": 0.8, "power": 2.5}
    k.small_bone("calcaneus", at(0.5, 2.6 + 1.0 * flat), angle, (1.5 + 1.6 * flat) * s, 1.8 * s, **look)
    k.small_bone("navicular", at(-0.8, 2.3 + 2.2 * flat), angle, 0.8 * s, 1.7 * s, depth=1.2 * s, density=0.9)
    short = 0.4 + 0.6 * flat
    k.small_bone("cuboid", at(1.6, 2.8 + 3.2 * flat), angle, 1.5 * s * short, 1.15 * s, depth=1.2 * s, density=0.9)
    for n in range(3):
        place = at(-1.7 + 1.0 * n, 3.0 + 3.6 * flat)
        k.small_bone(f"cuneiform {n + 1}", place, angle, 1.2 * s * short, 0.7 * s, depth=1.0 * s)
    tip = at(0, 10)
    for f in range(5):
        base = at(-1.9 + 1.0 * f, 3.5 + 4.6 * flat - 0.25 * f)
        tip_f = _toes(k, base, angle + side - (f - 1.2) * 0.075 * r.uniform(0.7, 1.2), f, 0.35 + 0.65 * flat)
        tip = tip_f if f == 1 else tip
    k.flesh(at(0, 0), at(0, 3.0), 3.3, 3.6, 1.5)
    k.flesh(at(0, 3.0), at(0, 6 + 6 * flat), 3.6, 4.1, 0.75)
    return tip
