"""One view on the plate: its geometry, and its maps of bone, soft tissue, metal and plaster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from fracturelab.phantoms.anatomy import PLATE_CM, build, sites
from fracturelab.phantoms.confounders import add_capsule, add_hardware, cast_map, ring
from fracturelab.phantoms.fractures import choose_site
from fracturelab.phantoms.order import Order
from fracturelab.phantoms.projection import Geometry
from fracturelab.phantoms.radiograph import Plate, draw_exposure, enlarge, for_thickness, prepare_plate
from fracturelab.phantoms.randomness import grain, noise
from fracturelab.phantoms.shapes import Bone, thickness
from fracturelab.phantoms.skeleton import Skeleton, place_of, turn

F = np.float32
# The bone that may break is at least this wide, as a share of the long side of the picture (4 px of 128).
MIN_SHARE = 0.031
# Kinds that change little need a wider bone.
MIN_SHARES = {"hairline": 0.045, "avulsion": 0.042, "longitudinal": 0.04, "greenstick": 0.036}
TRUNK = ("shoulder", "pelvis")


@dataclass(frozen=True)
class View:
    """One view, rendered without a fracture.

    Attributes:
        skeleton: Bones and soft tissue in cm.
        site: (index of the bone, place along it in cm) where a fracture would be.
        geometry: Where the picture looks.
        texture: (h, w) grain of the bones.
        bone: (h, w) thickness of bone in cm.
        plate: What development needs.
        part: Name of this view among those on the plate, part of its streams.
        extras: `hardware`, the kinds drawn; whether a `cast`, a `ring` and an `overlap` (somebody's hand over the rim)
            were drawn; and the `rotation` of the limb on the plate in radians.
    """

    skeleton: Skeleton
    site: tuple[int, float]
    geometry: Geometry
    texture: np.ndarray
    bone: np.ndarray
    plate: Plate
    part: str
    extras: dict[str, Any]


def _aim(rng, order: Order, k: Skeleton, site_point, half, shape, least: float):
    """Chooses rotation, mirror, scale and centre of a view."""
    r = rng
    h, w = shape
    focus = np.array(k.focus)
    lo, hi = focus.min(0), focus.max(0)
    middle = (lo + hi) / 2
    jitter = r.normal(0, 0.10)
    base = float(r.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], p=[0.84, 0.06, 0.05, 0.05]))
    lying = r.random() < 0.7
    span = hi - lo
    if order.region in TRUNK:
        angle = jitter * 0.4
    else:
        tall = span[1] > 1.4 * span[0]
        if w > h and tall and lying:
            base = np.pi / 2 * r.choice([-1, 1])
        angle = base + jitter
    sign = int(r.choice([-1, 1]))
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]]) @ np.diag([sign, 1.0])
    span = np.abs(matrix) @ span + 4.0 * k.scale
    need = max(span[1], span[0] * h / w) if h >= w else max(span[0], span[1] * w / h)
    whole = max(need * 1.05, float(r.uniform(*PLATE_CM[order.region])) * k.scale**0.6)
    bands = np.array([b[2] for b in order.source.zooms])
    band = order.source.zooms[int(r.choice(len(bands), p=bands / bands.sum()))]
    pick = r.random()
    low, high = (band[0], band[1]) if order.zoom is None else order.zoom
    extent = whole / (low * (high / low) ** pick)
    extent = float(np.clip(extent, 5.0 * k.scale, max(2 * half / least, 5.0 * k.scale)))
    share = np.clip((whole / extent - 1.0) / 1.0, 0, 1)
    scale = max(h, w) / extent
    centre = middle + (site_point - middle) * share
    centre = centre + r.normal(0, 0.05, 2) * extent
    # keep the site well inside the picture
    where = matrix @ (site_point - centre) * scale
    room = np.array([w, h]) * (0.5 - r.uniform(0.10, 0.3))
    centre = centre + matrix.T @ (where - np.clip(where, -room, room)) / scale
    return matrix, centre, scale, angle


def _soft_tissue(k: Skeleton, shape, place, scale, swelling):
    """Thickness of soft tissue in cm, smooth, with air taken away."""
    h, w = shape
    f = max(1, round(max(h, w) / 150))

    def width(capsules):
        field = np.zeros((-(-h // f), -(-w // f)), F)
        for p, q, r0, r1, depth in capsules:
            add_capsule(field, place(p) / f, place(q) / f, r0 * scale / f, r1 * scale / f, depth)
        return np.sqrt(field)

    t = width([*k.soft, *swelling]) * F(2 * f / scale)
    if k.air:
        t = np.maximum(t - gaussian_filter(width(k.air), 0.6) * F(1.7 * f / scale), 0.12 * t)
    return enlarge(gaussian_filter(t, 0.55), h, w)


def make_view(
    order: Order, part: str, shape: tuple[int, int], *, like: View | None = None, closer: float = 1.0
) -> View:
    """Build one view without a fracture.

    Args:
        order: What the phantom is to show.
        part: Name of this view among those on the plate.
        shape: (h, w) in pixels.
        like: The other view of the same person, if any.
        closer: Factor on the least width of the bone in the picture.
    """
    h, w = shape
    source, region, flags, rng = order.source, order.region, order.flags, partial(order.rng, part)
    k = build(rng("anatomy"), region, child_rate=source.child_rate, like=like.skeleton if like else None)
    index, a = _site(rng("site"), order.kind, region, k, like)
    bone = k.bones[index]
    point = bone.point(a)
    half = max(bone.section(a)[1], 0.15)
    least = MIN_SHARES.get(order.kind, MIN_SHARE) * closer
    matrix, centre, scale, angle = _aim(rng("view"), order, k, point, half, shape, least)
    if like is not None and np.sign(np.linalg.det(like.geometry.matrix)) != np.sign(np.linalg.det(matrix)):
        matrix = matrix @ np.diag([-1.0, 1.0])
        centre = point + (centre - point)
        where = matrix @ (point - centre) * scale
        room = np.array([w, h]) * 0.35
        centre = centre + matrix.T @ (where - np.clip(where, -room, room)) / scale
    geometry = Geometry(matrix, centre, scale, shape)
    place, outside_trunk = geometry.pixel, region not in TRUNK
    extras: dict[str, Any] = {"hardware": (), "ring": False, "rotation": float(angle)}
    extras |= {name: bool(flags[name] and outside_trunk) for name in ("cast", "overlap")}
    if extras["overlap"]:
        _add_hand(rng("overlap"), k, geometry)
    extra = []
    if flags["swelling"]:
        r = rng("swelling")
        drawn = r.uniform(1.04, 1.22), r.uniform(0.9, 2.2)
        around = _limb_radius(k, point)
        d = np.array(bone.point(a + drawn[1] * around * 0.5)) - point
        extra.append((point - d, point + d, around * drawn[0], around * drawn[0] * 0.97, 0.9))
    exposure = draw_exposure(rng("exposure"), source, h, w, grid=flags["grid"])
    soft = _soft_tissue(k, shape, place, scale, extra)
    soft = soft * (1 + F(0.025) * noise(rng("muscle"), h, w, size=8.0))
    exposure = for_thickness(exposure, float(soft.max()))
    other = soft * F(exposure.soft)
    if extras["cast"]:
        other += _cast(rng("cast"), k, bone, a, place, scale, shape) * F(exposure.cast)
    metal = np.zeros(shape, F)
    if flags["hardware"]:
        ends = place(bone.point(0)), place(bone.point(bone.length))
        extras["hardware"] = add_hardware(rng("hardware"), metal, *ends, site=a / bone.length, half=half * scale)
    if flags["ring"]:
        extras["ring"] = _ring(rng("ring"), metal, k, place, scale)
    if extras["hardware"] or extras["ring"]:
        other += metal * F(exposure.metal)
    texture = grain(rng("grain"), h, w, pixels_per_cm=scale)
    thick = np.zeros(shape, F)
    for b in k.bones:
        if box := geometry.box(b):
            x0, y0, x1, y1 = box
            thick[y0:y1, x0:x1] += thickness(b, *geometry.frame(b, box), texture[y0:y1, x0:x1])
    plate = prepare_plate(rng("noise"), exposure, other, thick)
    return View(k, (index, a), geometry, texture, thick, plate, part, extras)


def _site(rng, kind: str, region: str, k: Skeleton, like: View | None):
    possible = sites(region, k.bones)
    index, a = choose_site(rng, kind, k.bones, possible)
    if like is not None:  # the same place on the same bone
        i, b = like.site
        first = like.skeleton.bones[i]
        for j, _, _, _ in possible:
            if k.bones[j].name == first.name:
                return j, b / first.length * k.bones[j].length
    return index, a


def _limb_radius(k: Skeleton, point) -> float:
    """Half width of the soft tissue around a place, in cm."""
    best = 1.0
    for p, q, r0, r1, _ in k.soft:
        d = q - p
        t = float(np.clip((point - p) @ d / (d @ d + 1e-6), 0, 1))
        r = r0 + (r1 - r0) * t
        if np.hypot(*(point - p - t * d)) < r:
            best = max(best, r)
    return best


def _cast(rng, k: Skeleton, bone: Bone, a: float, place, scale: float, shape):
    h, w = shape
    f = max(1, round(max(h, w) / 160))
    low = rng.uniform(-0.25, max(0.0, a / bone.length - 0.3))
    high = rng.uniform(min(1.0, a / bone.length + 0.3), 1.3)
    steps = np.linspace(low, high, int(rng.integers(3, 6)))
    side = rng.normal(0, 0.03, len(steps)) * bone.length
    points = [place(bone.point(t * bone.length, q)) / f for t, q in zip(steps, side, strict=True)]
    radius = min(_limb_radius(k, bone.point(a)), 9.0) * rng.uniform(1.0, 1.25) * scale / f
    z = cast_map(rng, (-(-h // f), -(-w // f)), points, radius)
    z = gaussian_filter(z, 0.6) * F(f / scale)
    return enlarge(z, h, w) * (1 + F(0.08) * noise(rng, h, w, size=1.7) + F(0.1) * noise(rng, h, w, size=8.0))


def _ring(rng, metal, k: Skeleton, place, scale: float) -> bool:
    thin = [b for b in k.bones if b.name.startswith(("proximal", "radius", "ulna", "tibia", "humerus", "femur"))]
    drawn = rng.random(), rng.uniform(0.15, 0.9), rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.3), rng.normal(0, 0.15)
    if not thin:
        return False
    b = thin[int(drawn[0] * len(thin))]
    a = drawn[1] * b.length
    p = b.point(a)
    wide = (1.0 if b.name.startswith("proximal") else _limb_radius(k, p) * 0.9) * scale
    x, y = place(p)
    _, across = b.axes()
    axis = place(p + across) - place(p)
    angle = float(np.arctan2(axis[1], axis[0])) + drawn[4]
    ring(metal, (x, y), wide, wide * drawn[2], angle, max(drawn[3] * 0.6 * scale, 0.4))
    return bool(0 <= x < metal.shape[1] and 0 <= y < metal.shape[0])


def _add_hand(rng, k: Skeleton, geometry: Geometry) -> None:
    """Puts the hand of somebody who holds the limb over the rim of the picture."""
    other = build(rng, "hand", child_rate=0.0)
    h, w = geometry.shape
    edge = rng.uniform(0, 2 * np.pi)
    rim = np.array([np.cos(edge) * w, np.sin(edge) * h]) * rng.uniform(0.42, 0.52)
    target = geometry.centre + geometry.matrix.T @ rim / geometry.scale
    inward = geometry.matrix.T @ -rim
    angle = float(np.arctan2(-inward[0], inward[1])) + rng.normal(0, 0.4)
    tip = other.focus[1]
    back = other.focus[1] - other.focus[0]
    turned = angle - float(np.arctan2(-back[0], back[1]))
    move = lambda p: turn(np.asarray(p) - tip, turned) + target + inward / (np.hypot(*inward) + 1e-6) * 5.0  # noqa: E731
    for b in other.bones:
        if not b.name.startswith("humerus"):
            k.bones.append(
                replace(b, name="holding " + b.name, origin=place_of(move(b.origin)), angle=b.angle + turned)
            )
    for p, q, r0, r1, depth in other.soft:
        k.soft.append((move(p), move(q), r0, r1, depth))
