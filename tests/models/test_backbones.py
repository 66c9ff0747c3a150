import keras
import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import SCALINGS, build_backbone, check_scaling, default_scaling, feature_layers

PREPROCESSING = {
    "ResNet50": keras.applications.resnet.preprocess_input,
    "VGG16": keras.applications.vgg16.preprocess_input,
    "ResNet50V2": keras.applications.resnet_v2.preprocess_input,
    "MobileNet": keras.applications.mobilenet.preprocess_input,
    "MobileNetV2": keras.applications.mobilenet_v2.preprocess_input,
    "MobileNetV3Small": keras.applications.mobilenet_v3.preprocess_input,
    "DenseNet121": keras.applications.densenet.preprocess_input,
    "DenseNet201": keras.applications.densenet.preprocess_input,
    "EfficientNetB0": keras.applications.efficientnet.preprocess_input,
    "EfficientNetV2B0": keras.applications.efficientnet_v2.preprocess_input,
    "InceptionV3": keras.applications.inception_v3.preprocess_input,
    "InceptionResNetV2": keras.applications.inception_resnet_v2.preprocess_input,
    "Xception": keras.applications.xception.preprocess_input,
    "NASNetMobile": keras.applications.nasnet.preprocess_input,
    "ConvNeXtTiny": keras.applications.convnext.preprocess_input,
}


@pytest.mark.parametrize("name", sorted(PREPROCESSING))
def test_scaling_equals_keras_preprocessing_of_grey(name):
    grey = np.arange(0, 256, 5, dtype=np.float32)
    rgb = np.repeat(grey[None, :, None, None], 3, axis=-1)
    theirs = PREPROCESSING[name](rgb.copy())[0, :, 0]
    scaling = default_scaling(name)
    ours = grey[:, None] * np.array(scaling["scale"]) + np.array(scaling["offset"])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_backbone_sees_what_keras_would_see():
    model = build_backbone("MobileNet", input_size=64, options={"alpha": 0.25})
    theirs = keras.applications.MobileNet(alpha=0.25, include_top=False, weights=None, input_shape=(64, 64, 3))
    theirs.set_weights(model.get_weights())
    grey = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
    rgb = keras.applications.mobilenet.preprocess_input(np.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(model(grey, training=False), theirs(rgb, training=False), atol=1e-4)


def test_backbone_is_one_flat_graph_of_built_in_layers():
    model = build_backbone("ResNet50", input_size=64, trainable=False)
    assert model.input_shape == (None, 64, 64, 1)
    assert not any(isinstance(layer, keras.Model | keras.layers.Lambda) for layer in model.layers)
    assert not model.trainable_weights


@pytest.mark.parametrize(
    ("name", "layers"),
    [("ResNet50", ("conv4_block6_out", "conv5_block3_out")), ("MobileNet", ("conv_pw_11_relu", "conv_pw_13_relu"))],
)
def test_feature_layers_are_the_last_at_two_scales(name, layers):
    model = build_backbone(name, input_size=96)
    assert feature_layers(model) == layers
    assert [model.get_layer(layer).output.shape[1] for layer in layers] == [6, 3]


def test_scaling_can_be_a_mode_or_numbers():
    assert check_scaling("caffe", "MobileNet") == SCALINGS["caffe"]
    assert check_scaling({"scale": 0.5, "offset": [1, 2, 3]}, "MobileNet") == {
        "scale": [0.5] * 3,
        "offset": [1.0, 2.0, 3.0],
    }
    model = build_backbone("MobileNet", input_size=32, options={"alpha": 0.25}, scaling={"scale": 0, "offset": 0})
    grey = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype(np.float32)
    answers = np.asarray(model(grey, training=False))
    np.testing.assert_array_equal(answers[0], answers[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ResNet5000"}, "ResNet5000.*ResNet50"),
        ({"name": "resnet"}, "expected a backbone"),
        ({"input_size": 16}, "32 to 2048"),
        ({"input_size": 64.0}, "32 to 2048"),
        ({"options": {"alpha": 0.5}}, "cannot be built"),
        ({"options": {"include_top": True}}, "include_top"),
        ({"scaling": "loud"}, "scaling to be one of"),
        ({"scaling": {"scale": [1, 2], "offset": 0}}, "scale"),
        ({"scaling": {"scale": 1, "offset": "none"}}, "offset"),
        ({"name": "InceptionV3", "input_size": 32}, "cannot be built at 32 px"),
    ],
)
def test_refusals_say_what_was_wrong(arguments, message):
    with pytest.raises(FracturelabError, match=message):
        build_backbone(**{"name": "ResNet50", "input_size": 64, **arguments})
