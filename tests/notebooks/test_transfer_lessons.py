"""Notebook 03 writes out the network of the package, and its conclusions agree with its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from fracturelab.models.transfer import build_transfer_model
from fracturelab.models.weights import resolve
from fracturelab.records import read_record

ROOT = Path(__file__).resolve().parents[2]


def cell(number: str, name: str) -> str:
    [path] = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == name)


def results(name: str) -> dict[str, Any]:
    return read_record(ROOT / "reports" / "results" / f"{name}.json")["results"]


def test_03_writes_out_the_network_of_the_package():
    import keras

    names: dict[str, Any] = {}
    exec(cell("03", "imports"), names)
    exec(cell("03", "network"), names)
    info = resolve("ResNet50", "bundled")
    networks = []
    for build in (names["frozen_network"], lambda info, size: build_transfer_model(weights=info, input_size=size)):
        keras.utils.set_random_seed(3)
        networks.append(build(info, 32))
    inline, ours = networks
    assert [layer.name for layer in inline.layers] == [layer.name for layer in ours.layers if layer.name != "dropout"]
    assert not any(layer.trainable for layer in inline.layers[:-1] if layer.weights)
    for mine, theirs in zip(inline.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_03_concludes_what_it_measured():
    v1, v2 = (results(name)["evaluations"]["validation"]["metrics"]["roc_auc"]["value"] for name in ("02-v1", "03-v2"))
    assert 0.93 < v2 < 0.97
    assert 0 < v2 - v1 < 0.06
    found = results("03-starts")
    assert found["v2 minus v1"]["low"] < 0 < found["v2 minus v1"]["high"]
    curves = {name: curve["value"] for name, curve in found["learning_curve"].items()}
    borrowed, photographs = curves["v2"], curves["ImageNet"]
    assert abs(borrowed[0] - v1) < 0.05
    assert all(
        0.4 < low <= high < 0.6
        for low, high in zip(*(found["learning_curve"]["random weights"][key] for key in ("low", "high")), strict=True)
    )
    assert photographs[0] < borrowed[0]
    assert abs(photographs[1] - borrowed[1]) < 0.03
    assert all(theirs > ours for theirs, ours in zip(photographs[2:], borrowed[2:], strict=True))
    careless, gentle = (found["fine_tuning"][rate] for rate in ("0.01", "1e-05"))
    assert careless["loss"][1] > 5 * careless["loss"][0]
    assert max(careless["auc"][1:]) < careless["auc"][0] - 0.01
    assert np.ptp(gentle["auc"]) < 0.01
