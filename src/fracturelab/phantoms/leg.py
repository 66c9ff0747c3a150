"""The lower limb: femur, patella, tibia, fibula, tarsals, metatarsals and toes, in front and side views.

Adult averages in cm (femur 44, tibia 37, fibula 36, calcaneus 8). The lateral (fibular) side is +x in the front view;
in the side view the front is +x.
"""

from __future__ import annotations

import numpy as np

from fracturelab.phantoms.shapes import Blob, Bone
from fracturelab.phantoms.skeleton import CHILD, Skeleton, turn


def femur(k: Skeleton, hip: np.ndarray, angle: float, view: str, *, thigh: bool = True) -> np.ndarray:
    """Adds the femur from the hip joint down; returns the knee joint."""
    length = k.vary(43.0)
    # (a, v) runs along the shaft; the head lies at v = -4.4, at the height of the greater trochanter
    if view == "lateral":
        knots = [(0, 1.4), (0.04, 1.9), (0.12, 1.7), (0.3, 1.45), (0.6, 1.4), (0.8, 1.7), (0.92, 2.2, -0.3), (1, 1.6, -0.6)]
        blobs = [(0.8, 0.8, 2.3, 2.3, {"depth": 1.9}), (-2.3, -1.0, 2.5, 3.1, {"depth": 2.2, "shell": 0.07, "tilt": 0.2})]
        axis = 0.0
    else:
        knots = [(0, 1.3, 0.6), (0.04, 1.9, 0.3), (0.1, 2.2), (0.16, 1.75), (0.25, 1.5), (0.5, 1.4), (0.72, 1.5), (0.85, 2.2), (0.93, 3.6), (0.965, 4.0), (1, 3.3)]
        blobs = [
            (0.4, -4.4, 2.35, 2.35, {"depth": 1.9, "shell": 0.06, "fill": 0.3}),
            (2.2, -2.1, 1.75, 2.9, {"depth": 1.35, "shell": 0.12, "tilt": 0.72, "fill": 0.24}),
            (1.7, 1.0, 2.2, 1.25, {"depth": 1.3, "fill": 0.2}),
            (7.4, -1.5, 1.3, 0.75, {"depth": 0.9, "fill": 0.15}),
            (-1.7, -2.0, 2.0, 2.0, {"depth": 2.0, "shell": 0.07}),
            (-1.6, 2.0, 1.9, 1.9, {"depth": 2.0, "shell": 0.07}),
        ]
        axis = 4.4 * k.scale
    origin = np.asarray(hip) + turn((axis, 0), angle)
    k.long_bone(
        "femur", origin, angle, length, knots, cortex=0.6, plates=(0.945,), blobs=blobs, bow=k.rng.uniform(-0.2, 0.5),
        round0=0.6, round1=0.25,
    )  # fmt: skip
    knee = origin + turn((0, length), angle)
    if thigh:
        k.flesh(origin + turn((0, 3 * k.scale), angle), origin + turn((0, length * 0.55), angle), 9.3, 7.6, 0.9)
        k.flesh(origin + turn((0, length * 0.55), angle), knee, 7.6, 5.6, 0.85)
    return knee


def patella(k: Skeleton, knee: np.ndarray, angle: float, view: str) -> None:
    """Adds the kneecap before (side view) or over (front view) the femur."""
    s = k.scale * (0.7 if k.age == CHILD else 1.0)
    if view == "lateral":
        c = np.asarray(knee) + turn((3.6 * k.scale, -2.6 * k.scale), angle)
        k.small_bone("patella", c, angle + 0.1, 2.1 * s, 1.0 * s, depth=1.6 * s, power=2.6)
    else:
        c = np.asarray(knee) + turn((k.rng.uniform(-0.4, 0.4), -3.4 * k.scale), angle)
        k.small_bone("patella", c, angle, 2.1 * s, 2.1 * s, depth=0.8 * s, density=0.7)


def shank(k: Skeleton, knee: np.ndarray, angle: float, view: str) -> np.ndarray:
    """Adds tibia and fibula below the knee; returns the ankle joint (the middle of the tibial plafond)."""
    s = k.scale
    length = k.vary(36.0)
    top = np.asarray(knee) + turn((0, 0.15 * s + 1.6 * k.gap), angle)
    if view == "lateral":
        knots = [(0, 2.4, -0.5), (0.04, 2.5, -0.4), (0.09, 2.3, 0.0), (0.16, 1.7, 0.2), (0.3, 1.4), (0.6, 1.2), (0.85, 1.25), (0.95, 1.75), (1, 1.7)]
        blobs = [(0.35, -0.4, 0.5, 0.5, {"depth": 0.5})]
        out, ankle_out, bend = -1.6, -1.0, 0.4
    else:
        knots = [(0, 3.7), (0.03, 3.8), (0.07, 3.3), (0.15, 2.0), (0.3, 1.45), (0.6, 1.2), (0.82, 1.3), (0.92, 1.8), (0.97, 2.2), (1, 2.0)]
        blobs = [(0.05, -0.45, 0.5, 0.4, {"depth": 0.5}), (0.05, 0.45, 0.45, 0.35, {"depth": 0.5}), (-0.2, -1.75, 1.3, 0.62, {"depth": 0.8})]
        out, ankle_out, bend = 3.2, 2.35, 0.0
    k.long_bone("tibia", top, angle, length, knots, cortex=0.5, plates=(0.05, 0.95), blobs=blobs, bow=bend * k.rng.uniform(-0.5, 1.0),
                round0=0.18, round1=0.2, pair="fibula")  # fmt: skip
    fl = length * 0.985
    drop = np.arctan2((out - ankle_out) * s, fl)
    knots = [(0, 0.7), (0.03, 1.1), (0.07, 0.85), (0.15, 0.58), (0.5, 0.56), (0.8, 0.6), (0.9, 0.8), (0.95, 1.0), (1, 0.75)]
    k.long_bone("fibula", top + turn((out * s, 2.2 * s), angle), angle + drop, fl, knots, cortex=0.3, plates=(0.06, 0.945), round0=0.8,
                round1=1.3, bow=k.rng.uniform(-0.3, 0.25), pair="tibia")  # fmt: skip
    ankle = top + turn((0, length), angle)
    back = -1.4 * s if view == "lateral" else 0.3 * s
    k.flesh(knee, top + turn((back, length * 0.3), angle), 5.5, 5.7, 0.9)
    k.flesh(top + turn((back, length * 0.3), angle), ankle, 5.7, 3.4, 0.85)
    return ankle


def _toes(k: Skeleton, p, direction: float, f: int, flat: float) -> np.ndarray:
    """One ray of metatarsal and phalanges from `p`; returns its tip."""
    r, s = k.rng, k.scale
    lengths = ((6.2, 3.2, 2.4), (7.2, 2.6, 1.3, 1.0), (6.9, 2.4, 1.1, 0.9), (6.7, 2.3, 0.9, 0.9), (6.5, 2.1, 0.8, 0.8))[f]
    half = (0.62, 0.38, 0.36, 0.36, 0.4)[f]
    for j, base in enumerate(lengths):
        length = k.vary(base, 0.04) * flat
        w = half * (1 - 0.08 * j) * (0.85 if j and f else 1)
        knots = [(0, 1.7 * w), (0.12, 1.45 * w), (0.35, 0.95 * w), (0.65, 0.9 * w), (0.85, 1.25 * w), (0.94, 1.4 * w), (1, 1.2 * w)]
        name = f"metatarsal {f + 1}" if j == 0 else f"toe {f + 1} phalanx {j}"
        k.long_bone(name, p, direction, length, knots, cortex=0.42 * w, plates=(0.1,) if j or f == 0 else (0.9,), round0=0.3, round1=0.7,
                    end_fill=0.3, metaphysis=0.3)  # fmt: skip
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
    k.bones.append(Bone("talus", (float(place[0]), float(place[1])), angle + o + 0.1, 5.6 * s, talus, density=k.density * 0.9))
    place = at(-5.0, 3.7 + gap)
    knots = [(0, 1.75), (0.12, 2.15), (0.3, 1.9, -0.1), (0.5, 1.75, -0.35), (0.62, 1.75, -0.4), (0.8, 1.25, 0.1), (1, 1.2, 0.2)]
    k.long_bone("calcaneus", place, angle + o + 0.16, 8.0 * s, knots, cortex=0.14, metaphysis=0.1, fill=0.2, end_fill=0.25, round0=0.75,
                round1=0.35, density=0.95, plates=(0.1,))  # fmt: skip
    k.small_bone("navicular", at(4.3, 2.5 + gap), angle + 0.25, 1.35 * s, 0.7 * s, depth=1.4 * s)
    k.small_bone("cuboid", at(4.3, 4.5 + gap), angle + o, 1.5 * s, 1.15 * s, depth=1.2 * s, density=0.8)
    for n in range(3):
        k.small_bone(f"cuneiform {n + 1}", at(5.9 + 0.15 * n, 3.0 + 0.55 * n + gap), angle + 0.3, 1.15 * s, 0.85 * s, depth=0.8 * s, density=0.7)
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
    k.small_bone("calcaneus", at(0.5, 2.6 + 1.0 * flat), angle, (1.5 + 1.6 * flat) * s, 1.8 * s, depth=2.0 * s, density=0.8, power=2.5)
    k.small_bone("navicular", at(-0.8, 2.3 + 2.2 * flat), angle, 0.8 * s, 1.7 * s, depth=1.2 * s, density=0.9)
    k.small_bone("cuboid", at(1.6, 2.8 + 3.2 * flat), angle, 1.5 * s * (0.4 + 0.6 * flat), 1.15 * s, depth=1.2 * s, density=0.9)
    for n in range(3):
        k.small_bone(f"cuneiform {n + 1}", at(-1.7 + 1.0 * n, 3.0 + 3.6 * flat), angle, 1.2 * s * (0.4 + 0.6 * flat), 0.7 * s, depth=1.0 * s)
    tip = at(0, 10)
    for f in range(5):
        base = at(-1.9 + 1.0 * f, 3.5 + 4.6 * flat - 0.25 * f)
        tip_f = _toes(k, base, angle + side - (f - 1.2) * 0.075 * r.uniform(0.7, 1.2), f, 0.35 + 0.65 * flat)
        tip = tip_f if f == 1 else tip
    k.flesh(at(0, 0), at(0, 3.0), 3.3, 3.6, 1.5)
    k.flesh(at(0, 3.0), at(0, 6 + 6 * flat), 3.6, 4.1, 0.75)
    return tip


def lower_limb(k: Skeleton, *, region: str) -> None:
    """Builds a leg posed for `region` (femur, knee, leg, ankle or foot), the hip joint at the origin."""
    r = k.rng
    side = {"femur": 0.3, "knee": 0.4, "leg": 0.35, "ankle": 0.6, "foot": 0.4}[region]
    view = "lateral" if r.random() < side else "ap"
    bend = r.uniform(0.1, 1.5) if view == "lateral" and region == "knee" else 0.0
    if view == "lateral" and region in ("femur", "leg"):
        bend = r.uniform(0, 0.9)
    knee = femur(k, np.zeros(2), 0.0, view)
    low = bend if view == "lateral" else r.uniform(-0.05, 0.05)
    patella(k, knee, bend * 0.5, view)
    ankle = shank(k, knee, low, view)
    if view == "lateral":
        tip = foot_side(k, ankle, low + r.uniform(-0.15, 0.4))
    else:
        flat = r.uniform(0.75, 1.0) if region == "foot" else r.uniform(0.15, 0.6)
        tip = foot_front(k, ankle, low + r.uniform(-0.15, 0.15), flat=flat)
    s = k.scale
    heel = ankle + turn((-5.0 * s, 6.5 * s), low) if view == "lateral" else ankle + turn((0, 5.0 * s), low)
    at = {
        "femur": [np.zeros(2) + (0, 2.0), knee],
        "knee": [knee - turn((0, 10 * s), 0), knee + turn((0, 10 * s), low)],
        "leg": [knee, ankle],
        "ankle": [ankle - turn((0, 9 * s), low), heel, ankle + 0.5 * (tip - ankle)],
        "foot": [ankle - turn((0, 3 * s), low), heel, tip],
    }[region]
    k.focus.extend(at)
    if view == "ap" and region in ("knee", "femur") and r.random() < 0.35:  # both legs on one plate
        other = np.array([-r.uniform(17, 24) * s, r.uniform(-1.5, 1.5)])
        twin = Skeleton(r, k.age, s, k.density, k.cortex, k.gap, k.plates, k.girth)
        knee2 = femur(twin, np.zeros(2), 0.0, view)
        patella(twin, knee2, 0.0, view)
        shank(twin, knee2, 0.0, view)
        mirror(twin, k, other, float(knee[1] - knee2[1]))


def mirror(source: Skeleton, target: Skeleton, offset: np.ndarray, drop: float = 0.0) -> None:
    """Adds the mirror image (x to -x) of all of `source` to `target`, shifted by `offset` and `drop`; names get "other "."""
    from dataclasses import replace

    shift = np.asarray(offset) + (0.0, drop)
    flip = lambda p: np.array([-p[0], p[1]]) + shift  # noqa: E731
    for bone in source.bones:
        o = flip(bone.origin)
        target.bones.append(
            replace(bone, name="other " + bone.name, origin=(float(o[0]), float(o[1])), angle=-bone.angle, side=-bone.side)
        )
    for p, q, r0, r1, depth in source.soft:
        target.soft.append((flip(p), flip(q), r0, r1, depth))
