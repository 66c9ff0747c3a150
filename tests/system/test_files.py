"""Folders are there whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fracturelab.errors import FracturelabError
from fracturelab.system.files import whole_folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_takes_the_place_of_none_or_an_empty_one(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "deep" / "set").mkdir(parents=True)
    with whole_folder(tmp_path / "deep" / "set") as part:
        (part / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "set" / "a.txt").exists()
    assert names(tmp_path) == ["deep", "deep/set", "deep/set/a.txt"]
    assert stat.S_IMODE((tmp_path / "deep" / "set").stat().st_mode) == 0o755


def test_after_a_failure_what_was_there_stays(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with whole_folder(target) as part:
        (part / "old.txt").write_text("old")
    with pytest.raises(KeyError), whole_folder(target, replace=True) as part:
        {}[part]
    assert names(tmp_path) == ["set", "set/old.txt"]
    with pytest.raises(FracturelabError, match="cannot write .*set"), whole_folder(target) as part:
        (part / "new.txt").write_text("new")
    assert names(tmp_path) == ["set", "set/old.txt"]
    with whole_folder(target, replace=True) as part:
        (part / "new.txt").write_text("new")
    assert names(tmp_path) == ["set", "set/new.txt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FracturelabError, match="cannot write .*file/set"), whole_folder(tmp_path / "file" / "set"):
        pass
