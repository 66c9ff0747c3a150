"""The conclusions of notebooks 06 and 07 agree with their records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fracturelab.records import read_record

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "reports" / "results"


def results(name: str) -> dict[str, Any]:
    return read_record(RESULTS / f"{name}.json")["results"]


def column(rows: list[dict[str, float]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows])


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
