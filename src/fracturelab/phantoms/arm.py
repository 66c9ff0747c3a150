"""The upper limb: humerus, radius, ulna, carpals, metacarpals and phalanges, in front, oblique and side views.

Lengths and widths follow textbook averages of adult bones in cm (humerus 30, ulna 26, radius 24, third metacarpal 6.5).
The lateral (thumb) side is +x before the view is turned.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fracturelab.phantoms.skeleton import CHILD, Skeleton, profile, turn

# name, x (radial +), y from the wrist, half axes along x and y, tilt
_CARPALS = (
    ("scaphoid", 1.12, 0.85, 0.62, 1.08, -0.55),
    ("lunate", 0.05, 0.62, 0.72, 0.66, 0.0),
    ("triquetrum", -1.05, 0.95, 0.60, 0.72, 0.5),
    ("pisiform", -1.35, 1.20, 0.42, 0.48, 0.0),
    ("trapezium", 1.80, 1.95, 0.70, 0.72, -0.4),
    ("trapezoid", 0.95, 2.10, 0.52, 0.62, -0.2),
    ("capitate", 0.18, 1.75, 0.62, 1.05, 0.05),
    ("hamate", -0.80, 1.95, 0.72, 0.82, 0.2),
)
# base x, base y, direction, lengths of metacarpal and phalanges, half width of the metacarpal
_RAYS = (
    (1.95, 2.45, -0.62, (4.5, 3.1, 2.3), 0.46),
    (0.95, 2.85, -0.11, (6.6, 4.0, 2.4, 1.8), 0.41),
    (0.18, 2.95, 0.0, (6.3, 4.4, 2.8, 1.9), 0.42),
    (-0.58, 2.85, 0.09, (5.6, 4.1, 2.7, 1.9), 0.36),
    (-1.25, 2.65, 0.20, (5.2, 3.3, 1.9, 1.7), 0.37),
)


def humerus(k: Skeleton, shoulder: np.ndarray, angle: float, view: str) -> np.ndarray:
    """Adds the humerus from the shoulder joint down; returns the place of the elbow joint."""
    length = k.vary(30.0)
    lateral = view == "lateral"
    if lateral:
        knots = profile(
            (0, 0.05, 0.13, 0.25, 0.5, 0.75, 0.9, 1), (1.5, 2.0, 1.6, 1.15, 1.05, 1.0, 0.95, 0.8), {0.9: 0.1, 1: 0.4}
        )
        blobs = [(1.9, -0.3, 2.1, 2.0, {"depth": 1.6}), (-0.9, 0.55, 1.05, 1.05, {"depth": 1.6, "shell": 0.2})]
    else:
        knots = profile(
            (0, 0.05, 0.12, 0.25, 0.5, 0.72, 0.85, 0.93, 0.97, 1), (1.5, 2.2, 1.75, 1.2, 1.08, 1.1, 1.6, 2.6, 2.9, 2.1)
        )
        blobs = [
            (2.0, -0.9, 2.1, 2.0, {"depth": 1.7}),
            (2.1, 1.3, 1.9, 1.0, {"depth": 1.3, "fill": 0.2}),
            (-0.75, -0.9, 0.85, 1.25, {"depth": 1.0, "shell": 0.2}),
            (-0.7, 1.0, 0.8, 0.95, {"depth": 0.9, "shell": 0.2}),
        ]
    look = {"cortex": 0.42, "plates": (0.07, 0.955), "blobs": blobs, "bow": k.rng.uniform(-0.3, 0.3)}
    look["ends"] = (0.9, 0.35)
    k.long_bone("humerus", shoulder, angle, length, knots, **look)
    # the joint turns about the trochlea, which the side view shows as a disc before the shaft
    elbow = np.asarray(shoulder) + turn((0.45 * k.scale, length - 0.9 * k.scale) if lateral else (0, length), angle)
    k.flesh(np.asarray(shoulder) + turn((0, 0.5), angle), elbow - turn((0, length * 0.55), angle), 5.2, 4.6)
    k.flesh(elbow - turn((0, length * 0.55), angle), elbow, 4.6, 3.7)
    return elbow


def forearm(k: Skeleton, elbow: np.ndarray, angle: float, view: str) -> np.ndarray:
    """Adds radius and ulna below the elbow joint; returns the place of the wrist joint."""
    length = k.vary(24.0)
    s = k.scale
    lateral = view == "lateral"
    wide = 0.25 if lateral else (0.6 if view == "oblique" else 1.0)
    top = np.asarray(elbow) + turn((0, (1.15 if lateral else 0.15) * s + k.gap), angle)
    knots = profile(
        (0, 0.025, 0.05, 0.12, 0.2, 0.5, 0.75, 0.88, 0.96, 1),
        (1.0, 1.05, 0.72, 0.85, 0.66, 0.66, 0.7, 0.95, 1.45, 1.35),
    )
    if lateral:
        knots = [(u, r * (0.75 if u > 0.85 else 0.95), 0.0) for u, r, _ in knots]
    splay = (1.25 * wide - 1.05 * wide) * s / length
    look = {"cortex": 0.27, "plates": (0.05, 0.945), "bow": (0.75 * wide + 0.1) * k.rng.uniform(0.5, 1.4)}
    look |= {"ends": (0.25, 0.3), "pair": "ulna"}
    look |= {"blobs": [] if lateral else [(-0.1, 0.85, 0.6, 0.45, {"depth": 0.5})]}
    k.long_bone("radius", top + turn((1.15 * wide * s, 0), angle), angle + splay, length, knots, **look)
    up = (2.7 if lateral else 1.5) * s
    ulna_length = length - 0.3 * s + up
    knots = profile(
        (0, 0.03, 0.09, 0.16, 0.25, 0.5, 0.8, 0.93, 0.97, 1), (0.8, 1.2, 1.15, 0.95, 0.72, 0.64, 0.5, 0.55, 0.72, 0.6)
    )
    blobs = [(-0.15, -0.45, 0.5, 0.22, {"depth": 0.3})]
    offset = -1.15 * wide
    if lateral:
        knots = profile(
            (0, 0.03, 0.07, 0.1, 0.125, 0.16, 0.25, 0.5, 0.8, 0.93, 0.97, 1),
            (0.75, 1.0, 0.7, 0.75, 1.2, 1.05, 0.78, 0.64, 0.5, 0.55, 0.7, 0.6),
            {0: -0.9, 0.03: -1.0, 0.07: -1.25, 0.1: -1.1, 0.125: -0.45, 0.16: -0.25},
        )
        blobs = []
        offset = -0.45
    look = {"cortex": 0.27, "plates": (0.965,), "blobs": blobs, "bow": -0.2 * wide * k.rng.uniform(-0.6, 1.4)}
    look |= {"ends": (0.7, 0.5), "pair": "radius"}
    k.long_bone("ulna", top + turn((offset * s, -up), angle), angle, ulna_length, knots, **look)
    wrist = top + turn((0, length + 0.12 * s + k.gap), angle)
    bulk = 0.85 if lateral else 1.0
    k.flesh(elbow, elbow + turn((0, length * 0.3), angle), 3.9 * bulk, 4.1 * bulk, 0.8)
    k.flesh(elbow + turn((0, length * 0.3), angle), wrist, 4.1 * bulk, 2.6 * bulk, 0.75)
    return wrist


def hand(k: Skeleton, wrist: np.ndarray, angle: float, view: str) -> np.ndarray:
    """Adds carpals, metacarpals and phalanges; returns the tip of the middle finger."""
    r, s = k.rng, k.scale
    flat = {"ap": 1.0, "oblique": 0.68, "lateral": 0.2}[view]
    wrist = np.asarray(wrist)
    grown = 1.0 if k.age != CHILD else r.uniform(0.55, 0.85)
    for name, x, y, rx, ry, tilt in _CARPALS:
        c = wrist + turn((x * flat * s, y * s), angle)
        look: dict[str, Any] = {"depth": 0.75 * s * grown, "shell": 0.13, "fill": 0.26, "density": 0.85}
        k.small_bone(name, c, angle + tilt * flat, ry * s * grown, rx * s * (0.45 + 0.55 * flat) * grown, **look)
    spread = r.uniform(0.6, 1.9) * flat
    curl = r.uniform(0.0, 0.25) if view == "ap" else r.uniform(0.05, 0.5)
    fan = r.uniform(-0.1, 0.3) if view == "lateral" else 0.0
    tip = wrist
    for f, (x, y, bend, lengths, half) in enumerate(_RAYS):
        thumb = f == 0
        direction = angle + bend * (spread if not thumb else (0.5 + 0.5 * flat) * r.uniform(0.7, 1.3))
        p = wrist + turn((x * flat * s, y * s), angle)
        start = p
        for j, base in enumerate(lengths):
            length = k.vary(base, 0.04) * (1 if j == 0 else 1 - 0.35 * curl * r.random())
            w = half * (1 - 0.12 * j) * (1.1 if thumb else 1)
            last = j == len(lengths) - 1
            knots = profile((0, 0.1, 0.3, 0.6, 0.82, 0.93, 1), (1.7, 1.55, 1.0, 0.92, 1.2, 1.5, 1.3), times=w)
            if last:
                knots = profile((0, 0.12, 0.4, 0.75, 0.9, 1), (1.5, 1.25, 0.75, 0.62, 0.85, 0.7), times=w)
            name = f"{('proximal', 'middle', 'distal')[2 if last else j - 1]} phalanx {f + 1}"
            name = name if j else f"metacarpal {f + 1}"
            at = (0.1,) if j or thumb else (0.9,)
            look = {"cortex": 0.42 * w, "ends": (0.35, 0.75), "fill": (0.05, 0.3), "metaphysis": 0.3}
            k.long_bone(name, p, direction, length, knots, plates=at, density=1.0, **look)
            end = p + turn((0, length), direction)
            width = (1.05 if j else 1.3) * (1 - 0.07 * j) * (1.1 if thumb else 1)
            k.flesh(p, end, width, width * 0.92, 0.85)
            p = end + turn((0, (0.1 * s + 0.6 * k.gap)), direction)
            step = curl * r.uniform(0.1, 1.0) * (1 if view == "lateral" else 0.35)
            direction += fan * (f - 2) * 0.35 * (j == 0) + step * (1 if view == "lateral" else r.choice([-1, 1]) * 0.5)
        if f == 2:
            tip = p
        end = start + turn((0, lengths[0] * s * 0.9), angle + bend * spread)
        k.flesh(start, end, 1.7 * (0.7 + 0.3 * flat), 1.5, 0.8)
    k.flesh(wrist, wrist + turn((0, 4.2 * s), angle), 2.6 * (0.75 + 0.25 * flat), 3.0 * (0.6 + 0.4 * flat), 0.65)
    return tip


def upper_limb(k: Skeleton, *, region: str) -> None:
    """Builds an arm posed for `region` (hand, forearm, elbow or humerus), the shoulder joint at the origin."""
    r = k.rng
    views = {
        "hand": (["ap", "oblique", "lateral"], [0.5, 0.25, 0.25]),
        "forearm": (["ap", "oblique", "lateral"], [0.45, 0.15, 0.4]),
        "elbow": (["ap", "lateral"], [0.4, 0.6]),
        "humerus": (["ap", "lateral"], [0.7, 0.3]),
    }[region]
    view = str(r.choice(views[0], p=views[1]))
    bend = r.uniform(0.5, 1.75) if view == "lateral" and region in ("elbow", "humerus") else r.uniform(-0.12, 0.12)
    if region == "hand" or (region == "forearm" and view != "lateral"):
        bend = r.uniform(-0.1, 0.1)
    elif region == "forearm":
        bend = r.choice([r.uniform(-0.1, 0.2), r.uniform(0.8, 1.7)], p=[0.6, 0.4])
    # the humerus is seen from the side when the elbow is bent in the plane
    upper_view = "lateral" if abs(bend) > 0.4 or view == "lateral" else "ap"
    elbow = humerus(k, np.zeros(2), 0.0, upper_view)
    low = -bend
    wrist = forearm(k, elbow, low, view)
    cock = r.uniform(-0.2, 0.2)
    tip = hand(k, wrist, low + cock, view) if region != "humerus" else wrist
    at = {
        "hand": [wrist - turn((0, 3.5 * k.scale), low), tip],
        "forearm": [elbow, wrist + (tip - wrist) * r.uniform(0.15, 1.0)],
        "elbow": [elbow - turn((0, 9 * k.scale), 0), elbow + turn((0, 9 * k.scale), low)],
        "humerus": [np.zeros(2), elbow],
    }[region]
    k.focus.extend(at)
