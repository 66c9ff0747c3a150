"""Images of fracture types: what is prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracturelab.datasets import read_dataset
from fracturelab.errors import FracturelabError
from fracturelab.experiments.types import prepare_types
from fracturelab.training.saving import describe_data

KINDS = {"Oblique fracture": 20, "Spiral fracture": 100, "Hairline Fracture": 180}


def picture(seed: int, grey: int) -> Image.Image:
    """A smooth picture of its own, brighter or darker by its class."""
    coarse = np.random.default_rng(seed).integers(0, 70, (6, 6)) + grey
    return Image.fromarray(coarse.astype(np.uint8)).resize((40, 36), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The public ten-class layout with three classes, `Oblique fracture/Train/...` and `.../Test/...`."""
    root = tmp_path_factory.mktemp("types") / "Bone Break Classification"
    for number, (name, grey) in enumerate(KINDS.items()):
        for part, count in (("Train", 16), ("Test", 5)):
            (root / name / part).mkdir(parents=True)
            for i in range(count):
                picture(1000 * number + 100 * (part == "Test") + i, grey).save(root / name / part / f"{i}.png")
    (root / "Spiral fracture" / "Train" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 40)
    # A training image that is a copy of a test image.
    (root / "Oblique fracture" / "Train" / "copy.png").write_bytes(
        (root / "Oblique fracture" / "Test" / "0.png").read_bytes()
    )
    return root


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    with pytest.warns(UserWarning, match="1 images are left out: their group"):
        return prepare_types(read_dataset(folder), size=32, cache_dir=tmp_path_factory.mktemp("cache"))


def test_a_copy_in_the_test_part_is_not_trained_on_even_as_another_patient(folder, tmp_path):
    table = read_dataset(folder)
    table["group"] = pd.array([f"p{row}" for row in range(len(table))], dtype="string[python]")
    with pytest.warns(UserWarning, match="1 images are left out: their group"):
        prepare_types(table, size=32, cache_dir=tmp_path)


def test_the_published_test_part_stays_and_nothing_of_it_is_trained_on(prepared, folder):
    assert prepared.class_names == ("hairline", "oblique", "spiral")
    test = prepared.table.iloc[prepared.rows("test")]
    assert len(test) == 15
    assert all("/Test/" in path for path in test["path"])
    trained = {Path(path).name for path in prepared.paths("train") + prepared.paths("val")}
    assert "copy.png" not in trained
    assert [Path(path).name for path in prepared.unreadable["path"]] == ["cut.png"]
    for part in ("train", "val", "test"):
        assert set(prepared.labels[prepared.rows(part)]) == {0, 1, 2}
    labels = dict(zip(prepared.table["path"], prepared.labels, strict=True))
    assert labels[str(folder / "Spiral fracture" / "Test" / "1.png")] == 2


def test_the_description_counts_types(prepared):
    parts = describe_data(prepared)["parts"]
    assert parts["test"] == {"n": 15, "classes": {"hairline": 5, "oblique": 5, "spiral": 5}}


def test_too_few_types_are_refused(folder):
    table = read_dataset(folder)
    with pytest.raises(FracturelabError, match="at least 3 fracture types.*Received: oblique, spiral"):
        prepare_types(table[table["kind"] != "hairline"], size=32, cache_dir=False)
    with pytest.raises(FracturelabError, match="none with a known type"):
        prepare_types(table.assign(kind=pd.NA), size=32, cache_dir=False)
    missing = table[~((table["kind"] == "spiral") & (table["split"] == "test"))]
    with pytest.warns(UserWarning, match="left out"), pytest.raises(FracturelabError, match="none of spiral"):
        prepare_types(missing, size=32, cache_dir=False)
