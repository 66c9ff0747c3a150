"""The growing list of bones and soft tissue of one view, shared by the builders of arm, leg and trunk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fracturelab.phantoms.shapes import Blob, Bone, Tube

ADULT, CHILD = "adult", "child"


@dataclass
class Skeleton:
    """Bones and soft tissue of one view, in cm, while and after it is built.

    Attributes:
        rng: Stream that all variation of the anatomy comes from.
        age: "adult" or "child".
        scale: Size of this person against the proportions written in the builders.
        density: Mineral density of the bones.
        cortex: Factor on the cortical thickness.
        gap: Extra joint space (cartilage) in cm.
        plates: Whether growth plates are open.
        bones: Bones, drawn in any order.
        soft: Capsules (p, q, radius at p, radius at q, depth over width) of muscle.
        air: Capsules of air (lungs, bowel) to take away.
        focus: Points that the whole view must hold.
    """

    rng: np.random.Generator
    age: str = ADULT
    scale: float = 1.0
    density: float = 1.0
    cortex: float = 1.0
    gap: float = 0.0
    plates: bool = False
    girth: float = 1.0
    bones: list[Bone] = field(default_factory=list)
    soft: list[tuple] = field(default_factory=list)
    air: list[tuple] = field(default_factory=list)
    focus: list[np.ndarray] = field(default_factory=list)

    def vary(self, value: float, share: float = 0.08) -> float:
        """`value` times the scale of this person, give or take `share`."""
        return float(value * self.scale * (1 + share * self.rng.uniform(-1, 1)))

    def long_bone(
        self, name, origin, angle, length, knots, *, cortex=0.3, plates=(), blobs=(), pair=None, density=1.0, **tube
    ) -> None:
        """Adds a long bone; knots, blobs (a in cm from the end that is nearer, see `_place`) are for a grown person.

        Args:
            name: Name of the bone.
            origin: Proximal end in cm.
            angle: Direction.
            length: Length in cm, scaled already.
            knots: (u, half width[, offset]) unscaled.
            cortex: Wall of the shaft in cm, unscaled.
            plates: Places (u) of growth plates, used while they are open.
            blobs: (a, v, ra, rv, options) unscaled; negative `a` counts from the distal end.
            pair: Bone beside it.
            density: Factor on its density.
            **tube: Passed to `Tube`; the bow is unscaled.
        """
        s = self.scale * (0.94 + 0.12 * self.rng.random())
        kn = [(k[0], k[1] * s, (k[2] if len(k) > 2 else 0.0) * s) for k in knots]
        if self.age == CHILD:  # small, still partly cartilaginous ends
            kn = [(u, r * (0.9 if min(u, 1 - u) < 0.1 else 1.0), m) for u, r, m in kn]
        tube["bow"] = tube.get("bow", 0.0) * s
        walls = cortex * s * self.cortex, 0.07 * s * self.cortex
        parts: list[Tube | Blob] = [Tube(length, tuple(kn), walls, **tube)]
        for a, v, ra, rv, options in blobs:
            at = a * s if a >= 0 else length + a * s
            parts.append(Blob(at, v * s, ra * s, rv * s, **{**options, "depth": options["depth"] * s}))
        lines = tuple(
            (length * u, max(0.12 * self.scale, 0.05) * self.rng.uniform(0.7, 1.3), self.rng.uniform(-0.15, 0.15))
            for u in plates
            if self.plates
        )
        look = {"density": self.density * density, "plates": lines, "pair": pair}
        self.bones.append(Bone(name, place_of(origin), float(angle), float(length), tuple(parts), **look))

    def bar(self, name, origin, span, knots, **options) -> None:
        """Adds a long bone that covers `span`, (x, y) in cm, from its proximal end."""
        angle, length = float(np.arctan2(-span[0], span[1])), float(np.hypot(*span))
        self.long_bone(name, origin, angle, length, knots, **options)

    def twin(self) -> Skeleton:
        """The same person without bones, to build the other side on."""
        return replace(self, bones=[], soft=[], air=[], focus=[])

    def small_bone(self, name, centre, angle, ra, rv, *, density=1.0, wobble=0.06, **options) -> None:
        """Adds a blob bone with half axes `ra` along `angle` and `rv` across, in cm, scaled already."""
        r = self.rng
        waves = tuple((wobble * r.uniform(0, 1) / (n - 1), r.uniform(0, 6.28)) for n in (2, 3, 4))
        part = Blob(ra, 0.0, ra, rv, wobble=waves, **options)
        along = np.array([-np.sin(angle), np.cos(angle)])
        origin = np.asarray(centre) - ra * along
        self.bones.append(Bone(name, place_of(origin), float(angle), 2 * ra, (part,), density=self.density * density))

    def flesh(self, p, q, r0, r1, depth=0.9) -> None:
        """Adds a capsule of soft tissue; radii in cm, unscaled."""
        k = self.scale * self.girth
        self.soft.append((np.asarray(p, float), np.asarray(q, float), r0 * k, r1 * k, depth))


def profile(places, widths, offsets=None, *, times: float = 1.0) -> list[tuple[float, float, float]]:
    """Knots (u, half width, offset) of a long bone.

    Args:
        places: Shares u of the length.
        widths: Half width at each place.
        offsets: Place to offset of the centre line, where it is not 0.
        times: Factor on the widths.
    """
    offsets = offsets or {}
    return [(u, width * times, offsets.get(u, 0.0)) for u, width in zip(places, widths, strict=True)]


def place_of(p) -> tuple[float, float]:
    """A place in cm as a pair of numbers."""
    return float(p[0]), float(p[1])


def turn(vector, angle: float) -> np.ndarray:
    """Rotates (x, y) so that +y goes to the direction of a bone of this `angle`."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([c * vector[0] - s * vector[1], s * vector[0] + c * vector[1]])


def person(rng: np.random.Generator, *, child_rate: float = 0.3) -> Skeleton:
    """Draws a person: age, size, bone density, girth; no bones yet."""
    child = rng.random() < child_rate
    grown = rng.random()
    scale = 0.5 + 0.35 * grown if child else rng.normal(1.0, 0.06)
    frail = rng.random() < 0.2
    return Skeleton(
        rng=rng,
        age=CHILD if child else ADULT,
        scale=float(np.clip(scale, 0.45, 1.2)),
        density=float(rng.uniform(0.75, 1.2) * (0.75 if frail and not child else 1.0) * (0.9 if child else 1.0)),
        cortex=float(rng.uniform(0.85, 1.2) * (0.65 if frail and not child else 1.0)),
        gap=float((0.12 + 0.25 * (1 - grown)) if child else rng.uniform(0.02, 0.16)),
        plates=bool(child),
        girth=float(rng.uniform(0.85, 1.25)),
    )
