"""Written sets of phantoms: files, table, balance, and that nothing of the user's is overwritten."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.phantoms import FRACTURE_KINDS, RECIPES, default_data, render, write_set, writer
from fracturelab.phantoms.defaults import LONG_BONES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("phantoms") / "set", n=21, size=96, seed=4)


def test_files_and_table_agree(folder):
    table = pd.read_csv(folder / "labels.csv")
    assert list(table.columns[:6]) == ["path", "label", "group", "kind", "source", "region"]
    assert list(table.columns[-5:]) == ["x0", "y0", "x1", "y1", "seed"]
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
    monkeypatch.setenv("FRACTURELAB_CACHE", str(tmp_path))
    clinic, field = default_data("clinic", n=4), default_data("field", n=2)
    assert clinic != field
    assert writer.GENERATOR_VERSION in clinic.name
    tables = {name: pd.read_csv(default_data(name, n=2) / "labels.csv") for name in RECIPES}
    assert all(len(table) == 2 and table["label"].sum() == 1 for name, table in tables.items() if name != "types")
    assert tables["types"]["kind"].value_counts().to_dict() == dict.fromkeys(FRACTURE_KINDS, 2)
    assert set(tables["clinic"]["region"]) <= set(LONG_BONES)
    assert not tables["clinic"][["cast", "marker", "ring", "two_views", "swelling"]].to_numpy().any()
    recipe = json.loads((field / writer.MANIFEST).read_text())
    assert (recipe["source"], recipe["n"], recipe["generator"]) == ("field", 2, writer.GENERATOR_VERSION)
    with pytest.raises(FracturelabError, match="expected name to be one of clinic"):
        default_data("elsewhere")


def test_no_default_set_shares_an_image_with_another():
    sets = [(recipe.source, recipe.seed) for recipe in RECIPES.values()]
    assert len(set(sets)) == len(sets)


def test_regions_and_nuisances_of_a_set(tmp_path):
    options = {"n": 8, "size": 64, "source": "field", "regions": ("leg", "femur")}
    plain = pd.read_csv(write_set(tmp_path / "plain", nuisances=False, **options) / "labels.csv")
    assert set(plain["region"]) == {"leg", "femur"}
    assert not plain["marker"].any()
    marked = pd.read_csv(write_set(tmp_path / "marked", nuisances={"marker": True}, **options) / "labels.csv")
    assert marked["marker"].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n of at least 1"),
        ({"n": 2, "seed": -1}, "seed"),
        ({"per_kind": 1, "kinds": ["x"]}, "kinds"),
        ({"n": 2, "regions": ["x"]}, "regions"),
    ],
)
def test_bad_arguments_are_named(tmp_path, options, message):
    with pytest.raises(FracturelabError, match=message):
        write_set(tmp_path / "set", size=64, **options)
    assert list(tmp_path.iterdir()) == []
