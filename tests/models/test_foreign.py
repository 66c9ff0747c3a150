"""Models made elsewhere: one flat graph from raw grey pixels to P(fractured), or one line on what is missing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from fracturelab.errors import FracturelabError
from fracturelab.explanations.gradcam import GradCam
from fracturelab.models.files import save_model
from fracturelab.models.foreign import UNSCALED, adapt
from fracturelab.prediction import load_predictor

SIZE = 32
TURNED = {"class_names": ["fractured", "not fractured"]}
IN_ORDER = {"class_names": ["Normal", "Fracture"]}


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1)).astype(np.float32)


def sequential():
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def nested(end: list, *, scaled: bool = True, channels: int = 3):
    """A colour network inside another, augmentation beside it."""
    trunk = keras.Sequential([keras.Input((SIZE, SIZE, channels)), layers.Conv2D(4, 3), layers.ReLU()], name="trunk")
    inputs = keras.Input((SIZE, SIZE, channels))
    x = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])(inputs)
    x = layers.Rescaling(1 / 127.5, -1)(x) if scaled else x
    x = layers.GlobalAveragePooling2D()(trunk(x))
    for layer in end:
        x = layer(x)
    return keras.Model(inputs, x)


def softmax():
    return [layers.Dense(2), layers.Softmax()]


@pytest.mark.parametrize(
    ("model", "card", "answer"),
    [
        (sequential(), {}, lambda m, x: m(x)[:, 0]),
        (sequential(), TURNED, lambda m, x: 1 - m(x)[:, 0]),
        (nested(softmax()), IN_ORDER, lambda m, x: m(np.repeat(x, 3, -1), training=False)[:, 1]),
        (nested(softmax()), TURNED, lambda m, x: m(np.repeat(x, 3, -1), training=False)[:, 0]),
        (
            nested([layers.Dense(2, activation="sigmoid")], channels=1),
            IN_ORDER,
            lambda m, x: m(x, training=False)[:, 1],
        ),
        (
            nested([layers.Dropout(0.5), layers.Dense(1)], scaled=False),
            {"scaling": "unit"},
            lambda m, x: keras.ops.sigmoid(m(np.repeat(x, 3, -1) / 255, training=False)[:, 0]),
        ),
    ],
    ids=["sequential", "turned", "softmax", "softmax turned", "two sigmoids", "logits"],
)
def test_it_answers_as_the_model_does_and_has_a_map(model, card, answer):
    flat, notes = adapt(model, card, where="m.keras")
    assert notes == ()
    assert flat.output_shape == (None, 1)
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    expected = np.asarray(answer(model, images()))
    np.testing.assert_allclose(np.asarray(flat(images(), training=False))[:, 0], expected, atol=1e-6)
    answers, heat = GradCam(flat)(images())
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    assert heat.shape == (3, SIZE - 2, SIZE - 2)


def test_a_model_of_this_project_stays_as_it_is():
    from fracturelab.models.cnn import build_cnn

    model = build_cnn(input_size=SIZE)
    assert adapt(model, {}, where="m.keras") == (model, ())


def test_what_is_missing_is_one_line():
    three = nested([layers.Dense(3, activation="softmax")])
    oblong = keras.Sequential([keras.Input((SIZE, 2 * SIZE, 1)), layers.Flatten(), layers.Dense(1)])
    open_size = keras.Sequential([keras.Input((None, None, 1)), layers.GlobalMaxPooling2D(), layers.Dense(1)])
    for model, card, words in (
        (nested(softmax()), {}, r'add "class_names": \["normal", "fractured"\]'),
        (nested(softmax()), {"class_names": ["cat", "dog"]}, "expected two class_names .* Received: .'cat', 'dog'"),
        (sequential(), {"class_names": ["fractured"]}, "expected two class_names"),
        (three, {}, "one output, P.fractured., or two"),
        (oblong, {}, "square images"),
        (open_size, {}, '"input_size" in the card'),
    ):
        with pytest.raises(FracturelabError, match=words) as caught:
            adapt(model, card, where="m.keras")
        assert str(caught.value).startswith("m.keras: ")
    assert adapt(open_size, {"input_size": SIZE, "scaling": "none"}, where="m.keras")[0].input_shape[1] == SIZE


def test_a_predictor_takes_such_a_file_and_names_what_it_assumes(tmp_path):
    model = nested([layers.Dense(1, activation="sigmoid")], scaled=False)
    predictor = load_predictor(save_model(model, tmp_path / "theirs.keras", {"threshold": 0.5}))
    assert predictor.notes[0] == UNSCALED
    answers, heat = predictor.explain(images().astype(np.uint8))
    np.testing.assert_allclose(answers, predictor.predict(images().astype(np.uint8)), atol=1e-5)
    assert heat.shape == (3, SIZE, SIZE)


def test_a_model_without_a_map_answers_without_one(tmp_path):
    flat = [keras.Input((SIZE, SIZE, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(1)]
    predictor = load_predictor(save_model(keras.Sequential(flat), tmp_path / "flat.keras", {"threshold": 0.5}))
    answers, heat = predictor.explain(images().astype(np.uint8))
    assert answers.shape == (3,) and heat is None


def test_a_model_with_a_map_of_its_own_shows_that(tmp_path):
    inputs = keras.Input((SIZE, SIZE, 1))
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(inputs))
    cells = layers.Average(name="cells")([layers.Conv2D(1, 1)(x), layers.Conv2D(1, 1)(x)])
    out = layers.Dense(1, activation="sigmoid")(layers.GlobalMaxPooling2D()(cells))
    card = {"threshold": 0.5, "map": "cells"}
    path = save_model(keras.Model(inputs, out), tmp_path / "maps.keras", card)
    predictor = load_predictor(path)
    answers, heat = predictor.explain(images().astype(np.uint8))
    np.testing.assert_allclose(answers, predictor.predict(images().astype(np.uint8)), atol=1e-6)
    assert heat.shape == (3, SIZE, SIZE)
    assert heat.max() <= 1 and heat.min() > 0  # P(fractured) of cells, from their logits
    path.with_suffix(".json").write_text('{"threshold": 0.5, "map": "absent"}')
    with pytest.raises(FracturelabError, match="'absent'"):
        load_predictor(path).explain(images().astype(np.uint8))
