import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from fracturelab import splits
from fracturelab.audit.groups import picture_hashes
from fracturelab.audit.reading import read_files
from fracturelab.datasets import file_hashes, read_dataset
from fracturelab.datasets.table import COLUMNS
from fracturelab.errors import FracturelabError
from fracturelab.evaluation import study_scores
from fracturelab.images import load_images
from fracturelab.training import at_size, prepare, prepare_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 different images in two classes, a mirrored copy of one, and one that is cut short."""
    path = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for name in ("fractured", "normal"):
        (path / name).mkdir()
        for index in range(12):
            noise = Image.fromarray(rng.integers(0, 256, (64, 64)).astype(np.uint8))
            noise.filter(ImageFilter.GaussianBlur(4)).point(lambda v: int(min(max((v - 100) * 4.5, 0), 255))).save(
                path / name / f"{index}.png"
            )
    with Image.open(path / "normal" / "0.png") as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path / "normal" / "copy.png")
    (path / "normal" / "cut.png").write_bytes((path / "normal" / "1.png").read_bytes()[:300])
    return path


@pytest.fixture(scope="module")
def prepared(folder):
    return prepare(read_dataset(folder), size=32, val=0.25, test=0.25, progress=False)


def test_unreadable_files_are_listed_and_left_out(prepared):
    assert [path.rsplit("/", 1)[1] for path in prepared.unreadable["path"]] == ["cut.png"]
    assert prepared.unreadable["reason"].str.len().min() > 3
    assert len(prepared.table) == len(prepared.images) == len(prepared.hashes) == 25


def test_rows_belong_together(prepared):
    paths = prepared.table["path"].tolist()
    np.testing.assert_array_equal(prepared.images, load_images(paths, 32, cache_dir=False))
    assert prepared.hashes.tolist() == file_hashes(paths)
    assert [("fractured" in path) for path in paths] == (prepared.labels == 1).tolist()


def test_copies_share_a_group_and_a_side(prepared):
    table = prepared.table.set_index(prepared.table["path"].str.rsplit("/", n=2).str[1:].str.join("/"))
    assert table.loc["normal/copy.png", "group"] == table.loc["normal/0.png", "group"]
    assert table.loc["normal/copy.png", "split"] == table.loc["normal/0.png", "split"]
    sides = [set(prepared.groups[prepared.rows(name)]) for name in ("train", "val", "test")]
    assert all(sides)
    assert not (sides[0] & sides[1])
    assert not (sides[0] & sides[2])
    assert not (sides[1] & sides[2])


def test_the_seed_decides_the_split(folder, prepared):
    again = prepare(read_dataset(folder), size=32, val=0.25, test=0.25, progress=False)
    pd.testing.assert_frame_equal(again.table, prepared.table)
    other = prepare(read_dataset(folder), size=32, seed=1, val=0.25, test=0.25, progress=False)
    assert other.table["split"].tolist() != prepared.table["split"].tolist()


def patients(folder, *, copy: bool):
    """A table of twelve patients with a study each, two images a study; patient 11 may have a copy of patient 6's."""
    table = read_dataset(folder)
    table = table[~table["path"].str.endswith(("cut.png", "copy.png"))].reset_index(drop=True)
    table = table.assign(group=[f"p{row // 2:02d}" for row in range(24)], study="study1").astype(
        {"group": "string[python]", "study": "string[python]"}
    )
    if copy:
        extra = table.iloc[[-1]].assign(path=str(folder / "normal" / "copy.png"))
        table = pd.concat([table, extra], ignore_index=True)
    return table


def test_patients_are_split_as_they_are_where_none_shares_a_picture(folder):
    table = patients(folder, copy=False)
    found = prepare(table, size=32, val=0.25, test=0.25, progress=False).table
    expected = splits.holdout_split(table, val=0.25, test=0.25, seed=0)
    pd.testing.assert_frame_equal(found.drop(columns="fixed"), expected)


def test_one_picture_of_two_patients_is_on_one_side_and_their_studies_stay_two(folder):
    found = prepare(patients(folder, copy=True), size=32, val=0.25, test=0.25, progress=False)
    both = found.table[found.table["path"].str.endswith(("normal/0.png", "normal/copy.png"))]
    assert both["group"].tolist() == ["p06", "p06"]
    assert both["split"].nunique() == 1
    assert both["study"].tolist() == ["study1", "p11/study1"]
    assert found.table["group"].nunique() == 11
    assert len(study_scores(found.table, np.full(25, 0.5))) == 12


def test_another_size_keeps_everything_else(prepared):
    larger = at_size(prepared, 48, progress=False)
    assert larger.images.shape == (25, 48, 48, 1)
    assert larger.table is prepared.table
    assert at_size(prepared, 32) is prepared


def test_the_fixed_test_part_is_known_by_its_pictures_even_mirrored(folder, prepared, monkeypatch):
    listed = [path for path in prepared.table["path"] if path.endswith(("/0.png", "/3.png"))]
    hashes = picture_hashes(read_files(listed))[:, 0]
    parts = pd.DataFrame({"image": [f"IMG{n:07}" for n in range(4)], "part": "test", "hash": hashes})
    monkeypatch.setattr(splits, "fracatlas_parts", lambda: parts)
    table = prepare(read_dataset(folder), size=32, progress=False).table
    tested = sorted(table.loc[table["split"] == "test", "path"])
    assert tested == sorted([*listed, *(path for path in table["path"] if path.endswith("copy.png"))])


def test_refusals(folder, tmp_path):
    table = read_dataset(folder)
    with pytest.raises(FracturelabError, match="none of them fractured"):
        prepare(table[table["label"] == 0], size=32, progress=False)
    with pytest.raises(FracturelabError, match="labels to train on"):
        prepare(table.assign(label=pd.array([pd.NA] * len(table), dtype="Int64")), size=32, progress=False)
    broken = table[table["path"].str.endswith("cut.png")]
    with pytest.raises(FracturelabError, match="none of the 1 images can be read"):
        prepare(broken, size=32, progress=False)


def test_images_that_never_were_files_are_split_by_group():
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    prepared = prepare_arrays(images, [1, 0] * 20, np.repeat(np.arange(20), 2), source="pairs", val=0.25)
    train, val = prepared.rows("train"), prepared.rows("val")
    assert (len(train), len(val)) == (30, 10)
    assert not set(prepared.groups[train]) & set(prepared.groups[val])
    np.testing.assert_array_equal(prepared.part("val")[0], images[val])
    assert len(set(prepared.hashes)) == 40
    assert prepared.unreadable.empty
    assert tuple(prepared.table.columns) == tuple(COLUMNS)
