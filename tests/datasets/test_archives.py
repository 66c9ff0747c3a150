"""An archive is unpacked whole inside its folder, or refused before anything is written."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from fracturelab.datasets import archives, extract_archive
from fracturelab.errors import FracturelabError

FILES = {"set/fractured/a.png": b"a" * 1000, "set/normal/b c.png": b"b", "top.txt": b""}


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, tmp_path: Path, said: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FracturelabError, match=said) as caught:
        extract_archive(archive, tmp_path / "deep" / "out")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_archives_are_unpacked_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "named without a suffix"
    if kind == "zip":
        make_zip(path, FILES)
    else:
        make_tar(path, FILES, "w" if kind == "tar" else f"w:{kind.removeprefix('tar.')}")
    (tmp_path / "out").mkdir()  # an empty folder will do
    assert extract_archive(path, tmp_path / "out") == tmp_path / "out"
    assert contents(tmp_path / "out") == FILES
    assert sorted(os.listdir(tmp_path)) == [path.name, "out"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "a/../../evil.png",
        "/tmp/evil.png",
        "..\\evil.png",
        "C:\\evil.png",
        "c:evil.png",
        "a/..",
        "a//../x",
    ],
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_members_that_climb_out_are_refused(tmp_path: Path, name: str, make) -> None:  # type: ignore[no-untyped-def]
    refused(
        make(tmp_path / "x", {"good.png": b"g", name: b"evil"}), tmp_path, "nothing was unpacked.*leaves the folder"
    )


@pytest.mark.parametrize("make", [make_zip, lambda path, files: make_tar(path, files, "w:gz")])
def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make) -> None:  # type: ignore[no-untyped-def]
    path = make(tmp_path / "x", {f"{index}.png": bytes(2_000_000) for index in range(4)})
    monkeypatch.setattr(archives, "MAX_BYTES", 5_000_000)
    refused(path, tmp_path, "limit of 5 MB")
    monkeypatch.undo()
    monkeypatch.setattr(archives, "_SMALL", 1_000_000)
    refused(path, tmp_path, "as a bomb does")
    monkeypatch.undo()
    assert len(contents(extract_archive(path, tmp_path / "out"))) == 4
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    refused(path, tmp_path, "3 files")


@pytest.mark.parametrize("names", [("a.png", "a.png"), ("a", "a/b.png"), ("a/b.png", "a")])
def test_names_that_meet_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(FracturelabError):
        extract_archive(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.tar"]


def test_a_locked_zip_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": b"a"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(FracturelabError, match="encrypted"):
        extract_archive(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.zip"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "tar.bz2"])
def test_damaged_archives_leave_nothing(tmp_path: Path, kind: str) -> None:
    big = {"a.png": os.urandom(300_000), "b.png": os.urandom(300_000)}
    path = tmp_path / "x"
    if kind == "zip":
        make_zip(path, big)
    else:
        make_tar(path, big, f"w:{kind.removeprefix('tar.')}")
    data = bytearray(path.read_bytes())
    data[250_000:250_050] = bytes(50)
    path.write_bytes(data)
    with pytest.raises(FracturelabError):
        extract_archive(path, tmp_path / "out")
    path.write_bytes(data[:400_000])
    with pytest.raises(FracturelabError):
        extract_archive(path, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["x"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", FILES)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FracturelabError, match="new or empty folder"):
        extract_archive(path, tmp_path / "out")
    assert contents(tmp_path / "out") == {"mine.txt": b"mine"}


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("<html>sign in</html>")
    refused(tmp_path / "x.zip", tmp_path, "expected a zip or tar archive")
    refused(tmp_path / "gone.zip", tmp_path, "not a file")


def test_too_little_room_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_zip(tmp_path / "x.zip", FILES)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: archives.shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(FracturelabError, match="unpacking needs"):
        extract_archive(path, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["x.zip"]
