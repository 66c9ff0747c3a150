import keras
import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.models.cnn import build_cnn
from fracturelab.models.transfer import (
    FEATURES,
    build_transfer_model,
    default_input_size,
    freeze_line,
    set_norm_moments,
    split_at,
    unfreeze,
)
from fracturelab.models.weights import WeightsInfo

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1)).astype(np.float32)


def random_model(backbone="MobileNet", **arguments):
    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        return build_transfer_model(backbone, weights=None, input_size=64, **arguments)


def test_cnn_is_the_classic_one():
    model = build_cnn()
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [32, 64, 128, 256]
    assert model.input_shape == (None, 128, 128, 1)
    assert convolutions[0].strides == (2, 2)
    assert model.get_layer("block4_relu").output.shape == (None, 8, 8, 256)
    assert model.get_layer("pooled").output.shape == (None, 512)
    assert model.get_layer("dropout").rate == 0.4
    assert model.layers[-1].name == "p_fracture"


def test_cnn_takes_raw_pixels_and_gives_probabilities():
    answers = np.asarray(build_cnn(input_size=64)(IMAGES))
    assert answers.shape == (3, 1)
    assert ((answers > 0) & (answers < 1)).all()


def test_more_than_two_classes_sum_to_one():
    for model in (build_cnn(input_size=64, classes=10), random_model(classes=10)):
        answers = np.asarray(model(IMAGES))
        assert answers.shape == (3, 10)
        np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    with pytest.raises(FracturelabError, match="at least 2"):
        build_cnn(classes=1)
    with pytest.raises(FracturelabError, match="32 to 2048"):
        build_cnn(input_size=8)


def test_transfer_model_is_flat_and_frozen_but_for_the_head():
    model = random_model(backbone_options={"alpha": 0.25})
    assert not any(isinstance(layer, keras.Model | keras.layers.Lambda) for layer in model.layers)
    assert [weight.path.split("/")[0] for weight in model.trainable_weights] == ["p_fracture", "p_fracture"]
    assert model.get_layer(FEATURES).output.shape == (None, 128 + 256)


@pytest.mark.parametrize("backbone", ["MobileNetV2", "ResNet50V2", "ConvNeXtTiny"])
def test_two_parts_are_the_whole(backbone):
    model = random_model(backbone)
    trunk, top = split_at(model, freeze_line(model))
    np.testing.assert_allclose(
        top(trunk(IMAGES, training=False), training=False), model(IMAGES, training=False), atol=1e-6
    )
    assert unfreeze(model, after=freeze_line(model)) > 10_000
    assert not trunk.trainable_weights
    assert len(top.trainable_weights) == len(model.trainable_weights)


def test_batch_norm_stays_in_inference_mode():
    model = random_model(backbone_options={"alpha": 0.25})
    unfreeze(model, after=freeze_line(model))
    before = [np.array(weight) for weight in model.non_trainable_weights]
    model.compile("sgd", "binary_crossentropy")
    model.fit(IMAGES, np.array([0, 1, 0]), verbose=0)
    for weight, old in zip(model.non_trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_random_backbone_can_answer_once_its_norms_are_settled():
    model = random_model(backbone_options={"alpha": 0.25})
    features = keras.Model(model.input, model.get_layer(FEATURES).output)
    faded = np.ptp(np.asarray(features(IMAGES, training=False)), axis=0).max()
    set_norm_moments(model, IMAGES)
    settled = np.ptp(np.asarray(features(IMAGES, training=False)), axis=0).max()
    assert faded < 1e-3 < 0.05 < settled
    assert len(model.trainable_weights) == 2


def test_input_size_follows_the_weights_then_the_backbone():
    info = WeightsInfo("x", "bundled", "ResNet50", "", "", input_size=160)
    assert default_input_size("ResNet50", info) == 160
    assert default_input_size("ResNet50") == 224
    assert default_input_size("MobileNetV2") == 320
