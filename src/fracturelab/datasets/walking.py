"""List the files of a folder, and find those that tables name. No picture is decoded."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from fracturelab.datasets.names import vocabulary
from fracturelab.errors import FracturelabError, UnreadableImageError
from fracturelab.images.opening import open_regular
from fracturelab.images.signatures import HEAD_BYTES, IMAGE_FORMATS, recognise

Parts = tuple[str, ...]
"""The names of the folders between the root and a file."""


class Files(NamedTuple):
    """The files of a folder.

    Attributes:
        root: The folder.
        images: For each folder below the root, as a tuple of names, the names of the images in it; both sorted.
        others: Files that are no images and no junk, as paths relative to the root; sorted.
    """

    root: Path
    images: dict[Parts, list[str]]
    others: list[str]

    def paths(self) -> Iterator[tuple[str, Parts]]:
        """Yield each image's path and the folders it is in."""
        for parts, names in self.images.items():
            folder = os.path.join(self.root, *parts)
            yield from ((os.path.join(folder, name), parts) for name in names)


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Return whether a file's name ends like an image's (.png, .jpg, .tif, .dcm ...) and is not hidden."""
    name = os.path.basename(os.fspath(path))
    return not is_junk(name) and os.path.splitext(name)[1].lower() in vocabulary()["files"]["images"]


def is_junk(name: str) -> bool:
    """Return whether systems leave files of this name behind: hidden files, desktop.ini, Thumbs.db, __MACOSX ..."""
    return name.startswith(".") or name.lower() in vocabulary()["files"]["junk"]


def list_other_files(folder: str | os.PathLike[str]) -> list[str]:
    """List the files below a folder that are neither images nor junk, relative to it and sorted.

    `read_dataset` leaves them out; the audit lists them.

    Raises:
        FracturelabError: There is no such folder, or it cannot be read.
    """
    return walk(check_folder(folder)).others


def count_others(others: list[str]) -> dict[str, int]:
    """Count files that are left out by the reason: `{".txt": 3, ".jp2 (save it as PNG)": 1}`."""
    ways = vocabulary()["not_read"]
    suffixes = Counter(os.path.splitext(name)[1].lower() for name in others)
    reasons = {suffix: f" ({ways[suffix]})" if suffix in ways else "" for suffix in suffixes}
    return {f"{suffix or 'without suffix'}{reasons[suffix]}": count for suffix, count in suffixes.most_common()}


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Return a folder as an absolute path.

    Raises:
        FracturelabError: There is no such folder.
    """
    path = Path(os.path.abspath(os.path.expanduser(folder)))
    if path.is_dir():
        return path
    if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz") and path.is_file():
        raise FracturelabError(
            f"expected a folder of X-rays. Received: an archive, {path}; unpack it first, "
            f"fracturelab.datasets.extract_archive does so safely"
        )
    what = "a file" if path.exists() else "a path where there is nothing"
    raise FracturelabError(f"expected a folder of X-rays. Received: {what}, {path}")


def walk(root: Path) -> Files:
    """List what is below a folder, in the same order every time.

    Links to files are taken as files. Links to folders are followed, wherever they lead, but every real folder is
    visited once, by its own name where it has one below the root: a loop ends, and nothing is counted twice. Whatever
    is named like an image counts as one, broken links and named pipes too, so that reading them reports what is wrong.
    Files without a suffix, or with a number for one as DICOM files have, count by their first bytes.

    Raises:
        FracturelabError: A folder cannot be read.
    """
    images: dict[Parts, list[str]] = {}
    others: list[str] = []
    visited: set[tuple[int, int]] = set()
    links: list[Parts] = [()]
    while links:
        links.sort(key=lambda parts: (len(parts), parts))
        for folder, folders, files in os.walk(root.joinpath(*links.pop(0)), onerror=_refuse):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                folders.clear()
                continue
            visited.add((status.st_dev, status.st_ino))
            parts = Path(folder).relative_to(root).parts
            folders[:] = [name for name in folders if not is_junk(name)]
            links += [(*parts, name) for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in files:
                if is_image_name(name) or (not is_junk(name) and _is_image_without_suffix(os.path.join(folder, name))):
                    images.setdefault(parts, []).append(name)
                elif not is_junk(name):
                    others.append(os.path.join(*parts, name))
    return Files(root, {parts: sorted(images[parts]) for parts in sorted(images)}, sorted(others))


def _is_image_without_suffix(path: str) -> bool:
    suffix = os.path.splitext(path)[1][1:]
    if suffix and not suffix.isdigit():
        return False
    try:
        with open_regular(path) as file:
            return recognise(file.read(HEAD_BYTES)) in IMAGE_FORMATS
    except (UnreadableImageError, OSError):
        return False


def _refuse(error: OSError) -> None:
    raise FracturelabError(
        f"the folder {error.filename} cannot be read ({error.strerror}); give yourself permission or leave it out"
    ) from error


class ImageIndex:
    """The images of a folder by path, by the end of the path, by name and by name without suffix.

    Composed and decomposed letters, upper and lower case, and both kinds of slashes are the same. What is outside the
    folder is never found.
    """

    def __init__(self, files: Files) -> None:
        self.parts = dict(files.paths())

    @cached_property
    def _whole(self) -> dict[Parts, list[str]]:
        keys: dict[Parts, list[str]] = defaultdict(list)
        for path, parts in self.parts.items():
            name = os.path.basename(path)
            for last in {name, os.path.splitext(name)[0]}:
                keys[_key("/".join((*parts, last)))].append(path)
        return keys

    @cached_property
    def _ends(self) -> dict[Parts, list[str]]:
        keys: dict[Parts, list[str]] = defaultdict(list)
        for key, paths in self._whole.items():
            for start in range(len(key)):
                keys[key[start:]] += paths
        return keys

    def find(self, text: str, below: Parts = ()) -> list[str]:
        """Return the images that a text may name: none, one, or several where the text fits several.

        A text names an image whose path it is, or ends with ("/kaggle/input/set/a/1.png" is "a/1.png"), or that ends
        with it ("1.png" and "1" are "a/1.png" where there is one such image).

        Args:
            text: A path or a name, with or without suffix.
            below: The folders of the table that has the text; images there come first.
        """
        key, folder = _key(text), _key("/".join(below))
        if not key or ".." in key:
            return []
        for whole in (folder + key, *(key[start:] for start in range(len(key)))):
            if matches := self._whole.get(whole):
                return _exact(matches, text)
        inside = os.path.join(*below, "") if below else ""
        matches = self._ends.get(key, [])
        return _exact([p for p in matches if os.path.join(*self.parts[p], "").startswith(inside)] or matches, text)


def _exact(matches: list[str], text: str) -> list[str]:
    """Those written just like the text, where several differ in case or suffix."""
    name = os.path.basename(text)
    return [path for path in matches if os.path.basename(path) == name] or matches if len(matches) > 1 else matches


def _key(text: str) -> Parts:
    plain = unicodedata.normalize("NFC", text).casefold().replace("\\", "/")
    return tuple(part for part in posixpath.normpath(plain).split("/") if part not in ("", "."))
