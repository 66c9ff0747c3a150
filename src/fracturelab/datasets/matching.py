"""Find the images that tables and annotation files name."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import defaultdict
from functools import cached_property

from fracturelab.datasets.walking import Files, Parts


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
        """The images that a text may name: one, none, or several where it is not clear which.

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
