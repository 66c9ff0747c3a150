"""`realimages/`: what is read from it, and what may be put into it."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.prediction.real_images import fill, has_own_images, read_real_images, training_hashes, unused_images


def picture(seed: int) -> Image.Image:
    """A smooth picture of its own, far from every other."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC)


def save(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)
    return path


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def real(tmp_path):
    """A `realimages/` as it comes: a README and examples."""
    folder = tmp_path / "realimages"
    save(folder / "examples" / "fractured" / "synthetic_1.png", 1)
    save(folder / "examples" / "normal" / "synthetic_2.png", 2)
    (folder / "README.md").write_text("Drop X-rays here.")
    return folder


@pytest.fixture
def ward(tmp_path):
    """A data set of 10 fractured and 14 normal images."""
    folder = tmp_path / "ward"
    for i in range(24):
        save(folder / ("fractured" if i < 10 else "normal") / f"scan {i}.png", 100 + i)
    return folder


def test_examples_serve_only_while_nothing_else_is_there(real):
    table, examples = read_real_images(real)
    assert examples
    assert table["label"].tolist() == [1, 0]
    assert set(table["source"]) == {"examples"}
    mine = save(real / "mine.png", 3)
    table, examples = read_real_images(real)
    assert not examples
    assert table["path"].tolist() == [str(mine)]
    assert table["label"].isna().all()


def test_class_folders_a_table_and_loose_images_stand_side_by_side(real):
    save(real / "fractured" / "a.png", 3)
    save(real / "normal" / "b.png", 4)
    save(real / "loose.png", 5)
    save(real / "listed.png", 6)
    (real / "labels.csv").write_text("path,label,group\nlisted.png,normal,p7\n")
    table, _ = read_real_images(real)
    found = {Path(row.path).name: (row.label, row.group) for row in table.itertuples()}
    assert found["a.png"][0] == 1
    assert found["b.png"][0] == 0
    assert str(found["loose.png"][0]) == "<NA>"
    assert found["listed.png"] == (0, "p7")
    assert len(table) == 4
    assert table["path"].tolist() == sorted(table["path"])
    (real / "labels.csv").write_text("path,label\nfractured/a.png,normal\n")
    with pytest.raises(FracturelabError, match="line 2: the label is normal, but the image lies in 'fractured'"):
        read_real_images(real)


def test_a_folder_without_images_and_examples_says_what_to_do(tmp_path):
    with pytest.raises(FracturelabError, match="fracturelab realimages --from"):
        read_real_images(tmp_path)
    with pytest.raises(FracturelabError, match="nothing"):
        read_real_images(tmp_path / "missing")


def test_hashes_are_gathered_from_cards_and_records_at_any_depth(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "reports" / "results").mkdir(parents=True)
    (tmp_path / "models" / "v1.json").write_text(json.dumps({"train_hashes": ["a", "b"], "val_hashes": ["c"]}))
    (tmp_path / "reports" / "results" / "r.json").write_text(json.dumps({"data": {"x": [{"train_hashes": ["d"]}]}}))
    assert training_hashes([tmp_path / "models", tmp_path / "reports"]) == {"a", "b", "c", "d"}
    (tmp_path / "models" / "broken.json").write_text("{")
    with pytest.warns(UserWarning, match="broken.json"):
        assert training_hashes([tmp_path / "models"]) == {"a", "b", "c"}


def test_filling_takes_half_of_each_class_and_notes_where_they_are_from(real, ward):
    before = {path: path.read_bytes() for path in ward.rglob("*.png")}
    filled = fill(ward, n=8, folder=real, source="Ward 7", licence="CC0", used=[])
    assert {path: path.read_bytes() for path in ward.rglob("*.png")} == before
    assert filled.table["label"].value_counts().to_dict() == {1: 4, 0: 4}
    assert has_own_images(real)
    with open(real / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["source"], row["licence"]) for row in rows} == {("Ward 7", "CC0")}
    originals = {path.name: path for path in ward.rglob("*.png")}
    for row in rows:
        original = originals[row["original"]]
        assert (real / row["path"]).read_bytes() == original.read_bytes()
        assert row["sha256"] == sha256(original)
        assert row["label"] == original.parent.name
    assert read_real_images(real)[0]["label"].notna().all()


def test_the_seed_decides_which(tmp_path, ward):
    chosen = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        table = fill(ward, n=8, folder=tmp_path / name, used=[], seed=seed).table
        chosen[name] = sorted(Path(path).name for path in table["path"])
    assert chosen["a"] == chosen["b"] != chosen["c"]


def test_nothing_that_trained_a_model_is_taken_nor_its_copies(real, ward):
    trained = sorted(ward.rglob("*.png"))
    free = {path for path in trained if path.name in {"scan 0.png", "scan 1.png", "scan 20.png", "scan 21.png"}}
    mirrored = ward / "fractured" / "mirrored.png"
    Image.open(next(path for path in trained if path not in free)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        mirrored
    )
    used = [sha256(path) for path in trained if path not in free]
    filled = fill(ward, n=4, folder=real, used=used)
    assert {sha256(path) for path in filled.table["path"]} == {sha256(path) for path in free}
    assert filled.left_out["used in training"] == 20
    assert filled.left_out["near copy of one used in training"] == 1
    with pytest.raises(
        FracturelabError, match="expected 3 unused fractured images .* Received: 2 .*20 used in training"
    ):
        fill(ward, n=6, folder=real.parent / "other", used=used)


def test_one_image_at_most_of_each_patient(tmp_path):
    lines = ["path,label,group"]
    for i in range(12):
        save(tmp_path / "set" / f"{i}.png", 300 + i)
        lines.append(f"{i}.png,{i % 2},patient{i % 4}")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(lines))
    filled = fill(tmp_path / "set", n=4, folder=tmp_path / "out", used=[])
    assert sorted(filled.table["group"]) == ["patient0", "patient1", "patient2", "patient3"]
    with pytest.raises(FracturelabError, match="Received: 2"):
        fill(tmp_path / "set", n=6, folder=tmp_path / "again", used=[])


def test_only_the_published_test_part_is_taken_where_there_is_one(tmp_path):
    for part, count in (("train", 8), ("test", 6)):
        for i in range(count):
            save(
                tmp_path / "set" / part / ("fractured" if i % 2 else "normal") / f"{part}{i}.png",
                500 + 50 * (part == "test") + i,
            )
    filled = fill(tmp_path / "set", n=4, folder=tmp_path / "out", used=[])
    with open(tmp_path / "out" / "labels.csv", newline="") as file:
        assert all(row["original"].startswith("test") for row in csv.DictReader(file))
    assert filled.left_out["not of the test part"] == 8


def test_unreadable_and_unlabelled_images_are_left_out_and_counted(ward):
    (ward / "fractured" / "cut.png").write_bytes((ward / "fractured" / "scan 0.png").read_bytes()[:300])
    from fracturelab.datasets import read_dataset

    table = read_dataset(ward)
    free, left_out = unused_images(table, used=frozenset())
    assert left_out["unreadable"] == 1
    assert len(free) == 24
    assert set(free["sha256"]) == {sha256(path) for path in free["path"]}


def test_what_is_there_is_never_overwritten(real, ward):
    mine = save(real / "fractured" / "mine.png", 9)
    before = mine.read_bytes()
    with pytest.raises(FracturelabError, match="'fractured' already"):
        fill(ward, n=4, folder=real, used=[])
    assert mine.read_bytes() == before
    assert not (real / "labels.csv").exists()


def test_a_copy_that_fails_leaves_the_folder_as_it_was(real, ward, monkeypatch):
    import shutil

    copies = []

    def full(source, target):
        if len(copies) == 3:
            raise OSError(28, "No space left on device", str(target))
        copies.append(target)
        Path(target).write_bytes(b"")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(FracturelabError, match="No space left"):
        fill(ward, n=8, folder=real, used=[])
    assert sorted(path.name for path in real.iterdir()) == ["README.md", "examples"]


def test_too_few_were_asked_for(real, ward):
    with pytest.raises(FracturelabError, match="at least 2"):
        fill(ward, n=1, folder=real, used=[])
