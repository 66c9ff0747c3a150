"""From thickness to grey: Beer-Lambert attenuation, scatter, heel effect, noise, and what the reader's software does.

Exposure is chosen on the whole bone; a fracture is then developed with the same exposure on a crop only, so that the
image with and without it agree everywhere else, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from fracturelab.phantoms.randomness import noise
from fracturelab.phantoms.sources import Source

F = np.float32
# The least share of the beam that the detector still tells apart.
FLOOR = 3e-4


@dataclass(frozen=True)
class Exposure:
    """Everything that turns attenuation into grey, fixed before a fracture is drawn.

    Attributes:
        soft: Attenuation of soft tissue per cm.
        bone: Attenuation of cortical bone per cm.
        metal: Attenuation of metal, per unit of the metal map.
        cast: Attenuation of plaster per cm.
        scatter: Scatter over primary.
        noise: Noise at full exposure.
        blur: Blur in pixels.
        heel: (h, 1) or (1, w) factor on the beam.
        background: Grey of the empty plate.
        gamma: Exponent of the tone curve.
        peak: Grey of the densest part.
        compress: Share of the slow component taken away.
        sharpen: Edge enhancement.
        grid: (1, w) or (h, 1) stripes in grey.
    """

    soft: float
    bone: float
    metal: float
    cast: float
    scatter: float
    noise: float
    blur: float
    heel: np.ndarray
    background: float
    gamma: float
    peak: float
    compress: float
    sharpen: float
    grid: np.ndarray | None


def draw_exposure(rng: np.random.Generator, source: Source, h: int, w: int, *, grid: bool) -> Exposure:
    """Draws the exposure of one plate."""
    r = rng
    u = lambda pair: float(r.uniform(*pair))  # noqa: E731
    soft, bone = u(source.soft), u(source.bone)
    t = np.linspace(-1, 1, h if r.random() < 0.5 else w, dtype=F)
    vertical = len(t) == h and r.random() < 0.5
    heel = 1 - F(u(source.heel) / 2) * (1 + r.choice([-1, 1]) * t)
    heel = heel[:, None] if (vertical or len(t) != w) else heel[None, :]
    amplitude, period, phase, upright = (
        r.uniform(0.002, 0.012),
        r.uniform(2.2, 9.0),
        r.uniform(0, 6.28),
        r.random() < 0.8,
    )
    stripes = None
    if grid:
        z = F(amplitude) * np.sin(np.arange(w if upright else h, dtype=F) * F(6.28 / period) + F(phase))
        stripes = z[None, :] if upright else z[:, None]
    noise_level = source.noise[0] * (source.noise[1] / source.noise[0]) ** r.random()
    sharpen = u(source.sharpen) if r.random() < 0.6 else 0.0
    blur = u(source.blur) * max(h, w) / 128
    metal, cast, scatter = u((2.0, 5.0)), u((0.15, 0.4)), u(source.scatter)
    blur = blur if r.random() < 0.5 else 0.0
    background, gamma, peak, compress = u(source.background), u(source.gamma), u(source.peak), u(source.compress)
    tone = (background, gamma, peak, compress, sharpen, stripes)
    return Exposure(soft, bone, metal, cast, scatter, noise_level, blur, heel, *tone)


def for_thickness(exposure: Exposure, thickest: float) -> Exposure:
    """Automatic exposure: thick parts are taken with a harder beam, which both tissue and bone attenuate less.

    Args:
        exposure: The exposure of a limb.
        thickest: The thickest soft tissue on the plate in cm.
    """
    peak = exposure.soft * thickest
    if peak <= 2.6:
        return exposure
    factor = float((2.6 / peak) ** 0.75)
    return replace(exposure, soft=exposure.soft * factor, bone=exposure.bone * factor**0.6)


def enlarge(z: np.ndarray, h: int, w: int) -> np.ndarray:
    """Bilinear enlargement of a small map to (h, w), float32, separable."""

    def weights(n: int, m: int):
        x = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
        i = np.minimum(x.astype(int), max(n - 2, 0))
        return i, np.minimum(i + 1, n - 1), (x - i).astype(F)

    if z.shape == (h, w):
        return z
    i, j, t = weights(z.shape[0], h)
    z = z[i] * (1 - t)[:, None] + z[j] * t[:, None]
    i, j, t = weights(z.shape[1], w)
    return z[:, i] * (1 - t) + z[:, j] * t


def slow(z: np.ndarray, cells: int = 28, sigma: float = 1.6) -> np.ndarray:
    """The slow component of a map: sampled coarsely, blurred, enlarged again."""
    h, w = z.shape
    f = max(1, -(-max(h, w) // cells))
    small = z[f // 2 :: f, f // 2 :: f]
    return enlarge(gaussian_filter(small, sigma, mode="nearest"), h, w)


@dataclass(frozen=True)
class Plate:
    """The maps that development needs, all (h, w) or broadcastable, made from the unbroken phantom."""

    exposure: Exposure
    other: np.ndarray
    stray: np.ndarray | None
    base: np.ndarray | None
    white: np.ndarray
    high: float


def prepare_plate(rng: np.random.Generator, exposure: Exposure, other: np.ndarray, bone: np.ndarray) -> Plate:
    """Measures what exposure, scatter and window need on the unbroken phantom.

    Args:
        rng: Stream of the noise.
        exposure: The exposure.
        other: (h, w) attenuation of all that is not bone.
        bone: (h, w) thickness of bone in cm.
    """
    h, w = bone.shape
    e = exposure
    attenuation = other + F(e.bone) * bone
    beam = np.exp(-attenuation)
    log, stray, base = np.minimum(attenuation, F(-np.log(FLOOR))), None, None
    if e.scatter > 0.01:
        stray = slow(beam, 24, 2.2) * F(e.scatter)
        log = -np.log(np.maximum((beam + stray) / F(1 + e.scatter), F(FLOOR)))
    if e.compress > 0.02:
        base = slow(log, 28, 2.0) * F(e.compress)
        log = log - base
    step = max(1, max(h, w) // 96)
    sample = log[::step, ::step]
    inside = sample[sample > 0.05]
    high = float(np.quantile(inside, 0.985)) if inside.size > 20 else 1.0
    return Plate(e, other, stray, base, noise(rng, h, w), max(high, 0.3))


def develop(plate: Plate, bone: np.ndarray, box=None) -> np.ndarray:
    """Turns bone thickness into grey.

    Args:
        plate: From `prepare_plate`.
        bone: (h, w) thickness in cm, or that of the box.
        box: (x0, y0, x1, y1) of the part to develop; everything by default.

    Returns:
        float32 grey in about 0 to 1, of the shape of `bone`.
    """
    e = plate.exposure
    h, w = plate.other.shape
    x0, y0, x1, y1 = box or (0, 0, w, h)
    part = np.s_[y0:y1, x0:x1]
    z = plate.other[part] + F(e.bone) * bone
    np.exp(-z, out=z)
    if plate.stray is not None:
        z += plate.stray[part]
        z *= F(1 / (1 + e.scatter))
    z *= np.broadcast_to(e.heel, (h, w))[part]
    if e.blur > 0.25:
        z = gaussian_filter(z, e.blur, truncate=3.0)
    z += F(e.noise) * np.sqrt(np.maximum(z, 0)) * plate.white[part]
    np.maximum(z, F(FLOOR), out=z)
    np.log(z, out=z)
    np.negative(z, out=z)
    if plate.base is not None:
        z -= plate.base[part]
    if e.sharpen > 0.02:
        z += F(e.sharpen) * (z - gaussian_filter(z, max(1.2, 0.012 * max(h, w)), truncate=2.0))
    z *= F(1 / plate.high)
    y = np.abs(z) ** F(e.gamma)
    y = np.where(z < 0, -y, y) * F(e.peak - e.background)
    y += F(e.background)
    # a soft shoulder keeps the densest parts below white
    over = y > 0.8
    if over.any():
        y[over] = 0.8 + 0.22 * np.tanh((y[over] - 0.8) / 0.22)
    if e.grid is not None:
        y += np.broadcast_to(e.grid, (h, w))[part]
    return y


def margin(plate: Plate) -> int:
    """Pixels around a change within which development can see it."""
    e = plate.exposure
    reach = 1
    if e.blur > 0.25:
        reach += int(3.0 * e.blur + 1)
    if e.sharpen > 0.02:
        reach += int(2.0 * max(1.2, 0.012 * max(plate.other.shape)) + 1)
    return reach
