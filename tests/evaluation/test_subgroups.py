"""Scores by subgroup: who belongs where, and that each score is that of its images alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fracturelab.evaluation import subgroup_members, subgroup_scores


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = 60
    regions = np.array(["hand", "leg", "hand+shoulder", None], object)[np.arange(rows) % 4]
    return pd.DataFrame(
        {
            "label": pd.array(rng.integers(0, 2, rows), dtype="Int64"),
            "group": [str(number // 2) for number in range(rows)],
            "region": pd.array(regions, dtype="string"),
            "hardware": pd.array([True, False, pd.NA] * 20, dtype="boolean"),
            "view": pd.array([pd.NA] * rows, dtype="string"),
        }
    )


def test_members(table):
    sizes = np.where(table["label"] == 1, np.linspace(0.01, 0.2, 60), np.nan)
    members = subgroup_members(table, sizes)
    expected = ["without metal", "with metal", "region: hand", "region: leg", "region: shoulder"]
    assert list(members) == [*expected, "fracture: small", "fracture: middle", "fracture: large"]
    assert members["with metal"].tolist() == [True, False, False] * 20
    assert members["without metal"].tolist() == [False, True, False] * 20
    assert members["region: hand"].tolist() == [True, False, True, False] * 15
    normal = (table["label"] == 0).to_numpy(bool)
    assert members["fracture: small"].tolist() == (normal | (sizes < 0.06)).tolist()
    assert subgroup_members(table[["label"]]) == {}


def test_scores_are_those_of_the_images_alone(table):
    probabilities = np.random.default_rng(1).random(60)
    rows = subgroup_scores(table, probabilities, threshold=0.5)
    labels = table["label"].to_numpy(int)
    for row, inside in zip(rows, subgroup_members(table).values(), strict=True):
        assert row["n"] == inside.sum()
        assert row["fractured"] == labels[inside].sum()
        assert row["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels[inside], probabilities[inside]))
        assert row["roc_auc"]["low"] < row["roc_auc"]["value"] < row["roc_auc"]["high"]
        called = probabilities[inside & (labels == 1)] >= 0.5
        assert row["recall"]["value"] == pytest.approx(called.mean())
    assert rows == subgroup_scores(table, probabilities, threshold=0.5)
    json.dumps(rows)


def test_with_one_class_alone_what_needs_both_is_undefined(table):
    table = table.assign(label=pd.array(np.where(table["hardware"].fillna(False), 1, table["label"]), dtype="Int64"))
    (metal,) = (
        row for row in subgroup_scores(table, np.full(60, 0.7), threshold=0.5) if row["subgroup"] == "with metal"
    )
    assert metal["roc_auc"]["value"] is None
    assert metal["recall"]["value"] == 1
