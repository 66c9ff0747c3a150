"""The fused batch norm against Keras's own: same outputs, same moving averages, same file."""

import keras
import numpy as np
import pytest

from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import load_model, save_model
from fracturelab.models.norms import _FusedCall, fuse_norms


def norm_network(**options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    norm = keras.layers.BatchNormalization(momentum=0.8, name="norm", **options)
    model = keras.Model(inputs, norm(inputs))
    norm.set_weights([np.random.default_rng(i).uniform(0.5, 2, w.shape) for i, w in enumerate(norm.get_weights())])
    return model


@pytest.fixture
def batch():
    return np.random.default_rng(1).normal(3, 2, (5, 6, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("training", [False, True])
def test_fused_norm_equals_keras(batch, training):
    plain, fused = norm_network(), fuse_norms(norm_network())
    assert isinstance(fused.get_layer("norm").call, _FusedCall)
    before = plain.get_weights()
    np.testing.assert_allclose(fused(batch, training=training), plain(batch, training=training), atol=2e-5)
    for own, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-5)
    moved = not np.allclose(plain.get_weights()[2], before[2])
    assert moved == training


def test_frozen_norm_keeps_its_averages(batch):
    model = fuse_norms(norm_network())
    model.trainable = False
    before = model.get_weights()
    model(batch, training=True)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_cannot_be_fused_is_left_alone():
    model = fuse_norms(norm_network(scale=False))
    assert not isinstance(model.get_layer("norm").call, _FusedCall)


def test_fitting_with_fused_norms_follows_keras(batch):
    labels = np.array([0, 1, 0, 1, 1], np.float32)
    losses = []
    for wrap in (fuse_norms, lambda model: model):
        base = wrap(norm_network())
        model = keras.Model(
            base.input, keras.layers.Dense(1, kernel_initializer="ones")(keras.layers.Flatten()(base.output))
        )
        model.compile(keras.optimizers.SGD(1e-6), "mse", jit_compile=False)
        losses.append(model.fit(batch, labels, epochs=4, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert losses[0][0] > losses[0][-1]


def test_saved_file_holds_keras_layers_alone(tmp_path, batch):
    model = build_cnn(input_size=32)
    path = tmp_path / "cnn.keras"
    save_model(model, path, {"name": "cnn"})
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1)).astype(np.float32)
    own = keras.saving.load_model(path, compile=False, safe_mode=True)
    np.testing.assert_allclose(own(images), model(images), atol=1e-6)
    np.testing.assert_array_equal(load_model(path)(images), model(images))
