"""A backbone trained whole."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from fracturelab.experiments.backbones import WHOLE, train_whole, unfreeze_whole
from fracturelab.models.transfer import STANDARDISE, build_transfer_model
from fracturelab.training.epochs import predict
from fracturelab.training.prepare import prepare_arrays

SMALL = {"backbone": "MobileNet", "backbone_options": {"alpha": 0.25}}


@pytest.fixture(scope="module")
def prepared():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = rng.integers(0, 90, (80, 32, 32, 1)) + 120 * labels[:, None, None, None]
    return prepare_arrays(images.astype(np.uint8), labels, np.arange(80), source="grey", val=0.25)


def test_every_layer_is_trained_but_the_one_that_standardises():
    with pytest.warns(UserWarning, match="RANDOM WEIGHTS"):
        model = build_transfer_model(
            "MobileNet", weights="none", input_size=32, backbone_options=SMALL["backbone_options"]
        )
    assert len(model.trainable_weights) == 2  # as it comes: the head alone
    unfreeze_whole(model)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert [layer.name for layer in model.layers if not layer.trainable] == [STANDARDISE]
    assert {layer.momentum for layer in norms if layer.name != STANDARDISE} == {0.9}


@pytest.mark.filterwarnings("error:RANDOM WEIGHTS")
def test_its_loss_falls_and_its_record_names_the_recipe(prepared):
    schedule = replace(WHOLE, epochs=4, batch_size=16, learning_rate=3e-3, patience=4, dropout=0.0)
    fit = train_whole(prepared, schedule=schedule, **SMALL)
    assert fit.weights.kind == "none" and fit.chosen == "whole" and fit.recipe["recipe"] == "whole"
    assert fit.history["loss"].iloc[1:].min() < fit.history["loss"].iloc[0]
    assert fit.candidates["whole"]["val_loss"] == pytest.approx(fit.history["val_loss"].min(), rel=1e-3)


@pytest.mark.long
def test_it_repeats_itself(prepared):
    fit, again = (train_whole(prepared, **SMALL, schedule=replace(WHOLE, epochs=2, batch_size=16)) for _ in range(2))
    for one, other in zip(fit.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    val = prepared.rows("val")
    np.testing.assert_array_equal(
        predict(fit.model, prepared.images, rows=val), predict(again.model, prepared.images, rows=val)
    )


@pytest.mark.long
def test_it_stops_when_validation_no_longer_gets_better(prepared):
    fit = train_whole(prepared, **SMALL, schedule=replace(WHOLE, patience=1, learning_rate=1e-9))
    assert len(fit.history) < 30
