"""The networks that notebooks write out are those of the package, and their conclusions agree with the records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from fracturelab.models.cnn import build_cnn
from fracturelab.records import read_record

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "reports" / "results"


def cell(number: str, name: str) -> str:
    [path] = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == name)


def results(name: str) -> dict[str, Any]:
    return read_record(RESULTS / f"{name}.json")["results"]


def auc(name: str, part: str) -> float:
    return results(name)["evaluations"][part]["metrics"]["roc_auc"]["value"]


def mean(part: str, model: str) -> Callable[[str], float]:
    """Mean AUC of a model over the seeds of a record of baselines, by set."""
    runs = [run["roc_auc"] for run in results(f"baselines-{part}")["runs"] if run["model"] == model]
    assert len(runs) >= 3
    return lambda name: float(np.mean([run[name] for run in runs]))


def test_02_writes_out_the_network_of_the_package():
    import keras
    from keras import layers

    names: dict[str, Any] = {"keras": keras, "layers": layers, "SIZE": 64, "FILTERS": (4, 8, 16)}
    exec(cell("02", "network"), names)
    networks = []
    for build in (names["small_cnn"], lambda: build_cnn(input_size=64, filters=(4, 8, 16))):
        keras.utils.set_random_seed(3)
        networks.append(build())
    inline, ours = networks
    assert [type(layer) for layer in inline.layers] == [type(layer) for layer in ours.layers]
    for mine, theirs in zip(inline.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 1)).astype(np.float32)
    np.testing.assert_allclose(inline(pixels), ours(pixels), atol=1e-6)


def test_the_default_sets_teach_what_the_notebooks_say():
    v1, v2 = mean("v1", "v1"), mean("v2", "v2")
    assert v1("unseen") >= 0.85
    assert v1("field") <= 0.70
    assert v2("unseen") >= 0.93
    assert v2("field") >= 0.78
    assert v1("hard") <= 0.70


def test_the_leak_shows_in_validation_alone():
    flawed, honest = mean("leak", "augment, then split"), mean("leak", "split, then augment")
    runs = results("baselines-leak")["runs"]
    assert len({run["steps"] for run in runs}) == 1
    assert flawed("val") - honest("val") > 0.1
    for name in ("unseen", "field"):
        assert flawed(name) <= honest(name)


def test_01_concludes_what_it_measured():
    found = results("01-audit")
    oblique, hairline = found["changed"]
    assert oblique == pytest.approx(0.15, abs=0.01)
    assert hairline == pytest.approx(0.003, abs=0.0005)
    assert max(item["auc"] for item in found["shortcuts"] if item["auc"] is not None) < 0.6
    assert found["shortcuts_sick"]["image_size"] > 0.9
    planted = sum(number for name, number in found["planted"].items() if "across the split" in name)
    assert found["found"]["test->train"]["near"] == planted == 9
    remembered = {name: one["metrics"]["accuracy"] for name, one in found["traps"]["remembering"].items()}
    assert remembered["split by image"]["value"] > 0.9
    assert remembered["split by patient"]["low"] < 0.5 < remembered["split by patient"]["high"]
    assert found["traps"]["four_images"]["low"] == pytest.approx(0.51, abs=0.005)


def test_02_concludes_what_it_measured():
    assert auc("02-v1", "validation") == pytest.approx(0.92, abs=0.015)
    assert auc("02-v1", "unseen") == pytest.approx(0.91, abs=0.015)
    validation = results("02-v1")["evaluations"]["validation"]["metrics"]["roc_auc"]
    assert validation["low"] < auc("02-v1", "unseen") < validation["high"]
    assert auc("02-v1", "another source (synthetic)") == pytest.approx(0.66, abs=0.015)
    (right, alarms), _ = results("02-v1")["evaluations"]["another source (synthetic)"]["confusion_matrix"]
    assert alarms / (right + alarms) > 0.4
    assert auc("02-v1", "hard set (synthetic)") == pytest.approx(0.61, abs=0.015)
    assert auc("02-v1-flawed", "validation") == pytest.approx(0.99, abs=0.01)
    assert auc("02-v1-flawed", "unseen") == pytest.approx(0.83, abs=0.015)
    augmented, plain = mean("v1", "v1"), mean("v1", "without augmentation")
    assert augmented("unseen") == pytest.approx(0.90, abs=0.01)
    assert augmented("field") == pytest.approx(0.67, abs=0.01)
    assert augmented("unseen") - plain("unseen") == pytest.approx(0.03, abs=0.01)
