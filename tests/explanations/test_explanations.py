from __future__ import annotations

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.explanations import (
    blend,
    centre_maps,
    deletion_curves,
    grad_cam,
    insertion_curves,
    lime_maps,
    occlusion_maps,
    on_radiograph,
    pointing_hits,
    random_maps,
    sanity_check,
    score_maps,
    shap_maps,
    to_unit,
)
from fracturelab.explanations.gradcam import GradCam, cam_layers, explainer
from fracturelab.explanations.randomisation import shuffled
from fracturelab.explanations.scores import heat_inside
from fracturelab.images import letterbox

SIZE = 64


def spot_images(n: int = 4) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Noise with one bright square of 12 pixels, and the square's box."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (n, SIZE, SIZE, 1)).astype(np.uint8)
    boxes = []
    for image in images:
        y, x = rng.integers(4, SIZE - 16, 2)
        image[y : y + 12, x : x + 12] = 250
        boxes.append((int(x), int(y), int(x) + 12, int(y) + 12))
    return images, boxes


def brightness(images: np.ndarray) -> np.ndarray:
    """P(fractured) that follows from the bright square alone."""
    bright = (np.asarray(images, np.float64) > 128).mean(axis=(1, 2, 3))
    return 1 / (1 + np.exp(-(200 * bright - 3)))


def spot_model():
    """A CNN whose answer is how much brightness there is, by weights set by hand."""
    import keras
    from keras import layers

    inputs = keras.Input((SIZE, SIZE, 1))
    x = layers.Conv2D(2, 3, padding="same", use_bias=False, name="conv")(layers.Rescaling(1 / 255)(inputs))
    x = layers.Activation("relu", name="relu")(x)
    x = layers.AveragePooling2D(4, name="pool")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="p_fracture")(x))
    kernel = np.zeros((3, 3, 1, 2), np.float32)
    kernel[..., 0, 0], kernel[1, 1, 0, 1] = 1 / 9, 0.1
    model.get_layer("conv").set_weights([kernel])
    model.get_layer("p_fracture").set_weights([np.array([[20.0], [1.0]]), np.array([-2.0])])
    return model


@pytest.fixture(scope="module")
def transfer():
    from fracturelab.models.transfer import STANDARDISE, build_transfer_model

    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        model = build_transfer_model("MobileNet", weights="none", input_size=SIZE, backbone_options={"alpha": 0.25})
    rng = np.random.default_rng(1)
    layer = model.get_layer(STANDARDISE)
    layer.set_weights(
        [
            rng.normal(0, 0.1, w.shape) if i == 0 else rng.uniform(0.5, 2, w.shape)
            for i, w in enumerate(layer.get_weights())
        ]
    )
    return model


def test_grad_cam_of_a_model_that_sees_brightness_finds_the_bright_square():
    images, boxes = spot_images()
    model = spot_model()
    assert cam_layers(model) == ("relu",)
    maps = grad_cam(model, images)
    assert maps.shape == images.shape[:3]
    assert maps.dtype == np.float32
    assert pointing_hits(maps, boxes, tolerance=0.0).tolist() == [1, 1, 1, 1]


def test_the_two_maps_of_a_transfer_model_sum_to_its_logit_up_to_a_constant(transfer):
    assert len(cam_layers(transfer)) == 2
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (6, SIZE, SIZE, 1)).astype(np.uint8)
    answers, heat = GradCam(transfer)(images, batch_size=4)
    np.testing.assert_allclose(answers, transfer.predict(images.astype(np.float32), verbose=0)[:, 0], atol=1e-5)
    rest = np.log(answers / (1 - answers)) - heat.sum(axis=(1, 2))
    # Bilinear stretching keeps a map's sum but for its rim.
    assert np.ptp(rest) < 0.1 * np.ptp(np.log(answers / (1 - answers))) + 0.02


def test_grad_cam_of_v1_takes_the_last_activation():
    from fracturelab.models.cnn import build_cnn

    assert cam_layers(build_cnn(input_size=SIZE)) == ("block4_relu",)


def test_grad_cam_refuses_what_it_cannot_explain(transfer):
    from fracturelab.models.cnn import build_cnn

    with pytest.raises(FracturelabError, match="expected images of shape"):
        grad_cam(transfer, np.zeros((1, 32, 32, 1), np.uint8))
    with pytest.raises(FracturelabError, match=r"Received: Dense of shape \(None, 4\)"):
        GradCam(build_cnn(input_size=SIZE, classes=4))
    assert grad_cam(transfer, np.zeros((0, SIZE, SIZE, 1), np.uint8)).shape == (0, SIZE, SIZE)


def test_occlusion_finds_what_the_answer_hangs_on_and_its_sign():
    images, boxes = spot_images()
    maps = occlusion_maps(brightness, images, patch=0.2, stride=0.1)
    assert pointing_hits(maps, boxes, tolerance=0.05).mean() > 0.8
    opposite = occlusion_maps(lambda batch: 1 - brightness(batch), images, patch=0.2, stride=0.1)
    assert opposite.max() < 0.5 < maps.max()
    with pytest.raises(ValueError, match="stride"):
        occlusion_maps(brightness, images, patch=0.1, stride=0.2)


def test_lime_through_its_library():
    pytest.importorskip("lime", reason="LIME is not installed")
    images, boxes = spot_images(2)
    maps = lime_maps(brightness, images, samples=120, segments=40, seed=3)
    assert heat_inside(maps, boxes).mean() > 0.4
    np.testing.assert_array_equal(maps, lime_maps(brightness, images, samples=120, segments=40, seed=3))


def test_shap_through_its_library():
    pytest.importorskip("shap", reason="SHAP is not installed")
    images, boxes = spot_images(2)
    maps = shap_maps(brightness, images, evaluations=200)
    assert heat_inside(maps, boxes).mean() > 0.4


def test_pointing_game_counts_tolerance_ties_and_empty_maps():
    maps = np.zeros((5, 100, 100), np.float32)
    maps[0, 50, 50] = 1  # inside
    maps[1, 50, 64] = 1  # 5 pixels right of the last column of the box
    maps[2, 50, 65] = 1  # 6 pixels
    maps[3, 50, [50, 90]] = 1  # one of two
    box = (40, 40, 60, 60)
    assert pointing_hits(maps, [box] * 5, tolerance=0.05).tolist() == [1, 1, 0, 0.5, 0]
    assert pointing_hits(maps, [box] * 5, tolerance=0.0).tolist() == [1, 0, 0, 0.5, 0]


def test_heat_inside_is_the_share_of_area_for_a_flat_map():
    maps = np.ones((2, 50, 50), np.float32)
    maps[1] = 0
    assert heat_inside(maps, [(0, 0, 10, 5), (0, 0, 10, 5)]).tolist() == [pytest.approx(50 / 2500), 0]


def test_scores_refuse_what_they_cannot_score():
    maps = np.ones((2, 50, 50), np.float32)
    with pytest.raises(ValueError, match="box for each"):
        heat_inside(maps, [(0, 0, 10, 5)])
    with pytest.raises(ValueError, match="x0 < x1"):
        pointing_hits(maps, [(0, 0, 0, 5)] * 2)
    with pytest.raises(ValueError, match="nowhere negative"):
        heat_inside(-maps, [(0, 0, 10, 5)] * 2)


def test_deletion_falls_and_insertion_rises_fastest_along_a_true_map():
    images, boxes = spot_images()
    true = np.zeros(images.shape[:3], np.float32)
    for heat, (x0, y0, x1, y1) in zip(true, boxes, strict=True):
        heat[y0:y1, x0:x1] = 1
    wrong = 1 - true
    good, bad = (deletion_curves(brightness, images, maps, steps=8) for maps in (true, wrong))
    assert good.shape == (4, 9)
    np.testing.assert_allclose(good[:, 0], brightness(images))
    np.testing.assert_allclose(good[:, -1], bad[:, -1])
    assert good.mean() < bad.mean() - 0.3
    assert (
        insertion_curves(brightness, images, true, steps=8).mean()
        > 0.3 + insertion_curves(brightness, images, wrong, steps=8).mean()
    )


def test_scores_of_a_method_come_with_intervals_and_beat_the_references():
    images, boxes = spot_images(30)
    true = np.zeros(images.shape[:3], np.float32)
    for heat, (x0, y0, x1, y1) in zip(true, boxes, strict=True):
        heat[y0:y1, x0:x1] = 1
    good = score_maps(true, boxes)
    chance = score_maps(random_maps(30, SIZE), boxes)
    middle = score_maps(centre_maps(30, SIZE), boxes)
    assert good.pointing.value == 1
    assert good.pointing.low > max(chance.pointing.high, middle.pointing.high)
    assert good.inside.value == 1


def test_reference_maps_know_nothing():
    one, two = random_maps(3, 40, seed=1), random_maps(3, 40, seed=1)
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one[0], one[1])
    centre = centre_maps(2, 41)
    assert np.unravel_index(centre[0].argmax(), (41, 41)) == (20, 20)
    np.testing.assert_array_equal(centre[0], centre[1])


def test_shuffling_keeps_the_model_and_each_arrays_values():
    model = spot_model()
    before = model.get_weights()
    copy = shuffled(model, share=1.0, seed=1)
    for old, same, new in zip(before, model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(old, same)
        np.testing.assert_array_equal(np.sort(old.ravel()), np.sort(new.ravel()))
    last = shuffled(model, share=0.5, seed=1)
    np.testing.assert_array_equal(last.get_layer("conv").get_weights()[0], before[0])


def test_a_map_of_edges_fails_the_sanity_check_and_grad_cam_passes(transfer):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, SIZE, SIZE, 1)).astype(np.uint8)

    def edges(model, batch):
        return np.abs(np.diff(batch[..., 0].astype(np.float32), axis=1, prepend=0))

    blind = sanity_check(transfer, edges, images, shares=(0.5, 1.0))
    assert not blind.depends_on_weights
    assert "not what the answer depends on" in blind.sentence("edges")
    seeing = sanity_check(transfer, lambda m, x: GradCam(m)(x)[1], images, shares=(0.5, 1.0))
    assert seeing.depends_on_weights
    assert seeing.correlations.shape == (2, 3)


def test_heat_lies_where_it_belongs_on_the_radiograph():
    picture = np.zeros((300, 120, 1), np.uint8)
    picture[200:220, 30:60] = 255
    square = letterbox(picture, SIZE)
    back = on_radiograph(square[..., 0] / 255, (300, 120))
    assert back.shape == (300, 120)
    y, x = np.nonzero(back > 0.5)
    assert abs(y.mean() - 209.5) < 3
    assert abs(x.mean() - 44.5) < 3


def test_overlay_and_unit_scale():
    image = np.full((4, 4), 100, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[0, 0] = 1
    np.testing.assert_array_equal(blend(image, heat, opacity=0.0), np.full((4, 4, 3), 100))
    mixed = blend(image, heat, opacity=1.0)
    assert mixed[0, 0].tolist() == [230, 30, 20]
    assert mixed[3, 3].tolist() == [100, 100, 100]
    unit = to_unit(np.stack([heat * 7 - 1, np.zeros((4, 4))]))
    assert unit.max() == 1
    assert unit.min() == 0
    assert unit[1].max() == 0
    with pytest.raises(ValueError, match="opacity"):
        blend(image, heat, opacity=2)


def test_a_map_in_units_keeps_its_places():
    maps = np.random.default_rng(0).uniform(0.1, 3, (2, 5, 4))
    np.testing.assert_allclose(to_unit(maps), maps / maps.max(axis=(1, 2), keepdims=True), rtol=1e-6)


def test_the_own_map_of_a_model_whose_backbone_has_a_layer_named_activation():
    import keras

    image = keras.Input((32, 32, 1))
    features = keras.layers.Activation("relu", name="activation")(keras.layers.Conv2D(2, 3)(image))
    cells = keras.layers.Conv2D(1, 1, name="cells")(features)
    pooled = keras.layers.GlobalAveragePooling2D()(cells)
    model = keras.Model(image, keras.layers.Dense(1, "sigmoid")(pooled))
    keras.backend.clear_session()  # a process that has loaded the model counts names from the start
    answers, maps = explainer(model, "cells")(np.zeros((2, 32, 32, 1), np.uint8))
    assert answers.shape == (2,) and maps.shape == (2, 30, 30)
