"""The two sources of phantoms: `clinic` for training, and `field` for tests on another source.

`field` is frozen: its settings are fixed before any model is tuned, pretraining and tuning never draw from them, and
they do not change afterwards. A score on `field` is worth something only while this holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fracturelab.errors import FracturelabError

Range = tuple[float, float]
# Changes whenever a seed gives another image; part of the name of every cached set.
GENERATOR_VERSION = "4"

NUISANCES = ("cast", "hardware", "marker", "ring", "two_views", "swelling", "border", "collimation", "overlap", "grid")


@dataclass(frozen=True)
class Source:
    """How one place takes X-rays. Pairs are ranges (low, high) to draw from.

    Attributes:
        name: Name of the source.
        regions: Weight of each region of the body, in the order of `REGIONS`.
        child_rate: Share of children.
        rates: Probability of each nuisance, independent of the label.
        aspects: Width over height of the plates, with weights.
        soft: Attenuation of soft tissue per cm.
        bone: Attenuation of cortical bone per cm.
        scatter: Scatter over primary.
        noise: Noise at full exposure.
        blur: Blur of detector and focus, in pixels per 128.
        heel: Fall-off of the beam across the plate.
        background: Grey of the empty plate, 0 to 1.
        gamma: Exponent of the tone curve.
        peak: Grey of the densest part.
        compress: Dynamic range compression, share of the slow component taken away.
        sharpen: Edge enhancement.
        zooms: (low, high, weight) of the magnification over the whole region.
        marker_styles: Styles of side markers.
        photographed: Whether the film is photographed from a light box or screen.
        glare: Strength of a reflection.
        ambient: Stray light added to everything.
        moire: Strength of pixel grid and moire.
        tilt: Perspective, share of the frame by which corners move.
        vignette: Darkening of the corners.
    """

    name: str
    regions: tuple[float, ...]
    child_rate: float
    rates: dict[str, float]
    aspects: tuple[tuple[float, float], ...]
    soft: Range
    bone: Range
    scatter: Range
    noise: Range
    blur: Range
    heel: Range
    background: Range
    gamma: Range
    peak: Range
    compress: Range
    sharpen: Range
    zooms: tuple[tuple[float, float, float], ...]
    marker_styles: tuple[str, ...]
    photographed: bool
    glare: Range
    ambient: Range
    moire: Range
    tilt: Range
    vignette: Range


def _rates(*values: float) -> dict[str, float]:
    return dict(zip(NUISANCES, values, strict=True))


_NAMES = ("clinic", "field")
# Each setting of clinic, and of field.
_TABLE: dict[str, tuple[Any, Any]] = {
    "regions": (  # hand, forearm, elbow, humerus, shoulder, pelvis, femur, knee, leg, ankle, foot
        (0.15, 0.14, 0.11, 0.06, 0.08, 0.05, 0.05, 0.10, 0.09, 0.10, 0.07),
        (0.10, 0.16, 0.12, 0.05, 0.06, 0.04, 0.06, 0.07, 0.14, 0.14, 0.06),
    ),
    "child_rate": (0.3, 0.42),
    "rates": (
        _rates(0.1, 0.1, 0.3, 0.05, 0.12, 0.25, 0.55, 0.15, 0.05, 0.12),
        _rates(0.14, 0.12, 0.65, 0.08, 0.18, 0.25, 0.3, 0.35, 0.08, 0.3),
    ),
    "aspects": (
        ((0.82, 0.62), (1.22, 0.25), (0.80, 0.10), (1.0, 0.03)),
        ((0.82, 0.40), (0.70, 0.20), (1.33, 0.25), (1.0, 0.15)),
    ),
    "soft": ((0.13, 0.25), (0.17, 0.30)),
    "bone": ((0.55, 1.15), (0.50, 0.95)),
    "scatter": ((0.0, 0.35), (0.15, 0.60)),
    "noise": ((0.0006, 0.009), (0.006, 0.022)),
    "blur": ((0.2, 0.75), (0.25, 0.75)),
    "heel": ((0.0, 0.25), (0.05, 0.40)),
    "background": ((0.015, 0.14), (0.02, 0.14)),
    "gamma": ((0.95, 1.75), (1.05, 1.9)),
    "peak": ((0.45, 0.98), (0.80, 1.05)),
    "compress": ((0.0, 0.55), (0.0, 0.2)),
    "sharpen": ((0.0, 0.6), (0.0, 0.15)),
    "zooms": (
        ((0.95, 1.25, 0.40), (1.25, 2.0, 0.36), (2.0, 3.6, 0.24)),
        ((0.95, 1.25, 0.45), (1.25, 2.0, 0.37), (2.0, 3.2, 0.18)),
    ),
    "marker_styles": (("letter", "box", "plate"), ("wire", "tape")),
    "photographed": (False, True),
    "glare": ((0.0, 0.0), (0.0, 0.35)),
    "ambient": ((0.0, 0.0), (0.02, 0.16)),
    "moire": ((0.0, 0.0), (0.0, 0.035)),
    "tilt": ((0.0, 0.0), (0.01, 0.07)),
    "vignette": ((0.0, 0.0), (0.05, 0.40)),
}
CLINIC, FIELD = (
    Source(name, **{setting: values[number] for setting, values in _TABLE.items()})
    for number, name in enumerate(_NAMES)
)
SETTINGS = dict(zip(_NAMES, (CLINIC, FIELD), strict=True))
SOURCES = tuple(SETTINGS)


def settings(source: str | Source) -> Source:
    """Return the settings of a source.

    Args:
        source: Name of the source, or a `Source`, such as `replace(FIELD, photographed=False)`, which is returned.

    Raises:
        FracturelabError: There is no source of this name.
    """
    if isinstance(source, Source):
        return source
    if source not in SETTINGS:
        raise FracturelabError(f"expected source to be one of {', '.join(SOURCES)}. Received: {source!r}")
    return SETTINGS[source]
