"""Localising: the maps that are compared, and the rows that costly methods see."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pytest

from fracturelab.errors import FracturelabError
from scripts import localise
from tests.datasets.test_fracatlas import fracatlas


def test_a_model_may_have_a_map_of_its_own():
    inputs = keras.Input((32, 32, 1))
    cells = keras.layers.Conv2D(1, 8, 8, kernel_initializer=keras.initializers.Constant(1 / 64), name="cells")(inputs)
    output = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(cells))
    model, mean = keras.Model(inputs, output), np.ones((32, 32), np.float32)
    names = ["Grad-CAM", "centre", "random", "mean of training outlines"]
    assert list(localise.cheap_methods(model, None, mean, seed=0)) == names
    methods = localise.cheap_methods(model, "cells", mean, seed=0)
    images = np.zeros((20, 32, 32, 1), np.uint8)
    images[:, 8:16, 16:24] = 10
    assert all(methods[name](images).shape == (20, 32, 32) for name in names[1:])
    maps = methods["the model's own map"](images)  # the brightness of each cell, as a probability
    assert maps.shape == (20, 32, 32)
    assert maps[3, 12, 20] == pytest.approx(1, abs=0.15)
    assert maps[3, 28, 4] == pytest.approx(0.5)


def test_the_mean_of_training_outlines_leaves_other_parts_alone(tmp_path):
    from fracturelab.datasets import read_dataset

    table = read_dataset(fracatlas(tmp_path, ""))
    mean = localise.training_mean(table.assign(split=pd.array(["train", "test", "val"], dtype="string")), 64)
    assert mean.shape == (64, 64)
    assert mean[10 + 10, 35] > 0.5  # within the triangle
    with pytest.raises(FracturelabError, match="expected fractured X-rays"):
        localise.training_mean(table.assign(split=pd.array(["test", "train", "val"], dtype="string")), 64)


def test_costly_methods_see_as_many_of_each_class():
    table = pd.DataFrame({"label": pd.array([1] * 5 + [0] * 30, dtype="Int64")})
    rows = localise.subset(table, 8, seed=0)
    assert (table["label"].iloc[rows] == 1).sum() == 5
    assert len(rows) == 13
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, localise.subset(table, 8, seed=0))
