"""What folder names and label words mean."""

from __future__ import annotations

import pytest

from fracturelab.datasets.names import Meaning, label_of, meaning_of, normalise, split_of
from tests.datasets import each


@pytest.mark.parametrize(
    "name",
    each(
        "normal|Normal|NORMAL_images|healthy|Healthy bones|negative|Negative|non_fractured|Non_fractured|"
        "non-fractured|Non Fractured|not fractured|Not-Fractured|notfractured|Intact|nonfractured|"
        "unfractured|no fracture|No_Fracture|without fracture|not  fractured|unbroken"
    ),
)
def test_normal_names(name: str) -> None:
    assert meaning_of(name) == Meaning(0)


@pytest.mark.parametrize(
    "name",
    each(
        "fractured|Fractured|fracture|FRACTURES|fractured_bone|Fractured-Images|positive|Positive|abnormal|"
        "broken|Broken Bones|fractured x-ray|bone fracture"
    ),
)
def test_fractured_names(name: str) -> None:
    assert meaning_of(name) == Meaning(1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Avulsion fracture", "avulsion"),
        ("Comminuted_fracture", "comminuted"),
        ("Fracture Dislocation", "fracture dislocation"),
        ("fracture-dislocation", "fracture dislocation"),
        ("Greenstick fracture", "greenstick"),
        ("Hairline Fracture", "hairline"),
        ("Impacted fracture", "impacted"),
        ("Longitudinal fracture", "longitudinal"),
        ("oblique", "oblique"),
        ("Pathological fracture", "pathological"),
        ("Spiral Fracture", "spiral"),
        ("transverse fracture", "transverse"),
    ],
)
def test_fracture_types(name: str, kind: str) -> None:
    assert meaning_of(name) == Meaning(1, kind)


@pytest.mark.parametrize(
    "name", ["", "images", "hand", "dislocation", "transverse", "open", "wrist", "0", "1", "grade 2"]
)
def test_names_that_say_nothing_known(name: str) -> None:
    assert meaning_of(name) is None


def test_a_title_is_not_taken_for_a_class() -> None:
    for title in ("Bone Fracture Detection", "fracture-multi-region-x-ray-data", "Bone Break Classification"):
        assert meaning_of(title) is None


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("train", "train"), ("Training", "train"), ("train_set", "train"), ("training_data", "train")),
        *(("val", "val"), ("valid", "val"), ("Validation", "val"), ("Test", "test"), ("testing_data", "test")),
        *(("trainer", None), ("latest", None), ("fractured", None), ("data", None)),
    ],
)
def test_splits(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_labels_in_tables() -> None:
    assert label_of("1") == label_of("1.0") == label_of("TRUE") == label_of("yes") == Meaning(1)
    assert label_of("0") == label_of("0.0") == label_of("False") == label_of("Healthy") == Meaning(0)
    assert label_of("spiral") == Meaning(1, "spiral")
    assert label_of("2") is None


@pytest.mark.parametrize("value", ["-1", "-1.0", " - 1", "−1", "－1", "-0", "-2"])
def test_a_minus_is_part_of_a_number(value: str) -> None:
    """In some tables -1 is "uncertain", in others "normal"; in none is it 1."""
    assert label_of(value) is None
    assert normalise(value).startswith("-")
