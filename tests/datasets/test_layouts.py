"""Every layout people have, as real folders, becomes the same table; what is unclear is an error that says so."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracturelab.datasets import list_other_files, read_dataset
from fracturelab.datasets.table import COLUMNS
from fracturelab.datasets.walking import is_image_name
from fracturelab.errors import FracturelabError
from tests import find_fracatlas
from tests.images import check_image


def write(root: Path, names: Iterable[str]) -> Path:
    """Write a small real image at each name."""
    for index, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 12), index % 256, np.uint8)).save(path, "PNG")
    return root


def facts(table: pd.DataFrame, root: Path, *columns: str) -> dict[str, tuple[object, ...]]:
    rows = table[["path", *columns]].itertuples(index=False)
    return {os.path.relpath(row[0], root): tuple(None if v is pd.NA else v for v in row[1:]) for row in rows}


def check_table(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    assert str(table["label"].dtype) == "Int64"
    assert all(str(table[name].dtype) == ("boolean" if name == "hardware" else "string") for name in COLUMNS[2:])
    assert isinstance(table.index, pd.RangeIndex)
    assert list(table["path"]) == sorted(table["path"])
    assert all(type(path) is str and os.path.isabs(path) for path in table["path"])
    assert set(table["split"].dropna()) <= {"train", "val", "test"}


@pytest.mark.parametrize(
    ("fractured", "normal"),
    [
        ("fractured", "not fractured"),
        ("Fractured", "Non_fractured"),
        ("fractured", "non-fractured"),
        ("FRACTURE", "Healthy"),
        ("positive", "negative"),
        ("Broken bones", "Normal"),
    ],
)
def test_class_folders(tmp_path: Path, fractured: str, normal: str) -> None:
    root = write(tmp_path / "my set", [f"{fractured}/a.png", f"{fractured}/b.JPG", f"{normal}/a.png"])
    table = read_dataset(root)
    check_table(table)
    expected = {f"{fractured}/a.png": (1,), f"{fractured}/b.JPG": (1,), f"{normal}/a.png": (0,)}
    assert facts(table, root, "label") == expected
    assert set(table["source"]) == {"my set"}
    assert table[["group", "split", "kind", "study"]].isna().all(axis=None)
    assert set(read_dataset(root, source="ours")["source"]) == {"ours"}


@pytest.mark.parametrize("order", ["split above", "split below"])
@pytest.mark.parametrize("wrapper", ["", "Bone_Fracture_Binary_Classification/Bone_Fracture_Binary_Classification/"])
def test_published_splits(tmp_path: Path, order: str, wrapper: str) -> None:
    names, expected = [], {}
    for split, meant in [("train", "train"), ("val", "val"), ("Testing", "test")]:
        for name, label in [("fractured", 1), ("not fractured", 0)]:
            parts = (split, name) if order == "split above" else (name, split)
            names.append(f"{wrapper}{parts[0]}/{parts[1]}/1.png")
            expected[names[-1]] = (label, meant)
    root = write(tmp_path, names)
    table = read_dataset(root)
    check_table(table)
    assert facts(table, root, "label", "split") == expected


@pytest.mark.parametrize("order", ["split above", "split below"])
def test_ten_fracture_types(tmp_path: Path, order: str) -> None:
    types = {
        "Avulsion fracture": "avulsion",
        "Comminuted fracture": "comminuted",
        "Fracture Dislocation": "fracture dislocation",
        "Greenstick fracture": "greenstick",
        "Hairline Fracture": "hairline",
        "Impacted fracture": "impacted",
        "Longitudinal fracture": "longitudinal",
        "Oblique fracture": "oblique",
        "Pathological fracture": "pathological",
        "Spiral Fracture": "spiral",
    }
    expected = {}
    for name, kind in types.items():
        for split in ("Train", "Test"):
            path = f"{split}/{name}/x.png" if order == "split above" else f"{name}/{split}/x.png"
            expected[path] = (1, kind, split.lower())
    root = write(tmp_path, expected)
    table = read_dataset(root)
    check_table(table)
    assert facts(table, root, "label", "kind", "split") == expected


def test_types_below_fractured_beside_normal(tmp_path: Path) -> None:
    root = write(tmp_path, ["fractured/spiral/a.png", "fractured/b.png", "normal/c.png"])
    assert facts(read_dataset(root), root, "label", "kind") == {
        "fractured/spiral/a.png": (1, "spiral"),
        "fractured/b.png": (1, None),
        "normal/c.png": (0, None),
    }


@pytest.mark.parametrize("wrapper", ["MURA-v1.1/train/", "train/", ""])
def test_mura_tree(tmp_path: Path, wrapper: str) -> None:
    names = [
        f"{wrapper}XR_WRIST/patient00011/study1_positive/image1.png",
        f"{wrapper}XR_WRIST/patient00011/study1_positive/image2.png",
        f"{wrapper}XR_HAND/patient00011/study1_negative/image1.png",
        f"{wrapper}XR_ELBOW/patient00012/study2_negative/image1.png",
    ]
    if wrapper.endswith("train/"):
        names.append(f"{wrapper.replace('train', 'valid')}XR_HAND/patient11185/study1_positive/image1.png")
    root = write(tmp_path / "m", names)
    (root / "train_image_paths.csv").write_text("MURA-v1.1/train/x\n")
    table = read_dataset(root)
    check_table(table)
    split = "train" if wrapper else None
    expected = {
        names[0]: (1, "patient00011", split, "XR_WRIST/patient00011/study1"),
        names[1]: (1, "patient00011", split, "XR_WRIST/patient00011/study1"),
        names[2]: (0, "patient00011", split, "XR_HAND/patient00011/study1"),
        names[3]: (0, "patient00012", split, "XR_ELBOW/patient00012/study2"),
    }
    if len(names) == 5:
        expected[names[4]] = (1, "patient11185", "val", "XR_HAND/patient11185/study1")
    assert facts(table, root, "label", "group", "split", "study") == expected
    assert set(table["source"]) == {"MURA"}


def test_one_region_or_one_patient_of_mura(tmp_path: Path) -> None:
    root = write(tmp_path / "XR_WRIST", ["patient00011/study1_positive/image1.png"])
    assert facts(read_dataset(root), root, "label", "group") == {
        "patient00011/study1_positive/image1.png": (1, "patient00011")
    }
    write(root, ["stray.png"])
    with pytest.raises(FracturelabError, match=r"1 images elsewhere, such as 'stray\.png'"):
        read_dataset(root)


def test_labels_csv(tmp_path: Path) -> None:
    root = write(tmp_path / "set", ["images/a.png", "images/b.png", "c d.png", "e.png"])
    (root / "labels.csv").write_text(
        "path,label,group,split,kind,source\n"
        "images/a.png,fractured,p1,train,Spiral fracture,clinic\n"
        "images/b.png,0,p2,valid,,clinic\n"
        "c d.png,normal,,test,,\n"
        "e.png,1,,,,\n\n"
    )
    table = read_dataset(root)
    check_table(table)
    assert facts(table, root, "label", "group", "split", "kind", "source") == {
        "images/a.png": (1, "p1", "train", "spiral", "clinic"),
        "images/b.png": (0, "p2", "val", None, "clinic"),
        "c d.png": (0, None, "test", None, "set"),
        "e.png": (1, None, None, None, "set"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "\ufefffilename;class;patient\r\na.png;positive;7\r\nb.png;negative;8\r\n",
        "Image\tTarget\tPatient_ID\na.png\t1\t7\nb.png\t0\t8\n",
        '"file name","fractured","subject"\n"a.png","True","7"\n".\\b.png","no","8"\n',
    ],
    ids=["semicolons of a spreadsheet", "tabs", "quotes and windows paths"],
)
def test_labels_csv_in_other_words(tmp_path: Path, text: str) -> None:
    root = write(tmp_path, ["a.png", "b.png"])
    (root / "Labels.CSV").write_bytes(text.encode())
    assert facts(read_dataset(root), root, "label", "group") == {"a.png": (1, "7"), "b.png": (0, "8")}


def test_a_study_is_the_group_where_no_patient_is_known(tmp_path: Path) -> None:
    root = write(tmp_path / "none", ["a.png", "b.png", "c.png"])
    (root / "labels.csv").write_text("path,label,study\na.png,1,s1\nb.png,1,s1\nc.png,0,\n")
    assert facts(read_dataset(root), root, "group", "study") == {
        "a.png": ("s1", "s1"),
        "b.png": ("s1", "s1"),
        "c.png": (None, None),
    }
    root = write(tmp_path / "some", ["a.png", "b.png", "c.png", "d.png", "e.png"])
    (root / "labels.csv").write_text(
        "path,label,patient,study\na.png,1,p1,s1\nb.png,1,,s1\nc.png,0,p1,study1\nd.png,0,p2,study1\ne.png,0,,study1\n"
    )
    groups = {"a.png": ("p1",), "b.png": ("p1",), "c.png": ("p1",), "d.png": ("p2",), "e.png": (None,)}
    assert facts(read_dataset(root), root, "group") == groups


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "header"),
        ("path,label\n", "lines below the header"),
        ("name,value\na.png,1\n", "columns path and label.*name, value"),
        ("path,label\na.png,1\n../secret.png,1\n", "1 files that are not there.*secret"),
        ("path,label\n/etc/passwd,1\n", "not there: /etc/passwd"),
        ("path,label\nimages/../../a.png,1\n", "not there"),
        ("path,label\n,1\n", "line 2: expected a path"),
        ("path,label\na.png,1\ngone.png,0\nlost.png,0\n", r"2 files that are not there: gone\.png, lost\.png"),
        ("path,label\na.png,1\nimages/../a.png,0\n", "line 3: names the same file as line 2"),
        ("path,label\na.png,maybe\n", "line 2: expected a label.*'maybe'"),
        ("path,label\na.png,-1\n", "line 2: expected a label.*'-1'; choose one word for each: --label-names"),
        ("path,label\na.png,\n", "line 2: expected a label"),
        (
            "path,label,split\na.png,1,holiday\n",
            "line 2: expected a split.*'holiday'.*--split-names 'holiday=train|val|test|skip'".replace("|", r"\|"),
        ),
    ],
)
def test_labels_csv_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    root = write(tmp_path / "set", ["a.png"])
    write(tmp_path, ["secret.png"])
    (root / "labels.csv").write_text(text)
    with pytest.raises(FracturelabError, match=said) as caught:
        read_dataset(root)
    assert "\n" not in str(caught.value)


def test_labels_csv_of_bytes_that_are_no_text(tmp_path: Path) -> None:
    root = write(tmp_path, ["a.png"])
    (root / "labels.csv").write_bytes(b"\xff\xfe\x00\x81\x8d")
    with pytest.raises(FracturelabError, match="cannot be read"):
        read_dataset(root)


def test_images_that_labels_csv_leaves_out_are_counted(tmp_path: Path) -> None:
    root = write(tmp_path, ["a.png", "b.png"])
    (root / "labels.csv").write_text("path,label\na.png,1\n")
    with pytest.warns(UserWarning, match=r"does not name 1 .*b\.png"):
        table = read_dataset(root)
    assert list(table["label"]) == [1]


def test_unlabelled_only_when_asked(tmp_path: Path) -> None:
    root = write(tmp_path, ["a.png", "more/b.png"])
    with pytest.raises(FracturelabError, match="unlabelled"):
        read_dataset(root)
    for table in (read_dataset(root, layout="unlabelled"), read_dataset(root, allow_unlabelled=True)):
        check_table(table)
        assert len(table) == 2
        assert table["label"].isna().all()


def test_labelled_and_unlabelled_together(tmp_path: Path) -> None:
    root = write(tmp_path, ["fractured/a.png", "normal/b.png", "c.png"])
    table = read_dataset(root, allow_unlabelled=True)
    assert facts(table, root, "label") == {"c.png": (None,), "fractured/a.png": (1,), "normal/b.png": (0,)}
    with pytest.raises(FracturelabError, match=r"'\.' unknown \(1 images\)"):
        read_dataset(root)
    assert len(read_dataset(root, label_names={".": "skip"})) == 2


def test_unknown_names_are_listed_with_the_way_out(tmp_path: Path) -> None:
    root = write(tmp_path, ["fractured/a.png", "grade 2/b.png", "grade 2/c.png", "controls/d.png"])
    with pytest.raises(FracturelabError) as caught:
        read_dataset(root)
    message = str(caught.value)
    for words in ("'grade 2' unknown (2 images)", "'controls' unknown (1 images)", "'fractured' fractured (1 images)"):
        assert words in message
    assert "--label-names 'controls=fractured|normal|skip' --label-names 'grade 2=fractured|normal|skip'" in message
    assert "\n" not in message
    table = read_dataset(root, label_names={"Grade_2": "fractured", "controls": "normal"})
    assert facts(table, root, "label") == {
        "controls/d.png": (0,),
        "fractured/a.png": (1,),
        "grade 2/b.png": (1,),
        "grade 2/c.png": (1,),
    }
    assert len(read_dataset(root, label_names={"grade 2": "skip", "controls": "normal"})) == 2


def test_contradicting_names_are_ambiguous(tmp_path: Path) -> None:
    root = write(tmp_path, ["fractured/normal/a.png", "healthy/b.png"])
    with pytest.raises(FracturelabError, match=r"ambiguous.*'fractured' and 'normal'.*--label-names"):
        read_dataset(root)
    table = read_dataset(root, label_names={"normal": "ignore"})
    assert list(table["label"]) == [1, 0]
    with pytest.raises(FracturelabError, match=r"ambiguous.*two different parts"):
        read_dataset(write(tmp_path / "s", ["train/test/fractured/a.png", "val/normal/b.png"]))


def test_a_name_shared_by_all_images_does_not_decide(tmp_path: Path) -> None:
    root = write(tmp_path, ["fracture/normal/a.png", "fracture/fractured/b.png", "fracture/healthy/x/c.png"])
    assert facts(read_dataset(root), root, "label") == {
        "fracture/normal/a.png": (0,),
        "fracture/fractured/b.png": (1,),
        "fracture/healthy/x/c.png": (0,),
    }
    one_class = write(tmp_path / "one", ["fractured/a.png", "fractured/b.png"])
    assert list(read_dataset(one_class)["label"]) == [1, 1]


def test_folders_of_opposite_numbers_are_two(tmp_path: Path) -> None:
    root = write(tmp_path, ["1/a.png", "-1/b.png"])
    with pytest.raises(FracturelabError, match="'-1' unknown"):
        read_dataset(root, label_names={"1": "fractured"})
    table = read_dataset(root, label_names={"1": "fractured", "-1": "normal"})
    assert facts(table, root, "label") == {"1/a.png": (1,), "-1/b.png": (0,)}


@pytest.mark.parametrize("names", [{"x": "perhaps"}, {"x": ""}])
def test_label_names_are_checked(tmp_path: Path, names: dict[str, str]) -> None:
    with pytest.raises(FracturelabError, match="fractured, normal, ignore or skip"):
        read_dataset(write(tmp_path, ["fractured/a.png"]), label_names=names)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(FracturelabError, match="where there is nothing"):
        read_dataset(tmp_path / "gone")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(FracturelabError, match="Received: a file"):
        read_dataset(tmp_path / "file.txt")
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(FracturelabError, match="unpack it first"):
        read_dataset(tmp_path / "set.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FracturelabError, match="empty folder"):
        read_dataset(tmp_path / "empty")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    with pytest.raises(FracturelabError, match=r"1 files, none an image \(1 \.txt"):
        read_dataset(tmp_path / "texts")
    with pytest.raises(FracturelabError, match="expected a layout among"):
        read_dataset(tmp_path, layout="pyramid")


@pytest.mark.parametrize("layout", ["labels_csv", "fracatlas", "mura"])
def test_a_layout_that_is_not_there(tmp_path: Path, layout: str) -> None:
    with pytest.raises(FracturelabError, match="expected"):
        read_dataset(write(tmp_path, ["fractured/a.png"]), layout=layout)


def test_junk_is_skipped_and_other_files_are_listed(tmp_path: Path) -> None:
    root = write(tmp_path, ["fractured/a.png", "normal/b.png"])
    for name in ("desktop.ini", "Thumbs.db", ".DS_Store", "._a.png", ".hidden.png", "__MACOSX/fractured/x.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"junk")
    (root / "normal" / "notes.txt").write_text("x")
    (root / "readme").write_text("x")
    assert len(read_dataset(root)) == 2
    assert list_other_files(root) == ["normal/notes.txt", "readme"]


def test_image_names() -> None:
    for name in ("a.png", "b.JPEG", "/x/y/c.Tiff", "d.dcm", "two words.webp", "x.tar.png"):
        assert is_image_name(name)
    for name in ("a.txt", "png", ".png", "._a.png", "a.png.part", "a.svg", ".hidden.jpg", "labels.csv"):
        assert not is_image_name(name)


def test_names_of_every_kind_are_kept(tmp_path: Path) -> None:
    names = ["with space.png", "new\nline.png", "骨折.png", "a,b;c'\".png", "é.png", "e\u0301.png"]
    root = write(tmp_path / "Ünï côde", [f"fractured/{name}" for name in names] + ["normal/x.png"])
    raw = os.fsencode(root / "normal") + b"/latin\xe9.png"
    shutil.copy(root / "normal" / "x.png", raw)
    table = read_dataset(root)
    check_table(table)
    assert len(table) == len(names) + 2
    assert all(check_image(path) is None for path in table["path"])


def test_links_are_followed_but_loops_end(tmp_path: Path) -> None:
    root = write(tmp_path / "set", ["fractured/a.png", "normal/b.png"])
    outside = write(tmp_path / "outside", ["c.png", "deep/d.png"])
    (root / "normal" / "linked.png").symlink_to(outside / "c.png")
    (root / "normal" / "broken.png").symlink_to(outside / "gone.png")
    (root / "normal" / "more").symlink_to(outside / "deep")
    (root / "normal" / "up").symlink_to(root)
    (root / "fractured" / "self.png").symlink_to(root / "fractured" / "self.png")
    (root / "fractured" / "around").symlink_to(root / "fractured")
    (root / "again").symlink_to(root / "normal")
    assert facts(read_dataset(root), root, "label") == {
        "fractured/a.png": (1,),
        "fractured/self.png": (1,),
        "normal/b.png": (0,),
        "normal/broken.png": (0,),
        "normal/linked.png": (0,),
        "normal/more/d.png": (0,),
    }
    linked = tmp_path / "link to the set"
    linked.symlink_to(root)
    assert len(read_dataset(linked)) == 6


def test_pipes_and_folders_with_image_names(tmp_path: Path) -> None:
    root = write(tmp_path, ["fractured/folder.jpg/a.png", "normal/b.png"])
    os.mkfifo(root / "normal" / "pipe.png")
    assert list(facts(read_dataset(root), root)) == ["fractured/folder.jpg/a.png", "normal/b.png", "normal/pipe.png"]


def test_two_readings_are_equal_wherever_files_were_written_first(tmp_path: Path) -> None:
    names = [f"{label}/{index}.png" for label in ("fractured", "normal") for index in range(30)]
    root = write(tmp_path / "x" / "set", names)
    first = read_dataset(root)
    shutil.rmtree(root)
    write(root, names[::-1])
    pd.testing.assert_frame_equal(first, read_dataset(root))


def test_a_closed_folder_is_named() -> None:
    from tests.images.test_decode import as_nobody

    root = Path(tempfile.mkdtemp())
    try:
        write(root, ["fractured/a.png", "normal/b.png"])
        for path in (root, root / "fractured", root / "normal"):
            path.chmod(0o755)

        def attempt() -> str:
            try:
                return f"{len(read_dataset(root))} images"
            except FracturelabError as error:
                return str(error)

        assert as_nobody(attempt) == "2 images"
        (root / "normal").chmod(0)
        assert "normal cannot be read" in as_nobody(attempt)
    finally:
        shutil.rmtree(root)


@pytest.mark.slow
def test_ten_thousand_names_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "fractured").mkdir()
    write(tmp_path, ["normal/a.png"])
    for index in range(10_000):
        os.close(os.open(tmp_path / "fractured" / f"{index}.png", os.O_CREAT))
    table = read_dataset(tmp_path)
    assert list(table["label"].value_counts()) == [10_000, 1]


@pytest.mark.slow
def test_the_real_fracatlas() -> None:
    """Of the 2,927 files kept for development, 59 are truncated as published (511 + 2,357 can be read)."""
    folder = find_fracatlas()
    if folder is None:
        pytest.skip("FracAtlas is not on this machine")
    table = read_dataset(folder)
    check_table(table)
    reasons = [check_image(path) for path in table["path"]]
    if len(table) != 2927:
        pytest.skip("another selection of FracAtlas")
    assert set(reasons) == {None, "truncated: the file ends before the picture does"}
    readable = table[[reason is None for reason in reasons]]
    assert dict(readable["label"].value_counts()) == {1: 511, 0: 2357}
