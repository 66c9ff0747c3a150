"""Draws a fracture: the thickness map of a bone whose fragments are cut, moved, bent or eaten away."""

from __future__ import annotations

from functools import reduce

import numpy as np

from fracturelab.phantoms.fractures import JAG, Fracture
from fracturelab.phantoms.shapes import Blob, Bone, thickness

F = np.float32


def _ragged(f: Fracture, t: np.ndarray) -> np.ndarray:
    i = np.clip(t * F(JAG / (4 * f.half)) + F(JAG / 2), 0, JAG - 1).astype(np.intp)
    return f.jag[i]


def _turned(a, v, pivot: float, angle: float, da: float, dv: float):
    """Coordinates of a fragment that was turned about (pivot, 0) and moved by (da, dv), seen in its own frame."""
    c, s = F(np.cos(angle)), F(np.sin(angle))
    x, y = a - F(pivot + da), v - F(dv)
    return c * x + s * y + F(pivot), c * y - s * x


def _cut(f: Fracture, a, v):
    """Signed distance in cm along the bone from the cut."""
    if f.kind == "spiral":
        q = np.clip((v - F(f.v)) / F(f.half), -1, 1)
        return a - F(f.a) - F(f.slope * f.half * 0.64) * np.arcsin(q) - F(0.5) * _ragged(f, v - F(f.v))
    return a - F(f.a) - F(f.slope) * (v - F(f.v)) - _ragged(f, v - F(f.v))


def _chips(f: Fracture, bone: Bone, a, v, grain):
    lumps = (Blob(ca, cv, p, q, tilt=tilt, power=1.6, shell=0.3, fill=0.3) for ca, cv, p, q, tilt in f.chips)
    chips = (Bone("chip", (0, 0), 0.0, 1.0, (lump,), density=bone.density) for lump in lumps)
    return reduce(np.maximum, (thickness(chip, a, v, grain) for chip in chips))


def broken(f: Fracture, bone: Bone, a: np.ndarray, v: np.ndarray, grain: np.ndarray, *, pixel: float) -> np.ndarray:
    """Thickness map of a bone with its fracture, in cm of cortical bone.

    Args:
        f: The fracture.
        bone: The bone.
        a: (h, w) float32 coordinates along the bone in cm.
        v: (h, w) float32 coordinates across it in cm.
        grain: (h, w) float32 texture.
        pixel: Size of a pixel in cm, for edges one pixel soft.

    Returns:
        (h, w) float32.
    """
    soft = F(1.0 / max(pixel, 1e-3))
    side = lambda d: np.clip(d * soft + F(0.5), 0, 1)  # noqa: E731
    slit = lambda d, w: np.exp(-np.square(d * F(1.4 / max(w, pixel * 0.6))))  # noqa: E731
    w = f.gap
    if f.kind == "hairline":
        return thickness(bone, a, v, grain) * (1 - F(f.depth) * slit(_cut(f, a, v), w))
    if f.kind == "longitudinal":
        d = v - F(f.v + f.shift) - F(f.slope) * (a - F(f.a)) - F(0.4) * _ragged(f, (a - F(f.a)) * F(0.3))
        ends = side(F(f.reach) - np.abs(a - F(f.a)))
        return thickness(bone, a, v, grain) * (1 - F(f.depth) * slit(d, w) * ends)
    if f.kind == "avulsion":
        m = thickness(bone, a, v, grain)
        ca, size = f.chips[0][0], f.reach
        edge = f.v + f.sense * f.half
        bite = np.sqrt(np.square((a - F(f.a)) / F(1.25)) + np.square(v - F(edge))) - F(size)
        m *= side(bite + F(0.3) * _ragged(f, a - F(ca)))
        return m + _chips(f, bone, a, v, grain)
    length = bone.length
    near, far = max(f.a, 0.08 * length), max(length - f.a, 0.08 * length)
    if f.kind == "fracture dislocation":
        # the joint end moves with the cut, the rest of the bone turns about its other end
        first = f.a < length / 2
        reach = far if first else near
        angle = f.shift / reach * (-1 if first else 1)
        a0, v0 = _turned(a, v, length if first else 0.0, -angle, 0.0, 0.0)
        shaft = thickness(bone, a0, v0, grain)
        d = _cut(f, a0, v0)
        keep = side(d - F(w / 2)) if first else side(F(-w / 2) - d)
        # the broken end piece follows half way and turns
        a1, v1 = _turned(a, v, f.a, f.bend, (-1 if first else 1) * f.overlap * 0.3, f.shift * 0.75)
        d = _cut(f, a1, v1)
        piece = thickness(bone, a1, v1, grain) * (side(F(-w / 2) - d) if first else side(d - F(w / 2)))
        return np.maximum(shaft * keep, 0) + piece + _chips(f, bone, a, v, grain)
    # two fragments turn about the ends of the bone; limits keep the apex near the limb's axis
    limit = 2.0 * f.half
    apex = (f.bend + f.shift / far) / (1 / near + 1 / far)
    apex = float(np.clip(apex, -limit, limit))
    up, down = apex / near, -(apex - f.shift) / far
    a0, v0 = _turned(a, v, 0.0, up, f.overlap / 2, 0.0)
    a1, v1 = _turned(a, v, length, down, -f.overlap / 2, 0.0)
    d0, d1 = _cut(f, a0, v0), _cut(f, a1, v1)
    if f.kind == "greenstick":
        top = thickness(bone, a0, v0, grain) * side(-d0)
        low = thickness(bone, a1, v1, grain) * side(d1)
        opened = F(f.depth) * slit(d0, w) * side((v0 - F(f.v)) * F(f.sense) + F(0.25 * f.half))
        wedge = F(0.9) * side(F(w) * (v0 - F(f.v)) * F(f.sense / f.half) - np.abs(d0))
        return np.maximum(top, low) * (1 - np.maximum(opened, wedge))
    if f.kind == "impacted":
        top = thickness(bone, a0, v0, grain) * side(F(0.15 * f.half) - d0)
        low = thickness(bone, a1, v1, grain) * side(d1 + F(0.15 * f.half))
        band = F(0.35 * f.half * bone.density) * np.exp(-np.square(d0 / F(0.3 * f.half))) * ((top > 0) & (low > 0))
        return np.maximum(top, low) + F(0.55) * np.minimum(top, low) + band
    top = thickness(bone, a0, v0, grain) * side(F(-w / 2) - d0)
    low = thickness(bone, a1, v1, grain) * side(d1 - F(w / 2))
    out = top + low
    if f.kind == "pathological":
        middle = f.v + 0.25 * f.sense * f.half
        q = np.sqrt(np.square((a - F(f.a)) / F(f.reach)) + np.square((v - F(middle)) / F(0.85 * f.half)))
        q += _ragged(f, (a - F(f.a))) * F(0.5 / f.half)
        out *= 1 - F(f.depth) * np.clip((F(1.1) - q) * F(4.0), 0, 1)
    if f.kind == "comminuted":
        # a butterfly piece is cut out on one side and the chips fill the gap
        q = (v0 - F(f.v)) * F(f.sense) + F(0.3 * f.half)
        cut = slit(np.abs(d0) - np.maximum(q, 0) * F(0.9), max(w * 0.7, pixel * 0.8)) * side(q)
        out *= 1 - F(0.85) * cut
        out = np.maximum(out, _chips(f, bone, a, v, grain))
    return out


def zone_mask(f: Fracture, a: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Pixels within which the fracture may show, as a boolean map."""
    a0, a1, v0, v1 = f.zone()
    return (a > a0) & (a < a1) & (v > v0) & (v < v1)
