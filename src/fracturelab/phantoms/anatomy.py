"""Regions of the body: which bones a view shows, which of them may break and where."""

from __future__ import annotations

import numpy as np

from fracturelab.phantoms.arm import upper_limb
from fracturelab.phantoms.leg import lower_limb
from fracturelab.phantoms.shapes import Bone
from fracturelab.phantoms.skeleton import Skeleton, person
from fracturelab.phantoms.trunk import pelvis, shoulder

REGIONS = ("hand", "forearm", "elbow", "humerus", "shoulder", "pelvis", "femur", "knee", "leg", "ankle", "foot")

# (start of the bone's name, lowest and highest share of its length, weight); the first that fits counts
_SITES = {
    "hand": (
        ("metacarpal", 0, 1, 3),
        ("proximal phalanx", 0, 1, 3),
        ("middle phalanx", 0, 1, 2),
        ("radius", 0.8, 1, 8),
        ("ulna", 0.85, 1, 2),
    ),
    "forearm": (("radius", 0, 1, 5), ("ulna", 0, 1, 4)),
    "elbow": (("humerus", 0.72, 1, 4), ("radius", 0, 0.35, 3), ("ulna", 0, 0.35, 3)),
    "humerus": (("humerus", 0, 1, 1),),
    "shoulder": (("humerus", 0, 0.45, 5), ("clavicle", 0, 1, 4)),
    "pelvis": (
        ("femur", 0, 0.3, 4),
        ("superior pubic ramus", 0, 1, 2),
        ("inferior pubic ramus", 0, 1, 1),
        ("ischium", 0, 1, 1),
    ),
    "femur": (("femur", 0, 1, 1),),
    "knee": (("femur", 0.72, 1, 3), ("tibia", 0, 0.3, 4), ("fibula", 0, 0.3, 1)),
    "leg": (("tibia", 0, 1, 5), ("fibula", 0, 1, 3)),
    "ankle": (("tibia", 0.7, 1, 4), ("fibula", 0.65, 1, 5)),
    "foot": (("metatarsal", 0, 1, 5), ("toe 1", 0, 1, 1), ("fibula", 0.85, 1, 1)),
}

# long side of the plate in cm when the whole region is shown
PLATE_CM = {
    "hand": (24, 43),
    "forearm": (30, 43),
    "elbow": (20, 43),
    "humerus": (34, 43),
    "shoulder": (26, 43),
    "pelvis": (38, 46),
    "femur": (36, 46),
    "knee": (24, 43),
    "leg": (40, 48),
    "ankle": (22, 43),
    "foot": (26, 43),
}


def build(rng: np.random.Generator, region: str, *, child_rate: float = 0.3, like: Skeleton | None = None) -> Skeleton:
    """Builds the bones and soft tissue of one view of `region`.

    Args:
        rng: Stream of the anatomy.
        region: One of `REGIONS`.
        child_rate: Share of children.
        like: Another view of the same person; takes its age, size and bone density.

    Returns:
        The skeleton, in cm.
    """
    k = person(rng, child_rate=child_rate)
    if like is not None:
        for name in ("age", "scale", "density", "cortex", "gap", "plates", "girth"):
            setattr(k, name, getattr(like, name))
    if region == "shoulder" or (region == "humerus" and rng.random() < 0.45):
        shoulder(k, whole_arm=region == "humerus")
    elif region == "pelvis":
        pelvis(k)
    elif region in ("hand", "forearm", "elbow", "humerus"):
        upper_limb(k, region=region)
    else:
        lower_limb(k, region=region)
    return k


def sites(region: str, bones: list[Bone]) -> list[tuple[int, float, float, float]]:
    """Bones of a view that may break: (index, lowest and highest share of the length, weight)."""
    out = []
    for i, bone in enumerate(bones):
        for start, low, high, weight in _SITES[region]:
            if bone.name.startswith(start) and bone.length > 1.2 and "border" not in bone.name:
                out.append((i, float(low), float(high), float(weight)))
                break
    return out
