"""Unpack an archive, but never outside its folder, and never a bomb."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fracturelab.errors import FracturelabError
from fracturelab.system.files import whole_folder

MAX_BYTES = 50_000_000_000
MAX_MEMBERS = 1_000_000
MAX_RATIO = 100
"""Images hardly shrink in an archive; one that grows a hundredfold when unpacked is a bomb."""
_SMALL = 100_000_000


class _Member(NamedTuple):
    name: str
    size: int
    is_folder: bool
    refuse: str | None
    open: Callable[[], IO[bytes] | None]

    @property
    def path(self) -> PurePosixPath:
        return PurePosixPath(self.name.replace("\\", "/"))


def extract_archive(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Unpack a zip or tar archive into a new folder.

    Every member is checked before anything is written. An archive is refused whole if a path is absolute or climbs
    out, if there is a link or a device, or if it holds more than 50 GB or a hundred times its own length. Files are
    written beside the target and put in place with one rename, so a folder is there whole or not at all.

    Args:
        archive: A .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz file; told by content.
        folder: The folder to make. It must not exist yet, or be empty.

    Returns:
        The folder.

    Raises:
        FracturelabError: The archive is refused or damaged, or the folder cannot be made.
    """
    source, target = Path(archive), Path(os.path.abspath(folder))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FracturelabError(f"expected a new or empty folder to unpack into. Received: {target}; choose another")
    if not source.is_file():
        raise FracturelabError(f"expected an archive. Received: {source}, which is not a file")
    try:
        if not zipfile.is_zipfile(source) and not tarfile.is_tarfile(source):
            raise FracturelabError(f"expected a zip or tar archive. Received: {source}; download it again?")
        with zipfile.ZipFile(source) if zipfile.is_zipfile(source) else tarfile.open(source) as opened:
            _unpack(list(_checked(opened, source)), target)
    except FracturelabError:
        raise
    except Exception as error:  # zlib.error and lzma.LZMAError have no common parent
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FracturelabError(f"the archive {source} cannot be unpacked into {target}: {reason}") from error
    return target


def _checked(opened: zipfile.ZipFile | tarfile.TarFile, source: Path) -> Iterator[_Member]:
    """Every member, or an error at the first that may not be unpacked."""
    most = min(MAX_BYTES, max(_SMALL, MAX_RATIO * source.stat().st_size))
    total = count = 0
    for member in _members(opened):
        total, count = total + member.size, count + 1
        path = member.path
        refuse = member.refuse
        if path.is_absolute() or ".." in path.parts or ":" in member.name.split("/")[0] or "\0" in member.name:
            refuse = "leaves the folder"
        elif total > most or count > MAX_MEMBERS:
            refuse = f"brings the total over the limit of {most / 1e6:.0f} MB and {MAX_MEMBERS} files, as a bomb does"
        if refuse:
            raise FracturelabError(f"the archive {source} is refused, nothing was unpacked: {member.name!r} {refuse}")
        yield member


def _members(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[_Member]:
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            refuse = None if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is a link or a device"
            yield _Member(info.filename, info.file_size, info.is_dir(), refuse, partial(opened.open, info))
        return
    for entry in opened:
        refuse = None if entry.isreg() or entry.isdir() else "is a link or a device"
        size = entry.size if entry.isreg() else 0
        yield _Member(entry.name, size, entry.isdir(), refuse, partial(opened.extractfile, entry))
    # tar itself stops at its end mark; the compressor's checksum stands behind that.
    tail = 0
    while opened.fileobj is not None and (block := opened.fileobj.read(1 << 20)):
        tail += len(block)
        if tail > _SMALL:
            raise FracturelabError("the archive is refused, nothing was unpacked: it goes on after its end")


def _unpack(members: list[_Member], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    need = sum(member.size for member in members)
    free = shutil.disk_usage(target.parent).free
    if need > free:
        raise FracturelabError(f"unpacking needs {need / 1e6:.0f} MB in {target.parent}, {free / 1e6:.0f} MB are free")
    with whole_folder(target) as folder:
        for member in members:
            path = folder.joinpath(*member.path.parts)
            if member.is_folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            content = member.open()  # gives no more than the size that was counted
            assert content is not None
            with content, path.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            if path.stat().st_size != member.size:
                raise FracturelabError(f"the archive is damaged: {member.name!r} is not as long as it says")
