"""Written sets of phantoms: files, table, balance, and that nothing of the user's is overwritten."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.phantoms import FRACTURE_KINDS, default_data, render, write_set, writer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("phantoms") / "set", n=21, size=96, seed=4)


def test_files_and_table_agree(folder):
    table = pd.read_csv(folder / "labels.csv")
    assert list(table.columns) == list(writer.COLUMNS)
    assert len(table) == 21
    assert table["label"].sum() == 11
    assert sorted(f"images/{p.name}" for p in (folder / "images").iterdir()) == sorted(table["path"])
    assert table["group"].is_unique
    assert (table["source"] == "clinic").all()
    broken = table["label"] == 1
    assert table.loc[broken, "kind"].isin(FRACTURE_KINDS).all()
    assert table.loc[~broken, "kind"].isna().all()
    assert table.loc[broken, "x0"].notna().all()
    assert table.loc[~broken, "x0"].isna().all()
    assert "synthetic" in (folder / "README.txt").read_text()


def test_a_row_is_enough_to_render_the_image_again(folder):
    row = pd.read_csv(folder / "labels.csv").iloc[0]
    p = render(int(row["seed"]), size=96, fractured=bool(row["label"]), letterbox=False)
    np.testing.assert_array_equal(np.asarray(Image.open(folder / row["path"])), p.image)


def test_the_order_says_nothing_of_the_label(folder):
    labels = pd.read_csv(folder / "labels.csv")["label"].to_numpy()
    assert 4 < (np.diff(labels) != 0).sum() < 17  # neither sorted nor alternating


def test_the_same_set_is_left_alone_and_another_one_refused(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    assert write_set(folder, n=21, size=96, seed=4) == folder
    with pytest.raises(FracturelabError, match="something else"):
        write_set(folder, n=21, size=96, seed=5)
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_foreign_folder_is_never_touched(tmp_path):
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(FracturelabError, match="something else"):
        write_set(tmp_path, n=2, size=64)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.txt"]
    with pytest.raises(FracturelabError, match="which is a file"):
        write_set(tmp_path / "holiday.txt", n=2, size=64)


def test_nothing_is_left_behind_when_rendering_fails(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("stop")

    monkeypatch.setattr(writer, "render", fail)
    with pytest.raises(RuntimeError, match="stop"):
        write_set(tmp_path / "set", n=2, size=64)
    assert list(tmp_path.iterdir()) == []


def test_so_many_of_each_kind(tmp_path):
    kinds = ("hairline", "greenstick", "fracture dislocation")
    out = write_set(tmp_path / "kinds", per_kind=2, kinds=kinds, size=80, source="field")
    table = pd.read_csv(out / "labels.csv")
    assert table["kind"].value_counts().to_dict() == dict.fromkeys(kinds, 2)
    assert all(Path(p).parent.name == k for p, k in zip(table["path"], table["kind"], strict=True))


def test_the_default_sets(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "DEFAULT_COUNTS", {"clinic": 4, "field": 2})
    monkeypatch.setattr(writer, "DEFAULT_SIZE", 64)
    clinic, field = default_data("clinic", folder=tmp_path), default_data("field", folder=tmp_path)
    assert clinic != field
    assert writer.GENERATOR_VERSION in clinic.name
    assert pd.read_csv(clinic / "labels.csv")["label"].sum() == 2
    recipe = json.loads((field / writer.MANIFEST).read_text())
    assert (recipe["source"], recipe["n"], recipe["generator"]) == ("field", 2, writer.GENERATOR_VERSION)
    assert default_data("clinic", folder=tmp_path) == clinic
    unseen = default_data("clinic", unseen=True, folder=tmp_path)
    seeds = [set(pd.read_csv(where / "labels.csv")["seed"]) for where in (clinic, unseen)]
    assert len(seeds[1]) == writer.UNSEEN_COUNT and not seeds[0] & seeds[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n": 0}, "n of at least 1"), ({"n": 2, "seed": -1}, "seed"), ({"per_kind": 1, "kinds": ["x"]}, "kinds")],
)
def test_bad_arguments_are_named(tmp_path, options, message):
    with pytest.raises(FracturelabError, match=message):
        write_set(tmp_path / "set", size=64, **options)
    assert list(tmp_path.iterdir()) == []
