"""What people bring: labels turned round, parts lost, tables of offices, sets for detection."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import unicodedata
from pathlib import Path

import pytest

from fracturelab.cli import main
from fracturelab.datasets import read_dataset, reading_lines
from fracturelab.errors import FracturelabError
from tests.datasets import each
from tests.datasets.test_layouts import facts, write

PAIR = ["fractured/1.png", "normal/2.png"]


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(FracturelabError) as caught:
        read_dataset(folder, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def asked(message: str) -> list[str]:
    """The names that the line of options asks about; the line says of each name the same."""
    words = shlex.split(re.split(r"each: ", message)[1].split("; ")[0])
    pairs = [word.rpartition("=") for word in words if not word.startswith("--")]
    assert len({meaning for _, _, meaning in pairs}) == 1
    return [name for name, _, _ in pairs]


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fractured", "normal"),
    [
        ("Broken", "NotBroken"),
        ("fracture_present", "fracture_absent"),
        ("перелом", "норма"),
        ("Kırık", "Sağlam"),
        ("Bruch", "ohne Bruch"),
        ("fracturada", "sin fractura"),
        ("骨折", "正常"),
        ("Wrist Positive", "wrist-negative"),
    ],
)
def test_classes_in_many_words(tmp_path, fractured, normal):
    root = write(tmp_path / "s", [f"{unicodedata.normalize('NFD', fractured)}/a.png", f"{normal}/b.png"])
    table = read_dataset(root)
    assert dict(zip(table["path"].str[-5:], table["label"], strict=True)) == {"a.png": 1, "b.png": 0}


@pytest.mark.parametrize("names", [("0", "1"), ("1", "2"), ("no", "yes"), ("False", "True"), ("class_a", "class_b")])
def test_nobody_knows_these_classes_and_the_question_is_neutral(tmp_path, names):
    root = write(tmp_path, [f"{name}/x.png" for name in names])
    assert asked(refusal(root)) == list(names)
    assert "fractured|normal" in refusal(root)
    answered = read_dataset(root, label_names={names[0]: "fractured", names[1]: "normal"})
    assert answered["label"].tolist() == [1, 0]


@pytest.mark.parametrize("outer", ["Bone fracture", "fractured", "x"])
@pytest.mark.parametrize("loose", ["test", "to be checked", "uncertain"])
def test_a_name_above_all_gives_no_label_to_what_has_none(tmp_path, outer, loose):
    root = write(tmp_path, [f"{outer}/train/fractured/a.png", f"{outer}/train/normal/b.png", f"{outer}/{loose}/c.png"])
    assert asked(refusal(root)) == [loose]
    assert len(read_dataset(root, label_names={loose: "skip"})) == 2
    unsure = write(tmp_path / "in", ["fractured/a.png", "fractured/uncertain/b.png", "normal/c.png"])
    assert "'uncertain' no label" in refusal(unsure) or "'uncertain' unknown" in refusal(unsure)


def test_a_table_turned_round_is_shown_beside_the_folder(tmp_path):
    root = write(tmp_path, PAIR)
    (root / "labels.csv").write_text("path,label\nfractured/1.png,0\nnormal/2.png,1\n")
    message = refusal(root)
    assert "line 2: the label is normal, but the image lies in 'fractured'" in message
    assert asked(message) == ["0", "1"]
    turned = read_dataset(root, label_names={"0": "fractured", "1": "normal"})
    assert turned["label"].tolist() == read_dataset(root, layout="folders")["label"].tolist() == [1, 0]


@pytest.mark.parametrize("header", ["path,label,fractured", "path,fractured,normal"])
def test_two_label_columns_must_agree(tmp_path, header):
    root = write(tmp_path, ["a.png", "b.png"])
    second = ("0", "1") if header.endswith("normal") else ("1", "0")
    good = f"{header}\na.png,1,{second[0]}\nb.png,0,{second[1]}\n"
    (root / "labels.csv").write_text(good)
    assert read_dataset(root)["label"].tolist() == [1, 0]
    (root / "labels.csv").write_text(good[:-2] + second[0] + "\n")
    message = refusal(root)
    assert "line 3" in message
    assert all(name in message for name in header.split(",")[1:])


def test_numbers_of_classes_count_only_where_their_order_is_known(tmp_path):
    root = write(tmp_path, ["images/a.png", "images/b.png"])
    table = "file,target\na.png,1\nb.png,0\n"
    (root / "metadata.csv").write_text(table)
    assert asked(refusal(root)) == ["0", "1"]
    assert read_dataset(root, label_names={"0": "fractured", "1": "normal"})["label"].tolist() == [0, 1]
    (root / "metadata.csv").write_text(table.replace("target", "fractured"))
    assert read_dataset(root)["label"].tolist() == [1, 0]


# --- parts and patients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "holdout"),
        ("TrainingSet", "ValidationSet", "TestingSet"),
        ("train2017", "val2017", "test2017"),
        ("1_train", "2_val", "3_test"),
        ("Train (70%)", "Val (15%)", "Test (15%)"),
        ("train", "dev", "unseen test"),
        ("entrenamiento", "validación", "prueba"),
        ("eğitim", "doğrulama", "test"),
        ("训练", "验证", "测试"),
    ],
)
def test_names_of_parts(tmp_path, train, val, test):
    expected = {
        f"{name}/{label}/x.png": (part,)
        for name, part in ((train, "train"), (val, "val"), (test, "test"))
        for label in ("fractured", "normal")
    }
    assert facts(read_dataset(write(tmp_path, expected)), tmp_path, "split") == expected
    joined = write(
        tmp_path / "j", [f"{part}_{label}/x.png" for part in (train, test) for label in ("broken", "normal")]
    )
    table = read_dataset(joined)
    assert (table["split"].value_counts().to_dict(), table["label"].sum()) == ({"train": 2, "test": 2}, 2)


def test_an_unknown_name_beside_parts_is_a_question(tmp_path):
    parts, labels = ("train", "valid", "ward 7"), ("broken", "normal")
    root = write(tmp_path, [f"{part}/{label}/x.png" for part in parts for label in labels])
    message = refusal(root)
    assert asked(message) == ["ward 7"]
    assert "'ward 7' stands beside 'train', 'valid'" in message
    assert set(read_dataset(root, split_names={"ward 7": "test"})["split"]) == {"train", "val", "test"}
    assert len(read_dataset(root, split_names={"ward 7": "skip"})) == 4
    assert read_dataset(root, split_names={"ward 7": "ignore"})["split"].isna().sum() == 2


def test_folders_give_the_part_that_a_table_does_not(tmp_path):
    root = write(tmp_path, ["train/a.png", "test/b.png"])
    (root / "labels.csv").write_text("path,label\na.png,1\nb.png,0\n")
    assert facts(read_dataset(root), root, "split") == {"test/b.png": ("test",), "train/a.png": ("train",)}
    (root / "labels.csv").write_text("path,label,split\na.png,1,test\nb.png,0,test\n")
    assert "the part is test, but the image lies in 'train'" in refusal(root)


@pytest.mark.parametrize(
    "column",
    each(
        "patient|PatientID|patient_id|Patient No.|PATIENT-NR|pid|Subject_ID|MRN|id_paciente|hasta_no|"
        "Patienten-ID|пациент|患者ID"
    ),
)
def test_columns_of_patients(tmp_path, column):
    root = write(tmp_path, ["a.png", "b.png"])
    (root / "labels.csv").write_text(f"path,label,{column},colour\na.png,1,7,x\nb.png,0,8,y\n", encoding="utf-8")
    table = read_dataset(root)
    assert table["group"].tolist() == ["7", "8"]
    assert table.attrs["reading"]["columns"][column] == "group"
    assert table.attrs["reading"]["without_meaning"] == ["column colour"]


def test_folders_of_patients(tmp_path):
    root = write(tmp_path, ["fractured/patient_1/a.png", "fractured/Subject 2/b.png", "normal/patient_1/c.png"])
    assert set(read_dataset(root)["group"]) == {"patient_1", "Subject 2"}


# --- tables -----------------------------------------------------------------------------------------------------------

LINES = "path,label\nBrüche/1.png,1\nnormal/2.png,0\n"


@pytest.mark.parametrize(
    "content",
    [
        LINES.encode("cp1252"),
        LINES.encode("utf-16"),
        LINES.replace(",", ";").encode("utf-8-sig"),
        ("sep=|\r\n" + LINES.replace(",", "|")).encode(),
        LINES.removeprefix("path,label\n").encode(),
        unicodedata.normalize("NFD", LINES).encode(),
        LINES.replace("\n", "\n/kaggle/input/set/", 2).encode(),
        LINES.replace("Brüche/", "").replace(".png", "").replace("normal/", "").encode(),
        LINES.replace("path,label", "Dateiname,Befund").replace("/", "\\").encode(),
        (LINES + "normal/2.png,0\n").encode(),
    ],
    ids=[
        "cp1252",
        "utf-16",
        "semicolons",
        "sep",
        "no header",
        "decomposed",
        "paths of elsewhere",
        "stems",
        "German",
        "twice",
    ],
)
def test_tables_as_offices_write_them(tmp_path, content):
    root = write(tmp_path, ["Brüche/1.png", "normal/2.png"])
    (root / "labels.csv").write_bytes(content)
    assert facts(read_dataset(root), root, "label") == {"Brüche/1.png": (1,), "normal/2.png": (0,)}


def test_a_base_name_of_two_images_is_a_question(tmp_path):
    root = write(tmp_path, ["a/1.png", "b/1.png"])
    (root / "labels.csv").write_text("path,label\n1.png,1\n")
    assert "'1.png' may be a/1.png, b/1.png" in refusal(root)


def test_an_empty_label_means_what_the_user_says(tmp_path):
    root = write(tmp_path, ["a.png", "b.png"])
    (root / "labels.csv").write_text("path,label\na.png,1\nb.png,\n")
    assert asked(refusal(root)) == ["empty"]
    assert read_dataset(root, label_names={"empty": "normal"})["label"].tolist() == [1, 0]
    assert len(read_dataset(root, label_names={"empty": "skip"})) == 1


def test_a_published_table_of_stems_has_patients_and_empty_cells(tmp_path):
    root = write(tmp_path, ["images_part1/0001_01.png", "images_part2/0002_01.png"])
    (root / "dataset.csv").write_text("filestem,patient_id,fracture_visible\n0001_01,1,1\n0002_01,2,\n")
    assert [tuple(row) for row in read_dataset(root)[["label", "group"]].values] == [(1, "1"), (0, "2")]


# --- detection --------------------------------------------------------------------------------------------------------


def yolo(root: Path) -> Path:
    write(root, [f"train/images/{name}.jpg" for name in "abc"])
    (root / "train/labels").mkdir()
    for name, text in (("a", "0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n"), ("b", ""), ("c", "1 .2 .2 .1 .1\n")):
        (root / f"train/labels/{name}.txt").write_text(text)
    return root


@pytest.mark.parametrize(
    "names", ["names: ['wrist fracture', metal]", "names:\n- fracture\n- text", "names:\n  0: Bruch\n  1: cast"]
)
def test_boxes_of_yolo(tmp_path, names):
    root = yolo(tmp_path)
    assert asked(refusal(root)) == ["0", "1"]
    assert read_dataset(root, label_names={"0": "ignore", "1": "fractured"})["label"].tolist() == [1, 0, 1]
    (root / "data.yaml").write_text(f"nc: 2\n{names}\n")
    table = read_dataset(root)
    assert (table["label"].tolist(), set(table["split"])) == ([1, 0, 0], {"train"})


@pytest.mark.parametrize("layout", ["coco", "voc"])
def test_boxes_of_coco_and_voc(tmp_path, layout):
    root = write(tmp_path, ["a.png", "b.png"])
    for word in ("fracture", "thing"):
        if layout == "coco":
            images = [{"id": 5, "file_name": "a.png"}, {"id": 6, "file_name": "b.png"}]
            boxes = [{"image_id": 5, "category_id": 3}]
            text = json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 3, "name": word}]})
            (root / "_annotations.coco.json").write_text(text)
        else:
            (root / "a.xml").write_text(f"<annotation><object><name>{word}</name></object></annotation>")
            (root / "b.xml").write_text("<annotation/>")
        if word == "fracture":
            assert read_dataset(root)["label"].tolist() == [1, 0]
            assert read_dataset(root).attrs["reading"]["layout"] == layout
    assert asked(refusal(root)) == ["thing"]


def test_one_column_a_class_and_several_boxes_an_image(tmp_path):
    root = write(tmp_path / "c", ["train/a.png", "valid/a.png"])
    for part in ("train", "valid"):
        (root / part / "_classes.csv").write_text(
            f"filename, Fractured, Not fractured\na.png, {int(part == 'train')}, {int(part == 'valid')}\n"
        )
    assert facts(read_dataset(root), root, "label", "split") == {"train/a.png": (1, "train"), "valid/a.png": (0, "val")}
    root = write(tmp_path / "b", ["a.png", "b.png"])
    (root / "boxes.csv").write_text("filename,class,xmin\na.png,metal,1\na.png,fracture,2\nb.png,normal,0\n")
    assert read_dataset(root)["label"].tolist() == [1, 0]


# --- options and reports ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["mura", "labels_csv", "folders", "unlabelled"])
def test_skip_works_in_every_layout_and_a_name_that_is_nowhere_is_refused(tmp_path, layout):
    names = [f"{region}/patient1/study1_positive/x.png" for region in ("XR_HAND", "XR_WRIST")]
    if layout != "mura":
        names = [f"{region}/fractured/{region}.png" for region in ("XR_HAND", "XR_WRIST")]
    root = write(tmp_path, names)
    (root / "labels.csv").write_text("path,label\n" + "".join(f"{name},1\n" for name in names))
    table = read_dataset(root, layout=layout, label_names={"xr hand": "skip"})
    assert [Path(path).relative_to(root).parts[0] for path in table["path"]] == ["XR_WRIST"]
    assert table.attrs["reading"]["left_out"]["skipped by their name"] == 1
    assert "'XR_HNAD': no folder or label is called that" in refusal(
        root, layout=layout, label_names={"XR_HNAD": "skip"}
    )
    assert "'tset'" in refusal(root, layout=layout, split_names={"tset": "test"})


def test_what_was_used_and_what_was_not(tmp_path):
    root = write(tmp_path, ["train/fractured/a.png", "train/normal/batch 3/b.png"])
    shutil.copy(root / "train/fractured/a.png", root / "train/normal/IM000001")
    for name in ("notes.txt", "scans.zip", "train/normal/no picture"):
        (root / name).write_text("x")
    table = read_dataset(root)
    assert len(table) == 3
    assert table.attrs["reading"]["names"] == {"train": "part train", "fractured": "fractured", "normal": "normal"}
    assert reading_lines(table.attrs["reading"]) == [
        "Read as folders.",
        "Used: part train: train; fractured: fractured; normal: normal.",
        "Not used: batch 3.",
        "Left out: 1 .txt, 1 .zip (unpack it), 1 without suffix.",
    ]


def test_tables_that_cannot_be_read_are_named(tmp_path):
    root = write(tmp_path, ["images/a.png"])
    (root / "labels.xlsx").write_bytes(b"PK")
    assert "not read: labels.xlsx: save it as labels.csv" in refusal(root)


def test_commands_report_the_reading(tmp_path, capsys):
    root = write(tmp_path / "s", ["ward 1/fractured/a.png", "ward 1/normal/b.png", "ward 1/notes/c.png"])
    (root / "scan.jp2").write_bytes(b"x")
    options = ["audit", str(root), "--label-names", "notes=skip"]
    assert main([*options, "--json"]) == 0
    reading = json.loads(capsys.readouterr().out)["reading"]
    assert reading["names"] == {"fractured": "fractured", "normal": "normal", "notes": "skip"}
    assert reading["left_out"] == {"skipped by their name": 1, ".jp2 (save it as PNG)": 1}
    assert main(options) == 0
    assert "Left out: 1 skipped by their name, 1 .jp2 (save it as PNG)." in capsys.readouterr().err
