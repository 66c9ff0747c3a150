"""What names of folders, columns and labels mean. The words stand in `names.toml`."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

NORMAL, FRACTURED = 0, 1
_DASHES = "‐-―−"


class Meaning(NamedTuple):
    """The meaning of a name for the images that have it.

    Attributes:
        label: 0 normal, 1 fractured, None for no label.
        kind: The fracture type, or None.
    """

    label: int | None
    kind: str | None = None


UNSURE = Meaning(None)
"""The meaning of names such as "uncertain" or "to be checked": these images have no label."""


@cache
def normalise(name: str) -> str:
    """Return a name in lower case with single spaces for hyphens and underscores; a number keeps its minus."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    words = " ".join(re.split(rf"[\s_\-{_DASHES}.,()\[\]+&]+", folded)).strip()
    return f"-{words}" if is_negative(folded) else words


def is_negative(text: str) -> bool:
    """Return whether a text is a number with a minus."""
    return re.match(rf"\s*[-{_DASHES}－]\s*\d", text) is not None


@cache
def words_of(name: str) -> tuple[str, ...]:
    """Split a name into words without accents, case and punctuation; "Train2017Set" has three."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name)).replace("ı", "i").replace("İ", "I")
    text = unicodedata.normalize("NFKD", text.casefold())
    text = "".join(character for character in text if not unicodedata.combining(character))
    return tuple(re.findall(r"[^\W\d_]+|\d+", text))


@cache
def vocabulary() -> dict[str, Any]:
    """Read the tables of `names.toml`; a list of names becomes {joined words: name}, in the order of the file."""
    table = tomllib.loads(files("fracturelab.datasets").joinpath("names.toml").read_text(encoding="utf-8"))

    def joined(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key == "files" else joined(item) for key, item in value.items()}
        return {"".join(words_of(name)): name for name in value} if isinstance(value, list) else value

    return joined(table)


@cache
def meaning_of(name: str) -> Meaning | None:
    """Return what a folder name or a label means, or None where none of its words is known.

    "Not Fractured", "non-fractured", "healthy_bones" and "Negative" are normal; "Fractured", "positive" and "broken"
    are fractured; "Avulsion fracture" and "Spiral_Fracture" are fractured, of that type; "uncertain" is `UNSURE`. Names
    of parts may stand beside: "train_normal".
    """
    known, types = vocabulary()["labels"], vocabulary()["types"]
    all_words = words_of(name)
    if is_negative(name):
        return None
    if "".join(all_words) in known["unsure"]:
        return UNSURE
    split = split_of(name)
    words = [word for word in all_words if word not in known["fillers"]]
    if split:
        fillers = vocabulary()["parts"]["fillers"]
        words = [word for word in words if not (_is_part(word) or word.isdigit() or word in fillers)]
    text = "".join(words)
    if text in known["normal"] or _without(text, known["no"], known["no_after"]) in known["fractured"]:
        return Meaning(NORMAL)
    if text in known["fractured"] or _without(text, (), known["yes_after"]) in known["fractured"]:
        return Meaning(FRACTURED)
    rest = "".join(word for word in words if word not in known["fractured"])
    if rest in types["plain"] or (rest in types["beside_fracture"] and rest != text):
        kind = types["plain"].get(rest) or types["beside_fracture"][rest]
        return Meaning(FRACTURED, types["renamed"].get(kind, kind))
    return None


def _without(text: str, before: Iterable[str], after: Iterable[str]) -> str | None:
    """The text without a word at its start or end, where it has one."""
    starts = (text.removeprefix(word) for word in before if text.startswith(word))
    ends = (text.removesuffix(word) for word in after if text.endswith(word))
    fractured = vocabulary()["labels"]["fractured"]
    return next((rest for rest in (*starts, *ends) if rest in fractured), None)


@cache
def split_of(name: str) -> str | None:
    """Return the published part that a name stands for: "train", "val", "test", or None.

    Numbers and fillers change nothing ("1_train", "Train (80%)", "train2017"); a class may stand beside
    ("test_fractured").
    """
    parts = vocabulary()["parts"]
    words = [word for word in words_of(name) if not word.isdigit()]
    text = "".join(word for word in words if word not in parts["fillers"])
    for choice in ("".join(words), text):
        if part := next((part for part in ("train", "val", "test") if choice in parts[part]), None):
            return part
    named = {part for word in words for part in ("train", "val", "test") if word in parts[part]}
    rest = " ".join(word for word in words if not _is_part(word) and word not in parts["fillers"])
    return named.pop() if len(named) == 1 and rest and meaning_of(rest) else None


def _is_part(word: str) -> bool:
    parts = vocabulary()["parts"]
    return any(word in parts[part] for part in ("train", "val", "test"))


def label_of(value: str) -> Meaning | None:
    """Return what a label in a table means: 0 and 1, true and false, yes and no, or a name for `meaning_of`.

    Negative numbers have no known meaning: -1 is "uncertain" in some tables (CheXpert) and "normal" in others.
    """
    answer = answer_of(value)
    return Meaning(answer) if answer is not None else meaning_of(value)


def answer_of(value: str) -> int | None:
    """Return 1 for 1, true and yes; 0 for 0, false and no; None for anything else."""
    known = vocabulary()["answers"]
    word = "".join(words_of(value.strip().removesuffix(".0")))
    if is_negative(value) or word not in {**known["yes"], **known["no"]}:
        return None
    return int(word in known["yes"])


def column_of(name: str, role: str) -> int | None:
    """Return the rank of a column's name for a role ("path", "label", "group" ...): 0 is the surest, or None."""
    key = "".join(words_of(name))
    return next((at for at, known in enumerate(vocabulary()["columns"][role]) if known == key), None)


def is_patient(name: str) -> bool:
    """Return whether a folder's name stands for one patient, such as "patient00011" or "Subject 7"."""
    words = words_of(name)
    return len(words) == 2 and words[1].isdigit() and words[0] in vocabulary()["folders"]["patient"]


def is_finding(name: str) -> bool:
    """Return whether the name of a box marks something other than a fracture, such as "metal" or "text"."""
    return "".join(words_of(name)) in vocabulary()["labels"]["other_findings"]
