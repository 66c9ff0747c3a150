"""What one phantom is to show, chosen or drawn before any bone is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fracturelab.phantoms.randomness import stream
from fracturelab.phantoms.sources import Source


@dataclass(frozen=True)
class Order:
    """What one phantom is to show.

    Attributes:
        seed: Seed of the phantom.
        source: Settings.
        label: 1 fractured, 0 normal.
        kind: Kind of fracture that it has or would have; decides where the picture looks.
        region: Region of the body.
        severity: 0 subtle to 1 gross.
        zoom: Range of the magnification, or None for the mix of the source.
        shape: (h, w) of the plate in pixels.
        canvas: (h, w) of the picture that it stands on.
        flags: Which nuisances are present.
    """

    seed: int
    source: Source
    label: int
    kind: str
    region: str
    severity: float
    zoom: tuple[float, float] | None
    shape: tuple[int, int]
    canvas: tuple[int, int]
    flags: dict[str, bool]

    def rng(self, *names: str) -> np.random.Generator:
        """The random stream of one part of the phantom."""
        return stream(self.seed, self.source.name, *names)
