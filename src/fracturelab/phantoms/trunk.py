"""Shoulder girdle with ribs and spine, and the pelvis with both hips.

Front views only. The shoulder joint, or the middle of the pelvis, is at the origin; medial is -x at the shoulder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fracturelab.phantoms.arm import forearm, hand, humerus
from fracturelab.phantoms.leg import femur, mirror
from fracturelab.phantoms.skeleton import Skeleton, profile, turn


def spine(k: Skeleton, x: float, y0: float, y1: float, *, step: float = 2.6, half: float = 1.9) -> None:
    """Adds a column of vertebrae between two heights, the lower ones larger."""
    s = k.scale
    y, n = y0, 0
    while y < y1:
        g = half * (1 + 0.012 * n)
        look = {"power": 4.5, "depth": 1.3 * s, "shell": 0.1, "fill": 0.22, "density": 0.75, "wobble": 0.03}
        k.small_bone(f"vertebra {n}", (x, y), 0.0, step * 0.42 * s, g * s, **look)
        k.small_bone(f"spinous process {n}", (x, y + 0.9 * s), 0.0, 0.9 * s, 0.33 * s, depth=1.0 * s, density=0.55)
        for q in (-1, 1):
            at = x + q * 0.62 * g * s, y - 0.2 * s
            k.small_bone(f"pedicle {n}", at, 0.0, 0.55 * s, 0.33 * s, depth=0.8 * s, density=0.4)
        y += step * s
        n += 1


def ribs(k: Skeleton, x: float, y0: float) -> None:
    """Adds ribs on both sides of a spine at `x`, the first at `y0`."""
    s = k.scale
    for n in range(10):
        reach = (5.0 + 7.5 * np.sin(min(n / 7.0, 1) * np.pi / 2)) * s
        y = y0 + 2.35 * n * s
        for q in (-1, 1):
            half = 0.5 * (1 - 0.25 * (n == 0))
            for back in (True, False):
                drop = (1.2 + 0.45 * n) * s if back else (2.2 + 0.3 * n) * s
                front = x + q * reach * 0.35, y + drop + (5.2 + 0.55 * n) * s
                start = np.array((x + q * 1.2 * s, y) if back else front)
                end = np.array([x + q * reach, y + drop + 1.5 * s])
                d = end - start
                length = float(np.hypot(*d))
                angle = float(np.arctan2(-d[0], d[1]))
                # v of this frame points at (cos, sin): bow upwards for the back arch, downwards in front
                across = np.array([np.cos(angle), np.sin(angle)])
                sign = -np.sign(across[1]) if back else np.sign(across[1] + 1e-9)
                bow = sign * length * (0.2 if back else 0.16) / s
                look = {"cortex": 0.12, "fill": (0.12, 0.12), "ends": (0.6, 0.6), "bow": bow}
                look["density"] = 0.8 if back else 0.55
                name, knots = f"{'rib' if back else 'front rib'} {n + 1}", [(0, half), (1, half * 0.95)]
                k.long_bone(name, start, angle, length, knots, **look)


def shoulder(k: Skeleton, *, whole_arm: bool = False) -> None:
    """Builds a shoulder with clavicle, scapula, humerus, ribs and spine; the view holds the arm or the joint."""
    r, s = k.rng, k.scale
    lift = -r.choice([r.uniform(0.0, 0.35), r.uniform(0.35, 1.5)], p=[0.65, 0.35])
    joint = np.array([0.35 * s + k.gap, 0.0])
    # the head lies at (2, -0.9) of the humerus frame
    top = joint - turn((-0.6 * s, 1.8 * s), lift)
    elbow = humerus(k, top, lift, "ap")
    low = lift + r.uniform(-0.3, 0.6) * r.choice([0.3, 1.0])
    wrist = forearm(k, elbow, low, "oblique")
    if whole_arm:
        hand(k, wrist, low, "oblique")
    mid = -r.uniform(14.5, 17.0) * s
    look = {"depth": 0.22 * s, "flat": True, "fill": 0.55, "shell": 0.16, "wobble": 0.0, "power": 1.7}
    k.small_bone("scapula", (-5.3 * s, 4.6 * s), 0.12, 7.4 * s, 3.6 * s, **look)
    edge = [(0, 0.45), (1, 0.35)]
    p, q = np.array([-2.6, 2.6]) * s, np.array([-6.3, 11.3]) * s
    k.bar("scapula border", p, q - p, edge, cortex=0.2, density=0.7)
    k.small_bone("glenoid", (-2.2 * s, 0.6 * s), 0.1, 2.0 * s, 0.75 * s, depth=0.9 * s, density=0.8)
    p, q = np.array([-8.5, 1.6]) * s, np.array([-1.2, -2.4]) * s
    k.bar("scapular spine", p, q - p, [(0, 0.35), (0.7, 0.5), (1, 0.8)], cortex=0.15, density=0.6)
    p, q = np.array([-1.6, -2.6]) * s, np.array([1.4, -2.7]) * s
    k.bar("acromion", p, q - p, [(0, 0.75), (1, 0.85)], cortex=0.15, density=0.65)
    k.small_bone("coracoid", (-2.6 * s, -0.9 * s), 0.9, 1.5 * s, 0.6 * s, depth=0.7 * s, density=0.7)
    p = np.array([-0.9 * s - k.gap, -2.9 * s])
    q = np.array([mid + 1.8 * s, (r.uniform(-2.5, 0.5)) * s])
    wave = r.uniform(0.4, 0.9)
    places, widths = (0, 0.1, 0.3, 0.5, 0.75, 0.92, 1), (0.75, 0.62, 0.55, 0.55, 0.6, 0.8, 1.0)
    offsets = [share * wave for share in (0, -0.5, -0.7, 0, 0.8, 0.6, 0.4)]
    knots = profile(places, widths, dict(zip(places, offsets, strict=True)))
    k.bar("clavicle", p, q - p, knots, cortex=0.25, ends=(0.5, 0.5))
    spine(k, mid, -11 * s, 34 * s)
    ribs(k, mid, -3.0 * s + r.uniform(-1, 1))
    if r.random() < 0.5:
        look = {"depth": 2.0 * s, "shell": 0.25, "fill": 0.1}
        k.small_bone("mandible", (mid + 2 * s, -12.5 * s), r.uniform(0.8, 1.5), 5.5 * s, 2.4 * s, **look)
        k.small_bone("skull", (mid, -19 * s), 0.0, 8.5 * s, 7.2 * s, depth=2.0 * s, shell=0.1, fill=0.12)
    # soft tissue: neck, chest, abdomen; lungs are air
    wide = 11.0
    k.flesh((mid, -20 * s), (mid, -6 * s), 6.3, 7.0, 1.0)
    for sign in (-1, 1):
        k.flesh((mid + sign * 6 * s, 6 * s), (mid + sign * 7 * s, 22 * s), 9.0, wide * 0.9, 1.05)
    k.flesh((mid, 26 * s), (mid, 60 * s), 15.5, 15.5, 0.85)
    k.flesh((mid, -4 * s), (-3 * s, -0.5 * s), 5.5, 5.2, 1.2)
    k.flesh((-5 * s, 3 * s), (-4.5 * s, 14 * s), 5.0, 4.0, 1.3)
    for sign in (-1, 1):
        p, q = np.array([mid + sign * 6.2 * s, 2.5 * s]), np.array([mid + sign * 7.3 * s, 17.5 * s])
        k.air.append((p, q, 3.6 * s, 5.6 * s, 1.25))
    if whole_arm:
        k.focus.extend([np.array([-4.0, -4.0]) * s, elbow])
        return
    k.focus.extend([np.array([1.0, -4.0]) * s, np.array([-8.0, 10.0]) * s, np.array([3.0, 12.0]) * s])


def pelvis(k: Skeleton) -> None:
    """Builds a pelvis with sacrum, lumbar spine and both proximal femurs, the middle of the hips at the origin."""
    r, s = k.rng, k.scale
    half_width = 9.0 * s
    half = k.twin()

    def bar(name, x0, y0, x1, y1, knots, **options):
        half.bar(name, np.array([x0, y0]) * s, np.array([x1 - x0, y1 - y0]) * s, knots, **options)

    look: dict[str, Any] = {"depth": 0.42 * s, "flat": True, "fill": 0.5, "shell": 0.13, "wobble": 0.12, "power": 2.2}
    half.small_bone("ilium", (9.0 * s, -6.6 * s), -0.45, 7.6 * s, 5.2 * s, **look)
    bar("iliac crest", 3.6, -8.8, 13.6, -10.2, [(0, 0.5), (0.5, 0.6), (1, 0.5)], bow=2.1, cortex=0.2, density=0.7)
    bar("pelvic brim", 4.4, -6.0, 6.0, 1.8, [(0, 0.45), (1, 0.6)], bow=-1.0, cortex=0.25, density=0.8)
    look = {"cortex": 0.2, "fill": (0.2, 0.2), "density": 0.75}
    bar("ilium column", 5.5, -4.5, 9.0, 0.5, [(0, 1.3), (0.5, 1.7), (1, 2.6)], **look)
    look = {"cortex": 0.25, "fill": (0.05, 0.22), "density": 0.85}
    bar("superior pubic ramus", 7.6, 1.9, 1.0, 4.6, [(0, 1.7), (0.3, 0.95), (0.7, 0.85), (1, 1.5)], **look)
    bar("inferior pubic ramus", 1.2, 5.4, 4.3, 9.4, [(0, 1.2), (0.4, 0.65), (1, 0.9)], cortex=0.25, density=0.8)
    look = {"cortex": 0.25, "fill": (0.15, 0.2), "density": 0.8, "bow": 0.4}
    bar("ischium", 8.3, 2.0, 5.4, 9.6, [(0, 2.0), (0.4, 1.25), (0.8, 1.5), (1, 1.2)], **look)
    look = {"depth": 1.0 * s, "shell": 0.2, "fill": 0.1, "density": 0.7}
    half.small_bone("acetabulum", (9.0 * s, 0.2 * s), 0.3, 3.2 * s, 3.2 * s, **look)
    lean = r.uniform(-0.02, 0.14)
    femur(half, np.array([half_width, 0.2 * s]), lean, "ap")
    k.bones.extend(half.bones)
    k.soft.extend(half.soft)
    mirror(half, k, np.zeros(2))
    for n in range(5):
        look = {"depth": 1.1 * s, "power": 3.0, "density": 0.55}
        k.small_bone(f"sacrum {n + 1}", (0.0, (-8.6 + 1.75 * n) * s), 0.0, 1.0 * s, (4.4 - 0.85 * n) * s, **look)
    spine(k, 0.0, -26.5 * s, -11.0 * s, step=3.5, half=2.4)
    k.flesh((0, -30 * s), (0, -12 * s), 14.5, 15.5, 0.8)
    for q in (-1, 1):
        k.flesh((q * 6.5 * s, -10 * s), (q * 8.5 * s, 3 * s), 10.0, 10.0, 1.0)
    for _ in range(int(r.integers(3, 9))):  # gas in the bowel
        c = np.array([r.uniform(-9, 9), r.uniform(-14, 1)]) * s
        k.air.append((c, c + r.uniform(-2.5, 2.5, 2), r.uniform(0.5, 1.6), r.uniform(0.4, 1.4), 1.0))
    k.focus.extend([np.array([-14.0, -12.0]) * s, np.array([14.0, 12.0]) * s])
