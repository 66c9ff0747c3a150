"""The hybrid of convolutions and attention, and the small plain CNN."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.explanations.gradcam import cam_layers, grad_cam
from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import load_model, save_model
from fracturelab.models.hybrid import build_hybrid
from fracturelab.training.epochs import compile_model, predict, set_seed

SMALL = {"input_size": 32, "width": 16, "heads": 2}


def images(n: int = 8, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 1), dtype=np.uint8)


def test_hybrid_is_one_flat_graph_that_opens_again(tmp_path):
    set_seed(0)
    model = build_hybrid(**SMALL, blocks=2)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert sum(isinstance(layer, keras.layers.MultiHeadAttention) for layer in model.layers) == 2
    assert model.get_layer("map").output.shape == (None, 4, 4, 16)
    answers = predict(model, images())
    assert answers.shape == (8,) and ((answers > 0) & (answers < 1)).all()
    path = save_model(model, tmp_path / "hybrid.keras", {})
    np.testing.assert_array_equal(predict(load_model(path), images()), answers)


def test_attention_relates_places_that_no_convolution_joins():
    """One pixel far away moves every cell of the map; without attention it could move its neighbours alone."""
    set_seed(0)
    model = build_hybrid(input_size=128, width=16, heads=2, blocks=1)
    before = keras.Model(model.input, model.get_layer("block1_placed").output)
    after = keras.Model(model.input, model.get_layer("map").output)
    one = images(1, 128)
    other = one.copy()
    other[0, :8, :8] = 255 - other[0, :8, :8]
    corner = (slice(None), slice(-4, None), slice(-4, None))
    assert np.array_equal(before.predict_on_batch(one)[corner], before.predict_on_batch(other)[corner])
    assert not np.allclose(after.predict_on_batch(one)[corner], after.predict_on_batch(other)[corner], atol=1e-6)


def test_hybrid_learns_and_can_be_explained():
    set_seed(0)
    model = build_hybrid(**SMALL, blocks=1, dropout=0.0)
    rng = np.random.default_rng(1)
    labels = np.arange(32) % 2
    xrays = (rng.integers(0, 80, (32, 32, 32, 1)) + 120 * labels[:, None, None, None]).astype(np.uint8)
    compile_model(model, learning_rate=3e-3)
    model.fit(xrays.astype(np.float32), labels.astype(np.float32), epochs=12, verbose=0)
    answers = predict(model, xrays)
    assert answers[labels == 1].min() > answers[labels == 0].max()
    assert cam_layers(model) == ("map",)
    assert grad_cam(model, xrays[:2]).shape == (2, 32, 32)


@pytest.mark.parametrize("wrong", [{"input_size": 36}, {"input_size": 16}, {"width": 18}, {"heads": 3}, {"blocks": 0}])
def test_hybrid_refuses_what_cannot_be_built(wrong):
    with pytest.raises(FracturelabError, match="expected"):
        build_hybrid(**{**SMALL, **wrong})


def test_cnn_with_few_filters_is_small_and_the_usual_one_unchanged():
    usual, small = build_cnn(input_size=32), build_cnn(input_size=32, filters=(8, 16))
    assert [layer.filters for layer in small.layers if isinstance(layer, keras.layers.Conv2D)] == [8, 16]
    assert [layer.filters for layer in usual.layers if isinstance(layer, keras.layers.Conv2D)] == [32, 64, 128, 256]
    assert small.count_params() < usual.count_params() / 50
    for wrong in ((), (8, 0), (8,) * 6):
        with pytest.raises(FracturelabError, match="expected filters"):
            build_cnn(input_size=32, filters=wrong)
