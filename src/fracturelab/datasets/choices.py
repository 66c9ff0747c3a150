"""What names mean by the choice of the user, a report of what was read from which, and lines that ask for the rest."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fracturelab.datasets.names import FRACTURED, NORMAL, Meaning, is_patient, meaning_of, normalise, split_of
from fracturelab.errors import FracturelabError

SKIP, IGNORE = Meaning(None, "skip"), Meaning(None, "ignore")
"""Meanings that only a user gives: leave these images out; this name means nothing."""
EMPTY = "empty"
"""The name that stands for an empty cell: `--label-names empty=normal`."""
_LABELS = {"fractured": Meaning(FRACTURED), "normal": Meaning(NORMAL), "ignore": IGNORE, "skip": SKIP}
SIDES = ("train", "val", "test")
_SPLITS = {word: word for word in (*SIDES, "ignore", "skip")}
_LISTED = 12


@dataclass
class Reading:
    """A report of how a folder was read.

    Attributes:
        layout: The layout.
        tables: Tables and annotation files that were read.
        columns: Columns of tables: name to what it was used as.
        names: Names of folders and labels: name to what it was read as.
        without_meaning: Names of folders and columns that nothing was read from, and how many images have them.
        left_out: Reasons why files are left out, and how many.
    """

    layout: str = "auto"
    tables: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    without_meaning: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def note(self, name: str, use: str) -> None:
        """Note what a name was used as; it may be used for several things."""
        uses = self.names.setdefault(name, use)
        if use not in uses:
            self.names[name] = f"{uses} and {use}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `table.attrs["reading"]`; long lists are cut to their first names."""
        unused = [name for name, _ in self.without_meaning.most_common() if name not in self.names]
        return {
            "layout": self.layout,
            "tables": _first(self.tables),
            "columns": self.columns,
            "names": self.names,
            "without_meaning": _first(unused),
            "left_out": {reason: count for reason, count in self.left_out.most_common() if count},
        }


def _first(names: list[str]) -> list[str]:
    more = len(names) - _LISTED
    return [*names[:_LISTED], f"{more} more"] if more > 0 else names


class Choices:
    """The meaning of names in one data set: the user's choice, or else `names.toml`.

    Args:
        label_names: Name to "fractured", "normal", "ignore" or "skip".
        split_names: Name to "train", "val", "test", "ignore" or "skip".

    Raises:
        FracturelabError: Another word than these.
    """

    def __init__(self, label_names: Mapping[str, str] | None, split_names: Mapping[str, str] | None) -> None:
        self.reading = Reading()
        self.words: dict[str, None] = {}  # answers such as 0 and 1 in label columns
        self._labels = _checked("label_names", label_names, _LABELS)
        self._splits = _checked("split_names", split_names, _SPLITS)
        self._open = {("--label-names", normalise(name)): name for name in label_names or ()}
        self._open |= {("--split-names", normalise(name)): name for name in split_names or ()}
        self._met: dict[str, None] = {}

    def label(self, name: str, read: Callable[[str], Meaning | None] = meaning_of) -> Meaning | None:
        """Return what a name means for the label, or None where it is not known."""
        return self._choose("--label-names", self._labels, name) or read(name)

    def split(self, name: str) -> str | None:
        """Return the part that a name stands for, "skip", "ignore", or None where it is not known."""
        return self._choose("--split-names", self._splits, name) or split_of(name)

    def skips(self, name: str) -> bool:
        """Return whether images below a folder of this name are left out."""
        return self.label(name) == SKIP or self.split(name) == "skip"

    def _choose(self, option: str, chosen: Mapping[str, Any], name: str) -> Any:
        key = normalise(name)
        self._met[name] = None
        self._open.pop((option, key), None)
        return chosen.get(key)

    def check_all_met(self) -> None:
        """Refuse choices for names that nothing has.

        Raises:
            FracturelabError: There are such.
        """
        for (option, _), name in self._open.items():
            met = some([name for name in self._met if not is_patient(name)], _LISTED)
            raise FracturelabError(f"{option} {name!r}: no folder or label is called that; there are: {met}")


def _checked(what: str, given: Mapping[str, str] | None, known: Mapping[str, Any]) -> dict[str, Any]:
    for name, word in (given or {}).items():
        if normalise(str(word)) not in known:
            *words, last = known
            raise FracturelabError(
                f"expected {what} to say {', '.join(words)} or {last}. Received: {name!r}: {word!r}; choose one of them"
            )
    return {normalise(str(name)): known[normalise(str(word))] for name, word in (given or {}).items()}


def word_for(meaning: Meaning) -> str:
    """Return a meaning in a word: normal, fractured, a fracture type, skip, ignore or no label."""
    if meaning.label is None:
        return meaning.kind or "no label"
    return meaning.kind or ("fractured" if meaning.label == FRACTURED else "normal")


def ask(option: str, names: Iterable[str], words: str) -> str:
    """Return a line to copy, with all that each name may mean: `--label-names 'a=fractured|normal'`."""
    unknown = list(dict.fromkeys(names))
    options = " ".join(f"{option} {shlex.quote(f'{name}={words}')}" for name in unknown[:_LISTED])
    return f"choose one word for each: {options}" + (" ..." if len(unknown) > _LISTED else "")


def ask_labels(names: Iterable[str], words: str = "fractured|normal|skip") -> str:
    """Return the line to copy for names whose label is not known."""
    return ask("--label-names", names, words)


def some(names: Iterable[str], most: int = 5) -> str:
    """Return the first names of many as text, with the number of the others."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def reading_lines(reading: Mapping[str, Any]) -> list[str]:
    """Describe in a few lines how a folder was read.

    Args:
        reading: `table.attrs["reading"]` of a table of `read_dataset`.
    """
    lines = [
        f"Read as {reading['layout']}" + (f" from {some(reading['tables'], 3)}" if reading["tables"] else "") + "."
    ]
    uses: dict[str, list[str]] = {}
    for name, use in (*reading["columns"].items(), *reading["names"].items()):
        uses.setdefault(use, []).append(name)
    if uses:
        lines.append("Used: " + "; ".join(f"{use}: {some(names)}" for use, names in uses.items()) + ".")
    if reading["without_meaning"]:
        lines.append(f"Not used: {', '.join(reading['without_meaning'])}.")
    if reading["left_out"]:
        counts = [f"{count} {reason}" for reason, count in reading["left_out"].items()]
        lines.append(f"Left out: {some(counts, _LISTED)}.")
    return lines
