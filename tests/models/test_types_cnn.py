"""The CNN for fracture types, in Keras and in PyTorch: one network, two frameworks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import keras
import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.experiments.types_torch import torch_probabilities, train_epoch
from fracturelab.models import types_torch
from fracturelab.models.files import load_model, save_model
from fracturelab.models.types_cnn import build_types_cnn
from fracturelab.training.epochs import compile_model, predict, set_seed

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason=types_torch.HOW_TO_GET_IT)
SMALL = {"input_size": 64, "classes": 4}


def images(n: int = 12, size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 1), dtype=np.uint8)


def pair(**options: float):
    import torch

    set_seed(1)
    module = types_torch.build_types_torch(**SMALL, **options)
    for name, array in module.state_dict().items():  # moments and scales that a mistake in their order would show
        if "_norm" in name and array.is_floating_point():
            array.copy_(torch.empty_like(array).uniform_(0.5, 1.5))
    return types_torch.to_keras(module, build_types_cnn(**SMALL, **options)), module


def test_keras_cnn_is_what_its_page_says(tmp_path):
    model = build_types_cnn()
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization", "LeakyReLU", "Dropout"]
    assert [kind for kind in kinds if kind in block] == [*block * 3, "LeakyReLU", "Dropout"]
    assert kinds.count("Dense") == 2
    assert model.input_shape == (None, 128, 128, 1)
    assert model.output_shape == (None, 10)
    answers = predict(model, images(3, 128))
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)
    path = save_model(model, tmp_path / "types.keras", {})
    np.testing.assert_array_equal(predict(load_model(path), images(3, 128)), answers)


@pytest.mark.parametrize(
    ("name", "value"), [("input_size", 100), ("input_size", 16), ("classes", 2), ("classes", True)]
)
def test_what_cannot_be_built_is_refused(name, value):
    with pytest.raises(FracturelabError, match="Received"):
        build_types_cnn(**{**SMALL, name: value})


@needs_torch
@pytest.mark.parametrize("size", [64, 128])
def test_the_two_have_the_same_layers_and_as_many_weights(size):
    twin = build_types_cnn(input_size=size, classes=7)
    model = types_torch.build_types_torch(input_size=size, classes=7)
    assert types_torch.parameter_counts(model) == {
        layer.name: layer.count_params() for layer in twin.layers if layer.weights
    }
    assert sum(p.numel() for p in model.parameters()) == sum(int(np.prod(w.shape)) for w in twin.trainable_weights)
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in twin.layers[1:] if "_pad" not in layer.name}
    assert types_torch.output_shapes(model, input_size=size) == shapes


@needs_torch
def test_weights_move_both_ways_and_the_answers_stay():
    twin, model = pair()
    expected = predict(twin, images())
    np.testing.assert_allclose(torch_probabilities(model, images(), rows=np.arange(12)), expected, atol=1e-5)
    other = types_torch.to_keras(model, build_types_cnn(**SMALL))
    np.testing.assert_array_equal(predict(other, images()), expected)


@needs_torch
def test_pytorch_and_tensorflow_live_in_one_process():
    lines = [
        "import tensorflow as tf; tf.zeros(1) + 1",
        "from fracturelab.models.types_torch import build_types_torch",
        "model = build_types_torch(input_size=64, classes=4)",
        "import torch; torch.optim.AdamW(model.parameters()); print('both')",
    ]  # of PyTorch for NVIDIA's GPUs the last line loads Triton, and the process ended there
    found = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout.strip()) == (0, "both"), found.stderr[-2000:]


@needs_torch
def test_a_training_step_does_the_same_to_both():
    import torch

    twin, model = pair(block_dropout=0.0, dropout=0.0)
    pixels, labels = images().astype(np.float32), np.arange(12) % 4
    compile_model(twin, learning_rate=1e-3, weight_decay=1e-4)
    # Adam's first step is the sign of the gradient, chance where that is almost 0; a larger epsilon makes it smooth.
    twin.optimizer.epsilon = 1e-3 * (1 - 0.999) ** 0.5  # Keras adds it before the bias correction, PyTorch after
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-3, weight_decay=1e-4)
    before = [weight.copy() for weight in twin.get_weights()]
    ours = twin.train_on_batch(pixels, labels)
    theirs = train_epoch(model, optimizer, iter([(pixels, labels.astype(np.float32))]))
    assert theirs == pytest.approx(float(ours), abs=1e-5)
    after = types_torch.to_keras(model, build_types_cnn(**SMALL)).get_weights()
    names = [weight.path for weight in twin.weights]
    for name, old, keras_new, torch_new in zip(names, before, twin.get_weights(), after, strict=True):
        if "seed" in name:
            continue
        assert np.abs(keras_new - old).max() > 1e-4, name
        if "moving_variance" not in name:  # PyTorch keeps the unbiased variance
            np.testing.assert_allclose(keras_new, torch_new, rtol=0, atol=5e-5, err_msg=name)


@needs_torch
def test_the_two_start_alike():
    set_seed(0)
    twin, model = build_types_cnn(), types_torch.build_types_torch()
    for name, layer in model.named_children():
        if hasattr(layer, "weight") and "norm" not in name:
            ours = twin.get_layer(name).get_weights()[0]
            assert float(layer.weight.detach().std()) == pytest.approx(ours.std(), rel=0.15)
            assert float(layer.weight.detach().abs().max()) == pytest.approx(np.abs(ours).max(), rel=0.1)


def test_without_torch_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(types_torch, "find_spec", lambda _: None)
    assert not types_torch.torch_is_here()
    with pytest.raises(FracturelabError, match=r"pip install -r requirements/torch\.txt"):
        types_torch.build_types_torch()


def test_keras_runs_here_on_tensorflow():
    assert keras.backend.backend() == "tensorflow"
