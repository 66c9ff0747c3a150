"""Measurements of looks on images whose answer is known."""

import numpy as np
import pytest

from fracturelab.phantoms import realism, render


def _power_law(n, slope, seed):
    rng = np.random.default_rng(seed)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.rfftfreq(64), indexing="ij"))
    f[0, 0] = 1
    out = []
    for _ in range(n):
        z = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((64, 64))) * f ** (slope / 2))
        out.append(np.clip(128 + 45 * z / z.std(), 1, 255))
    return np.stack(out).astype(np.uint8)


def test_the_slope_of_a_power_law_is_found():
    for slope in (-1.0, -2.0, -3.0):
        assert realism.spectrum_slope(_power_law(20, slope, 1)).mean() == pytest.approx(slope, abs=0.25)


def test_histogram_distance_is_a_shift_in_grey():
    a = np.full((2, 64, 64), 40, np.uint8)
    b = np.full((2, 64, 64), 80, np.uint8)
    assert realism.histogram_distance(realism.grey_histogram(a), realism.grey_histogram(b)) == pytest.approx(40)
    assert realism.histogram_distance(realism.grey_histogram(a), realism.grey_histogram(a)) == 0


def test_letterbox_bars_do_not_count():
    a = np.full((1, 64, 64), 200, np.uint8)
    a[:, :20] = 0
    assert realism.grey_histogram(a)[50] == 1


def test_the_classifier_tells_apart_what_differs_and_only_that():
    same = realism.real_or_phantom_auc(_power_law(60, -2, 1), _power_law(60, -2, 2))
    other = realism.real_or_phantom_auc(_power_law(60, -2, 1), _power_law(60, -3, 2))
    assert same < 0.7
    assert other > 0.9


def test_compare_looks_takes_phantoms():
    a = np.stack([render(s, size=64).image for s in range(30)])
    b = np.stack([render(s, size=64, source="field").image for s in range(30)])[..., None]
    out = realism.compare_looks(a, b)
    assert set(out) == {"histogram_distance", "slope_real", "slope_phantoms", "auc"}
    assert -5 < out["slope_phantoms"] < -1
    assert 0 <= out["auc"] <= 1


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="expected images of shape"):
        realism.features(np.zeros((2, 64, 32), np.uint8))
