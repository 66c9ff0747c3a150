"""The fingerprint of a data set and the hashes of its files."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import types
from pathlib import Path

import pandas as pd
import pytest

from fracturelab.datasets import PUBLISHED, fetch, file_hashes, fingerprint, make_table
from fracturelab.errors import FracturelabError, UnreadableImageError


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    rows = []
    for index in range(5):
        path = tmp_path / f"{index}.png"
        path.write_bytes(bytes([index]) * 1000)
        rows.append({"path": str(path), "label": [0, 1, None][index % 3]})
    return make_table(rows)


def test_hashes_are_sha256_in_order(table: pd.DataFrame) -> None:
    expected = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in table["path"]]
    assert file_hashes(list(table["path"])) == expected
    assert file_hashes([Path(path) for path in table["path"][::-1]]) == expected[::-1]
    assert file_hashes([]) == []


def test_a_changed_file_has_another_hash(table: pd.DataFrame) -> None:
    path = Path(table["path"][0])
    before = file_hashes([path])
    path.write_bytes(b"changed")
    assert file_hashes([path]) == [hashlib.sha256(b"changed").hexdigest()] != before


def test_the_fingerprint_is_of_contents_and_labels_alone(table: pd.DataFrame, tmp_path: Path) -> None:
    original = fingerprint(table)
    assert len(original) == 64
    assert fingerprint(table.sample(frac=1, random_state=1)) == original
    moved = table.copy()
    (tmp_path / "elsewhere").mkdir()
    moved["path"] = [shutil.copy(path, tmp_path / "elsewhere" / f"x{i}.jpg") for i, path in enumerate(table["path"])]
    moved["split"] = "train"
    assert fingerprint(moved) == original
    relabelled = table.copy()
    relabelled.loc[0, "label"] = 1
    assert fingerprint(relabelled) != original
    assert fingerprint(table.iloc[1:]) != original
    unknown = table.copy()
    unknown.loc[0, "label"] = pd.NA
    assert fingerprint(unknown) not in (original, fingerprint(relabelled))


def test_files_that_cannot_be_hashed_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="no such file"):
        file_hashes([tmp_path / "gone.png"])
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImageError, match="not a regular file"):
        file_hashes([tmp_path / "pipe.png"])


def test_a_table_of_nothing_has_its_columns() -> None:
    empty = make_table([])
    assert len(empty) == 0
    assert str(empty["label"].dtype) == "Int64"


def test_published_sets_are_pinned() -> None:
    for published in PUBLISHED.values():
        if published.handle is not None and not published.handle.startswith("doi:"):
            owner, name, word, version = published.handle.split("/")
            assert word == "versions"
            assert int(version) >= 1
            assert published.page.endswith(f"{owner}/{name}")


def fake_kagglehub(monkeypatch: pytest.MonkeyPatch, download) -> None:  # type: ignore[no-untyped-def]
    module = types.ModuleType("kagglehub")
    module.dataset_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", module)


def test_fetch_asks_for_the_pinned_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    fake_kagglehub(monkeypatch, lambda handle: asked.append(handle) or str(tmp_path))
    assert fetch("multi-region") == tmp_path
    assert asked == [PUBLISHED["multi-region"].handle]


def test_offline_gives_the_steps_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(handle: str) -> str:
        raise ConnectionError("Max retries exceeded\nwith url ...")

    fake_kagglehub(monkeypatch, offline)
    with pytest.raises(FracturelabError) as caught:
        fetch("multi-region")
    message = str(caught.value)
    assert "\n" not in message
    for words in ("no connection to Kaggle", PUBLISHED["multi-region"].page, "data/multi-region", "fracturelab audit"):
        assert words in message


def test_without_kagglehub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(FracturelabError, match=r"fracturelab\[kaggle\].*by hand"):
        fetch("fracture-types")


def test_sets_under_personal_terms_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kagglehub(monkeypatch, lambda handle: pytest.fail("downloaded"))
    with pytest.raises(FracturelabError, match="agreement.*by hand"):
        fetch("mura")
    with pytest.raises(FracturelabError, match="expected one of fracatlas"):
        fetch("imagenet")
