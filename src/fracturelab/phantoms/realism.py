"""How much phantoms look like real X-rays: grey levels, power spectrum, and a classifier that tells the two apart.

All functions take stacks of letterboxed uint8 images of one size, (n, s, s) or (n, s, s, 1), bone bright.
"""

from __future__ import annotations

import numpy as np

BINS = 64
RINGS = 24


def _stack(images: np.ndarray) -> np.ndarray:
    z = np.asarray(images)
    if z.ndim == 4 and z.shape[-1] == 1:
        z = z[..., 0]
    if z.ndim != 3 or z.shape[1] != z.shape[2] or z.shape[1] < 32:
        raise ValueError(
            f"expected images of shape (n, s, s) with s of at least 32. Received: {np.asarray(images).shape}"
        )
    return z


def grey_histogram(images: np.ndarray) -> np.ndarray:
    """Share of pixels in each of 64 grey bins, letterbox bars (exact zeros) left out.

    Args:
        images: (n, s, s) uint8.

    Returns:
        (64,) float64 that sums to 1.
    """
    z = _stack(images)
    counts = np.bincount(z.ravel(), minlength=256).astype(float)
    counts[0] = 0
    counts = counts.reshape(BINS, -1).sum(1)
    return counts / max(counts.sum(), 1)


def histogram_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Wasserstein-1 distance of two grey histograms, in grey levels of 255."""
    return float(np.abs(np.cumsum(a - b)).sum() * 256 / BINS)


def spectrum(images: np.ndarray) -> np.ndarray:
    """Log10 of the radial power spectrum of each image (mean taken off, Hann window).

    Args:
        images: (n, s, s) uint8.

    Returns:
        (n, 24) float64, rings of equal width in log frequency from 2 / s to 0.5 cycles a pixel.
    """
    z = _stack(images)
    s = z.shape[1]
    window = np.outer(np.hanning(s), np.hanning(s))
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(s), np.fft.rfftfreq(s), indexing="ij"))
    edges = np.geomspace(2 / s, 0.5, RINGS + 1)
    ring = np.digitize(f, edges) - 1
    ring[(ring < 0) | (ring >= RINGS)] = RINGS
    counts = np.maximum(np.bincount(ring.ravel(), minlength=RINGS + 1)[:RINGS], 1)
    out = np.empty((len(z), RINGS))
    for i, image in enumerate(z):
        image = image.astype(float)
        power = np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2
        out[i] = np.bincount(ring.ravel(), power.ravel(), minlength=RINGS + 1)[:RINGS] / counts
    return np.log10(out + 1.0)


def spectrum_slope(images: np.ndarray) -> np.ndarray:
    """Slope of log power over log frequency of each image, between 4 / s and 0.4 cycles a pixel; about -3 for X-rays.

    Args:
        images: (n, s, s) uint8.

    Returns:
        (n,) float64.
    """
    z = _stack(images)
    power = spectrum(z)
    edges = np.geomspace(2 / z.shape[1], 0.5, RINGS + 1)
    centre = np.sqrt(edges[:-1] * edges[1:])
    use = (centre > 4 / z.shape[1]) & (centre < 0.4) & (np.ptp(power, axis=0) > 0)
    return np.polyfit(np.log10(centre[use]), power[:, use].T, 1)[0]


def features(images: np.ndarray) -> np.ndarray:
    """Simple features of each image: 16 x 16 thumbnail, radial spectrum, grey histogram of 16 bins.

    Args:
        images: (n, s, s) uint8.

    Returns:
        (n, 296) float64.
    """
    z = _stack(images)
    n, s, _ = z.shape
    k = s // 16
    crop = z[:, : 16 * k, : 16 * k].astype(float)
    thumbnail = crop.reshape(n, 16, k, 16, k).mean((2, 4)).reshape(n, -1) / 255
    grey = np.stack([np.bincount(i.ravel() // 16, minlength=16) for i in z]) / (s * s)
    return np.hstack([thumbnail, spectrum(z), grey])


def real_or_phantom_auc(real: np.ndarray, phantoms: np.ndarray, *, folds: int = 5, seed: int = 0) -> float:
    """Cross-validated AUC of a logistic regression on `features` that tells phantoms from real X-rays; 0.5 is ideal.

    Args:
        real: (n, s, s) uint8.
        phantoms: (m, s, s) uint8 of the same size.
        folds: Folds.
        seed: Seed of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.vstack([features(real), features(phantoms)])
    y = np.r_[np.zeros(len(real), int), np.ones(len(phantoms), int)]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(roc_auc_score(y, cross_val_predict(model, x, y, cv=split, method="predict_proba")[:, 1]))


def compare_looks(real: np.ndarray, phantoms: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """All measurements of phantoms against real X-rays.

    Args:
        real: (n, s, s) uint8.
        phantoms: (m, s, s) uint8 of the same size.
        seed: Seed of the folds.

    Returns:
        `histogram_distance` (grey levels), `slope_real`, `slope_phantoms` (means), `auc`.
    """
    return {
        "histogram_distance": histogram_distance(grey_histogram(real), grey_histogram(phantoms)),
        "slope_real": float(spectrum_slope(real).mean()),
        "slope_phantoms": float(spectrum_slope(phantoms).mean()),
        "auc": real_or_phantom_auc(real, phantoms, seed=seed),
    }
