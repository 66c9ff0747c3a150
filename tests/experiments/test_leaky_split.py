"""The flawed way to a validation score, and what notebooks hold back to see through it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracturelab.datasets import read_dataset
from fracturelab.experiments.leaky_split import (
    augment_then_split,
    augmented_copies,
    shared_with_training,
    split_then_augment,
)
from fracturelab.pipeline import Augmentation
from fracturelab.training import Prepared, prepare_with_external
from tests.audit import near_duplicate_groups

FAR = Augmentation(rotation=40.0, shift=0.2, zoom=0.3)


def pictures(n: int, *, size: int = 64, seed: int = 0) -> np.ndarray:
    """Pictures of blobs, each unlike any other."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(n, size, size))
    smooth = np.stack([gaussian_filter(plane, 2.5) for plane in noise])
    return np.clip(120 + 90 * smooth / smooth.std(), 1, 254).astype(np.uint8)[..., None]


def prepared_set(labels: list[int], split: list[str]) -> Prepared:
    n = len(labels)
    table = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(n)],
            "label": pd.array(labels, dtype="Int64"),
            "group": pd.array([f"patient {i // 2}" for i in range(n)], dtype="string"),
            "split": pd.array(split, dtype="string"),
            "source": "here",
        }
    )
    unreadable = pd.DataFrame({"path": [], "reason": []})
    return Prepared(table, pictures(n), np.array([f"hash {i}" for i in range(n)]), unreadable)


def test_copies_follow_from_seed_and_original_and_differ_from_each_other():
    images = pictures(4)
    copies = augmented_copies(images, [3, 0, 3, 3], seed=5)
    assert copies.dtype == np.uint8
    assert copies.shape == (4, 64, 64, 1)
    assert np.array_equal(copies, augmented_copies(images, [3, 0, 3, 3], seed=5))
    assert np.array_equal(copies[:2], augmented_copies(images, [3, 0], seed=5))
    assert not np.array_equal(copies, augmented_copies(images, [3, 0, 3, 3], seed=6))
    assert len({copy.tobytes() for copy in copies}) == 4


def test_copies_as_they_are_by_default_are_found_by_the_audit():
    origins = np.repeat(np.arange(6), 4)
    groups = near_duplicate_groups(augmented_copies(pictures(6), origins))
    assert np.array_equal(groups, origins)


@pytest.mark.parametrize("copies", [40, 41])
def test_every_class_gets_its_share_spread_evenly_over_its_images(copies):
    data = prepared_set([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1], ["train"] * 10 + ["val"] * 2)
    origins = [int(name.split()[1]) for name in augment_then_split(data, copies=copies, seed=1).hashes]
    assert np.bincount(data.labels[origins]).tolist() == [copies - copies // 2, copies // 2]
    times = np.bincount(origins, minlength=10)
    assert set(times[:3]) == {6, 7}
    assert set(times[3:]) <= {2, 3}


def test_copies_of_one_patient_come_to_lie_on_both_sides_but_the_test_part_stays_out():
    honest = prepared_set([0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1], ["train"] * 6 + ["val"] * 4 + ["test"] * 2)
    assert shared_with_training(honest) == 0
    flawed = augment_then_split(honest, copies=200, augmentation=FAR)
    assert (len(flawed.rows("train")), len(flawed.rows("val")), len(flawed.rows("test"))) == (160, 40, 0)
    assert set(flawed.hashes) == {f"hash {row}" for row in honest.rows("train")}
    assert shared_with_training(flawed) == 1
    assert np.bincount(flawed.labels).tolist() == [100, 100]
    assert flawed.table["path"].tolist() == [f"{name.split()[1]}.png" for name in flawed.hashes]
    right = split_then_augment(honest, copies=200, augmentation=FAR)
    assert np.array_equal(right.images[right.rows("train")], flawed.images[flawed.rows("train")])
    assert np.array_equal(right.labels[right.rows("train")], flawed.labels[flawed.rows("train")])
    assert (len(right.rows("val")), shared_with_training(right)) == (40, 0)
    assert set(right.table["path"].iloc[right.rows("val")]) == {f"{row}.png" for row in honest.rows("val")}
    # What the honest set is made of has not changed.
    assert honest.rows("val").tolist() == [6, 7, 8, 9]


def folder_of(root, *, n: int, seed: int, split: bool = False):
    (root / "images").mkdir(parents=True)
    lines = ["path,label,group,split"]
    for i, picture in enumerate(pictures(n, seed=seed)):
        Image.fromarray(picture[..., 0]).save(root / "images" / f"{i}.png")
        side = ("test" if i % 4 > 1 else "train") if split else ""
        lines.append(f"images/{i}.png,{('normal', 'fractured')[i % 2]},patient {i},{side}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_folder_keeps_its_own_test_part_outside(tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURELAB_CACHE", str(tmp_path / "cache"))
    prepared, outside = prepare_with_external(folder_of(tmp_path / "set", n=40, seed=3, split=True), size=32)
    assert len(outside.labels) == len(outside.paths) == len(outside.images) == 20
    assert not set(outside.groups) & set(prepared.groups[prepared.rows("train")])
    assert outside.images.shape[1:] == (32, 32, 1)
    assert np.array_equal(outside.images, prepared.images[prepared.rows("test")])


def test_the_default_has_another_source_outside_and_no_test_part_within(tmp_path, monkeypatch):
    monkeypatch.setenv("FRACTURELAB_CACHE", str(tmp_path / "cache"))
    sets = {name: folder_of(tmp_path / name, n=n, seed=n) for name, n in (("clinic", 30), ("field", 12))}
    monkeypatch.setattr("fracturelab.phantoms.default_data", lambda source: sets[source])
    prepared, outside = prepare_with_external(size=32, seed=2)
    assert (len(prepared.rows("train")), len(prepared.rows("val")), len(prepared.rows("test"))) == (24, 6, 0)
    assert outside.paths == read_dataset(sets["field"])["path"].tolist()
    assert outside.labels.tolist() == read_dataset(sets["field"])["label"].tolist()
    assert outside.images.shape == (12, 32, 32, 1)
    assert "synthetic" in outside.name
