"""Platt scaling: it recovers a known distortion, keeps the ranking, and is part of the model afterwards."""

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.training.calibration import PlattScaling, check_enough, fit_platt, fold_in


def sample(n=20_000, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.5, 1.5, n)
    return (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(int), logits


def test_a_known_distortion_is_undone():
    labels, logits = sample()
    distorted = 1 / (1 + np.exp(-(2 * logits + 1.5)))
    scaling = fit_platt(labels, distorted)
    assert scaling.slope == pytest.approx(0.5, abs=0.04)
    assert scaling.shift == pytest.approx(-0.75, abs=0.06)
    assert scaling(distorted).mean() == pytest.approx(labels.mean(), abs=1e-3)
    assert abs(distorted.mean() - labels.mean()) > 0.05


def test_the_ranking_stays():
    labels, logits = sample(500)
    p = 1 / (1 + np.exp(-logits))
    np.testing.assert_array_equal(np.argsort(fit_platt(labels, p)(p), kind="stable"), np.argsort(p, kind="stable"))


def test_one_class_and_a_reversed_model_are_refused():
    labels, logits = sample(500)
    with pytest.raises(FracturelabError, match="one class"):
        fit_platt(np.zeros(500), 1 / (1 + np.exp(-logits)))
    with pytest.raises(FracturelabError, match="turned around"):
        fit_platt(1 - labels, 1 / (1 + np.exp(-logits)))


def test_a_handful_of_images_is_refused():
    check_enough([0] * 50 + [1] * 50)
    with pytest.raises(FracturelabError, match="Received: 60 normal, 18 fractured; leave --calibrate out"):
        check_enough([0] * 60 + [1] * 18)


def test_folded_in_the_model_answers_calibrated():
    from fracturelab.models.cnn import build_cnn

    model = build_cnn(input_size=32)
    images = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 1)).astype(np.float32)
    before = np.asarray(model(images))
    scaling = PlattScaling(0.6, -1.1)
    fold_in(model, scaling)
    np.testing.assert_allclose(np.asarray(model(images)), scaling(before), atol=1e-6)


def test_a_model_with_several_classes_is_refused():
    import keras

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(inputs))
    with pytest.raises(FracturelabError, match="one sigmoid"):
        fold_in(model, PlattScaling(1.0, 0.0))
