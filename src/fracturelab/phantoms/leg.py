"""The lower limb: femur, patella, tibia and fibula, in front and side views; the foot hangs on it.

Adult averages in cm (femur 43, tibia 36, fibula 35). The lateral (fibular) side is +x in the front view;
in the side view the front is +x.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fracturelab.phantoms.foot import foot_front, foot_side
from fracturelab.phantoms.skeleton import CHILD, Skeleton, place_of, profile, turn


def femur(k: Skeleton, hip: np.ndarray, angle: float, view: str) -> np.ndarray:
    """Adds the femur from the hip joint down; returns the knee joint."""
    length = k.vary(43.0)
    # (a, v) runs along the shaft; the head lies at v = -4.4, at the height of the greater trochanter
    if view == "lateral":
        knots = profile(
            (0, 0.04, 0.12, 0.3, 0.6, 0.8, 0.92, 1), (1.4, 1.9, 1.7, 1.45, 1.4, 1.7, 2.2, 1.6), {0.92: -0.3, 1: -0.6}
        )
        blobs = [
            (0.8, 0.8, 2.3, 2.3, {"depth": 1.9}),
            (-2.3, -1.0, 2.5, 3.1, {"depth": 2.2, "shell": 0.07, "tilt": 0.2}),
        ]
        axis = 0.0
    else:
        knots = profile(
            (0, 0.04, 0.1, 0.16, 0.25, 0.5, 0.72, 0.85, 0.93, 0.965, 1),
            (1.3, 1.9, 2.2, 1.75, 1.5, 1.4, 1.5, 2.2, 3.6, 4.0, 3.3),
            {0: 0.6, 0.04: 0.3},
        )
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
    look = {"cortex": 0.6, "plates": (0.945,), "blobs": blobs, "bow": k.rng.uniform(-0.2, 0.5)}
    look["ends"] = (0.6, 0.25)
    k.long_bone("femur", origin, angle, length, knots, **look)
    knee = origin + turn((0, length), angle)
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
        knots = profile(
            (0, 0.04, 0.09, 0.16, 0.3, 0.6, 0.85, 0.95, 1),
            (2.4, 2.5, 2.3, 1.7, 1.4, 1.2, 1.25, 1.75, 1.7),
            {0: -0.5, 0.04: -0.4, 0.09: 0.0, 0.16: 0.2},
        )
        blobs = [(0.35, -0.4, 0.5, 0.5, {"depth": 0.5})]
        out, ankle_out, bend = -1.6, -1.0, 0.4
    else:
        knots = profile(
            (0, 0.03, 0.07, 0.15, 0.3, 0.6, 0.82, 0.92, 0.97, 1), (3.7, 3.8, 3.3, 2.0, 1.45, 1.2, 1.3, 1.8, 2.2, 2.0)
        )
        blobs = [
            (0.05, -0.45, 0.5, 0.4, {"depth": 0.5}),
            (0.05, 0.45, 0.45, 0.35, {"depth": 0.5}),
            (-0.2, -1.75, 1.3, 0.62, {"depth": 0.8}),
        ]
        out, ankle_out, bend = 3.2, 2.35, 0.0
    look = {"cortex": 0.5, "plates": (0.05, 0.95), "blobs": blobs, "bow": bend * k.rng.uniform(-0.5, 1.0)}
    look |= {"ends": (0.18, 0.2), "pair": "fibula"}
    k.long_bone("tibia", top, angle, length, knots, **look)
    fl = length * 0.985
    drop = np.arctan2((out - ankle_out) * s, fl)
    knots = profile((0, 0.03, 0.07, 0.15, 0.5, 0.8, 0.9, 0.95, 1), (0.7, 1.1, 0.85, 0.58, 0.56, 0.6, 0.8, 1.0, 0.75))
    look = {"cortex": 0.3, "plates": (0.06, 0.945), "ends": (0.8, 1.3), "bow": k.rng.uniform(-0.3, 0.25)}
    look["pair"] = "tibia"
    k.long_bone("fibula", top + turn((out * s, 2.2 * s), angle), angle + drop, fl, knots, **look)
    ankle = top + turn((0, length), angle)
    back = -1.4 * s if view == "lateral" else 0.3 * s
    k.flesh(knee, top + turn((back, length * 0.3), angle), 5.5, 5.7, 0.9)
    k.flesh(top + turn((back, length * 0.3), angle), ankle, 5.7, 3.4, 0.85)
    return ankle


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
    tip = ankle
    if region in ("femur", "knee"):
        pass  # the foot lies off the plate
    elif view == "lateral":
        tip = foot_side(k, ankle, low + r.uniform(-0.15, 0.4))
    else:
        flat = r.uniform(0.75, 1.0) if region == "foot" else r.uniform(0.15, 0.6)
        tip = foot_front(k, ankle, low + r.uniform(-0.15, 0.15), flat=flat)
    s = k.scale
    heel = ankle + turn((-5.0 * s, 6.5 * s), low) if view == "lateral" else ankle + turn((0, 5.0 * s), low)
    at = {
        "femur": [np.array([0.0, 2.0]), knee],
        "knee": [knee - turn((0, 10 * s), 0), knee + turn((0, 10 * s), low)],
        "leg": [knee, ankle],
        "ankle": [ankle - turn((0, 9 * s), low), heel, ankle + 0.5 * (tip - ankle)],
        "foot": [ankle - turn((0, 3 * s), low), heel, tip],
    }[region]
    k.focus.extend(at)
    if view == "ap" and region in ("knee", "femur") and r.random() < 0.35:  # both legs on one plate
        other = np.array([-r.uniform(17, 24) * s, r.uniform(-1.5, 1.5)])
        twin = k.twin()
        knee2 = femur(twin, np.zeros(2), 0.0, view)
        patella(twin, knee2, 0.0, view)
        shank(twin, knee2, 0.0, view)
        mirror(twin, k, other, float(knee[1] - knee2[1]))


def mirror(source: Skeleton, target: Skeleton, offset: np.ndarray, drop: float = 0.0) -> None:
    """Adds the mirror image (x to -x) of all of `source` to `target`, shifted; names get "other"."""
    shift = np.asarray(offset) + np.array([0.0, drop])
    flip = lambda p: np.array([-p[0], p[1]]) + shift  # noqa: E731
    for bone in source.bones:
        o = flip(bone.origin)
        name = f"other {bone.name}"
        target.bones.append(replace(bone, name=name, origin=place_of(o), angle=-bone.angle, side=-bone.side))
    for p, q, r0, r1, depth in source.soft:
        target.soft.append((flip(p), flip(q), r0, r1, depth))
