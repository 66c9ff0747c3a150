"""The networks of notebook 05 are alike, and the conclusions of notebooks 04 to 07 agree with their records."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest

from fracturelab.records import read_record

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "reports" / "results"


def results(name: str) -> dict[str, Any]:
    return read_record(RESULTS / f"{name}.json")["results"]


def column(rows: list[dict[str, float]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])


def test_04_concludes_where_the_loss_comes_from():
    for name, (home, abroad) in {"v1": (0.91, 0.66), "v2": (0.97, 0.86)}.items():
        tested = results(f"04-{name}")["evaluations"]
        assert tested["same hospital, new"]["metrics"]["roc_auc"]["value"] == pytest.approx(home, abs=0.015)
        assert tested["elsewhere"]["metrics"]["roc_auc"]["value"] == pytest.approx(abroad, abs=0.015)
    found = results("04-comparison")
    causes = {name: {model: score["value"] for model, score in by.items()} for name, by in found["causes"].items()}
    for model, bare, home in (("v1", 0.77, 0.90), ("v2", 0.92, 0.96)):
        as_it_is, together = causes["as it is"][model], causes["all four"][model]
        gains = {name: by[model] - as_it_is for name, by in causes.items() if name not in ("as it is", "all four")}
        assert max(gains, key=gains.__getitem__) == "nothing on the picture"
        assert causes["nothing on the picture"][model] == pytest.approx(bare, abs=0.015)
        assert gains["not photographed"] < 0.03
        assert sum(gains.values()) < together - as_it_is
        assert together == pytest.approx(home, abs=0.015)


def test_04_concludes_what_real_xrays_show():
    found = results("04-comparison")
    tested = found["fracatlas"]
    for name, auc, specificity in (("shipped", 0.900, 0.69), ("v2", 0.855, 0.57), ("v1", 0.805, 0.45)):
        assert tested[name]["n"] == 856
        assert tested[name]["metrics"]["roc_auc"]["value"] == pytest.approx(auc, abs=0.002)
        assert found["at_90"][name][1] == pytest.approx(specificity, abs=0.006)
    sensitivity, specificity = found["at_90"]["shipped"]
    for prevalence, right in ((0.05, 13), (0.5, 74)):
        hits, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
        assert round(100 * hits / (hits + alarms)) == right
    error = found["calibration_error"]
    assert error["v1"]["before"] == pytest.approx(0.26, abs=0.01) and error["v1"]["after"] < 0.05
    assert error["v2"]["before"] == pytest.approx(0.16, abs=0.01) and error["v2"]["after"] < 0.05
    assert error["shipped"]["before"] < 0.03
    assert found["few_images"]["shipped"]["low"][0] < 0.6 and found["few_images"]["shipped"]["high"][0] == 1.0
    answers = pd.read_csv(RESULTS / "answers-fracatlas.csv")
    real = answers[answers["part"] == "test"]
    metal = real[real["hardware"].astype(bool)]
    assert len(metal) == metal["label"].sum() == 18
    threshold = results("answers-fracatlas")["models"]["shipped"]["threshold"]
    wrong = real[(real["shipped"] >= threshold) != (real["label"] == 1)]
    assert (wrong["label"] == 0).mean() > 0.8 and not wrong["hardware"].astype(bool).any()


def test_04_concludes_that_a_few_xrays_win_little_back():
    back = {name: by["v1"] for name, by in results("04-comparison")["few_from_elsewhere"].items()}
    none, fifty, two_hundred = (back[f"{few} added"] for few in (0, 50, 200))  # mean, lowest, highest
    assert none[0] == pytest.approx(0.69, abs=0.02)
    assert fifty[1] < none[0] < fifty[2]
    assert 0.01 < two_hundred[0] - none[0] < 0.06
    assert two_hundred[0] < 0.8


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: make test-everything")
def test_05_writes_one_network_in_two_frameworks():
    import keras

    cells = {cell.id: cell.source for cell in nbformat.read(ROOT / "notebooks/05_fracture_types.ipynb", 4).cells}
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1)).astype(np.uint8)
    names: dict[str, Any] = {}
    exec(cells["imports"], names)
    names |= {"SIZE": 64, "FILTERS": (4, 8, 16), "names": list("abcdefghij"), "images": pixels}
    for cell in ("keras", "torch", "move"):
        exec(cells[cell], names)
    keras.utils.set_random_seed(3)
    model, net = names["network_in_keras"](), names["network_in_torch"]()
    model(pixels.astype(np.float32), training=True)  # moves the means and variances of batch norm
    names["move"](model, net)
    answers = names["answers_of"](net, np.arange(3))
    np.testing.assert_allclose(model(pixels.astype(np.float32)), answers, atol=1e-5)
    assert np.ptp(answers, axis=0).max() > 1e-3
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert sum(weight.numel() for weight in net.parameters()) == trained


def test_05_concludes_what_it_measured():
    tested = {name: results(f"05-types-{name}")["evaluations"]["test"] for name in ("keras", "pytorch", "pretrained")}
    accuracy = {name: scores["metrics"]["accuracy"]["value"] for name, scores in tested.items()}
    assert accuracy == pytest.approx({"keras": 0.64, "pytorch": 0.69, "pretrained": 0.85}, abs=0.03)
    runs = pd.DataFrame(results("types-over-seeds")["runs"]).set_index("set")
    easy, harder = runs.loc["types"], runs.loc["harder"]
    assert len(easy) == 3
    cnn, twin, pretrained = (easy[name] for name in ("CNN, Keras", "CNN, PyTorch", "pretrained"))
    assert min(cnn.min(), twin.min()) >= 0.4 and pretrained.min() >= 0.6
    assert abs(cnn.mean() - twin.mean()) < np.ptp(cnn)
    assert harder["CNN, Keras"] < 0.17
    assert harder["pretrained"] == pytest.approx(0.30, abs=0.06)
    names, matrix = tested["keras"]["class_names"], np.array(tested["keras"]["confusion_matrix"])
    share = dict(zip(names, matrix.diagonal() / matrix.sum(axis=1), strict=True))
    assert share["avulsion"] == max(share.values()) > 0.85
    assert sorted(share, key=share.__getitem__)[:2] == ["oblique", "greenstick"]
    mixed = np.triu(matrix + matrix.T, 1)
    first, second = (
        {names[i] for i in divmod(place, 10)} for place in np.argsort(-mixed, axis=None, kind="stable")[:2]
    )
    assert first == {"oblique", "greenstick"} and second == {"fracture dislocation", "impacted"}


def test_06_concludes_what_it_measured():
    found = results("06-backbones")
    auc = {name: scores["metrics"]["roc_auc"] for name, scores in found["evaluations_by_member"].items()}
    value = {name: score["value"] for name, score in auc.items()}
    strong = ("ResNet50", "EfficientNetLite0", "EfficientNetLite2")
    assert min(value[f"{name}, unseen"] for name in strong) > 0.93
    assert max(auc[f"{name}, unseen"]["low"] for name in strong) < min(
        auc[f"{name}, unseen"]["high"] for name in strong
    )
    assert value["MobileNetV2, unseen"] < 0.8
    work = {name: member["multiplications (millions)"] for name, member in found["members"].items()}
    assert 8 < work["ResNet50"] / work["EfficientNetLite0"] < 12
    names = list(found["members"])
    alike = np.array(found["alike"])
    lite = [names.index("EfficientNetLite0"), names.index("EfficientNetLite2")]
    assert alike[lite[0], lite[1]] > 0.75 > 0.6 > alike[names.index("ResNet50"), lite].max()
    paired = found["against_best_member"]
    assert found["best_member"] == "EfficientNetLite0"
    assert 0 < paired["difference"]["value"] < 0.04
    assert paired["mcnemar"]["only_b"] > paired["mcnemar"]["only_a"]
    for name in [*names, "ensemble"]:
        assert value[f"{name}, field"] < value[f"{name}, unseen"] - 0.05
    assert value["ResNet50, field"] > value["EfficientNetLite0, field"] + 0.05
    assert value["ensemble, field"] < value["ResNet50, field"] + 0.01


def test_07_concludes_what_it_measured():
    found = results("07-splits-and-folds")
    splits, folds, by_image = (found[name] for name in ("splits", "folds", "by_image"))
    aucs = column(splits, "AUC")
    assert len(splits) == 20 and len(folds) == 5
    assert aucs.mean() == pytest.approx(0.88, abs=0.015)
    assert aucs.max() - aucs.min() > 0.08  # one recipe: one split reports a fair model, another a very good one
    assert column(folds, "AUC").std(ddof=1) < found["luck"]
    every = [*splits, *folds]
    lowest, highest = (every[place] for place in np.argsort(column(every, "validation AUC"))[[0, -1]])
    assert highest is folds[3] and highest["validation AUC"] > 0.9
    assert highest["AUC"] > 0.8 and highest["sensitivity"] < 0.5 < 0.65 < lowest["sensitivity"]
    assert np.corrcoef(column(every, "validation AUC"), column(every, "AUC"))[0, 1] < 0.3
    leak = column(by_image, "AUC").mean() - aucs.mean()
    assert 0.01 < leak < aucs.max() - aucs.min()
    assert 0.5 < column(by_image, "patient in training").mean() < 0.8
    gains = [row["studies"] - row["images"] for row in found["studies"]]
    assert min(gains) > 0 and np.mean(gains) == pytest.approx(0.03, abs=0.01)
    holdout = found["holdout"]["metrics"]["roc_auc"]
    assert holdout["low"] < column(folds, "AUC").mean() < holdout["high"]
    assert holdout["high"] - holdout["low"] > 0.2
