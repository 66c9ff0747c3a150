"""The conclusions of notebook 08 agree with its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fracturelab.records import read_record

ROOT = Path(__file__).resolve().parents[2]


def results(name: str) -> dict[str, Any]:
    return read_record(ROOT / "reports" / "results" / f"{name}.json")["results"]


def test_08_concludes_what_the_letter_does():
    found = results("08-explanations")
    at_home, without = (found["shortcut"][part]["metrics"]["roc_auc"] for part in ("validation", "rule gone"))
    assert at_home["value"] > 0.85
    assert without["high"] < at_home["low"]
    (letter, low, _), (fracture, *_) = found["rises"]["letter"], found["rises"]["fracture"]
    assert letter > 1.5 * fracture
    assert low > 0


def test_08_concludes_that_a_good_network_may_have_a_bad_map():
    found = results("08-explanations")
    assert max(found["audit"]["with the rule"].values()) < 0.6
    assert found["v2"]["metrics"]["roc_auc"]["value"] > 0.9
    pointing, inside = ({name: one[key] for name, one in found["maps"].items()} for key in ("pointing", "inside"))
    assert pointing["Grad-CAM"]["value"] < pointing["random"]["value"]
    assert pointing["Grad-CAM"]["high"] < 0.5 < pointing["centre"]["low"]
    assert inside["Grad-CAM"]["value"] > inside["random"]["value"] + 0.03
    for name in ("occlusion", "LIME", "SHAP"):
        assert float(found["methods"][name]["pointing"].split()[0]) > 0.5
    assert found["randomisation"]["edges of the picture"][-1] == pytest.approx(1.0)
    assert found["randomisation"]["Grad-CAM"][-1] < 0.5
    for way in ("deletion", "insertion"):
        low, high = (
            max(one[way]["low"] for one in found["areas"].values()),
            min(one[way]["high"] for one in found["areas"].values()),
        )
        assert low < high
