"""Several data sets in one table."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fracturelab import audit
from fracturelab.datasets import COLUMNS, combine, make_table, read_dataset
from fracturelab.errors import FracturelabError


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(20, 230, (7, 7)).astype(np.uint8)
    return Image.fromarray(coarse).resize((60, 60), Image.Resampling.BICUBIC)


@pytest.fixture
def tables(tmp_path):
    found = {}
    for number, name in enumerate(("ward", "clinic")):
        for i in range(6):
            place = tmp_path / name / ("fractured" if i % 2 else "normal")
            place.mkdir(parents=True, exist_ok=True)
            # The ward's fifth picture is the clinic's as well, mirrored and under another name.
            image = picture(100 if i == 4 else 10 * number + i)
            (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if i == 4 and number else image).save(place / f"{i}.png")
        found[name] = read_dataset(tmp_path / name)
    return found


def test_every_row_keeps_its_source_label_and_path(tables):
    table = combine(tables)
    assert tuple(table.columns) == COLUMNS and table["path"].is_monotonic_increasing
    assert table["source"].value_counts().to_dict() == {"ward": 6, "clinic": 6}
    for name, one in tables.items():
        mine = table[table["source"] == name].set_index("path")["label"]
        assert mine.to_dict() == one.set_index("path")["label"].to_dict()


def test_patients_of_two_places_are_two_and_splits_stay():
    rows = [{"path": "/a/1.png", "label": 1, "group": "patient7", "study": "1", "split": "test", "source": "old"}]
    table = combine({"a": make_table(rows), "b": make_table([{**rows[0], "path": "/b/1.png", "split": None}])})
    assert table["group"].tolist() == ["a/patient7", "b/patient7"]
    assert table["study"].tolist() == ["a/1", "b/1"]
    assert table["source"].tolist() == ["a", "b"]
    assert table["split"].isna().tolist() == [False, True]


def test_a_picture_in_both_sets_is_one_group(tables):
    grouped = audit.with_groups(combine(tables))
    counts = grouped.groupby("group")["source"].nunique()
    assert (counts == 2).sum() == 1
    shared = grouped[grouped["group"] == counts.idxmax()]
    assert sorted(path.rsplit("/", 1)[1] for path in shared["path"]) == ["4.png", "4.png"]


def test_what_cannot_be_combined_is_refused(tables):
    with pytest.raises(FracturelabError, match="stands in two data sets, ward and again"):
        combine({"ward": tables["ward"], "again": tables["ward"]})
    for wrong in ({}, {"": tables["ward"]}):
        with pytest.raises(FracturelabError, match="a name each"):
            combine(wrong)
