"""What folder names and label words mean: fractured, normal, a fracture type, or a published split."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

NORMAL, FRACTURED = 0, 1


class Meaning(NamedTuple):
    """What a name says about the images below it.

    Attributes:
        label: 0 normal, 1 fractured.
        kind: The fracture type, or None.
    """

    label: int
    kind: str | None = None


# Words that change nothing: "Fractured bones", "normal_xray_images".
_FILLERS = frozenset(
    {
        "bone",
        "bones",
        "image",
        "images",
        "img",
        "imgs",
        "pic",
        "pics",
        "picture",
        "pictures",
        "photo",
        "photos",
        "xray",
        "xrays",
        "x",
        "ray",
        "rays",
        "radiograph",
        "radiographs",
        "case",
        "cases",
        "class",
    }
)
_FRACTURED = frozenset(
    {"fractured", "fracture", "fractures", "with fracture", "has fracture", "positive", "pos", "abnormal", "broken"}
)
_NORMAL = frozenset(
    {
        *("normal", "healthy", "negative", "neg", "intact", "unbroken", "unfractured", "nonfractured", "notfractured"),
        *("nofracture", "nonfracture", "fracture free", "fracturefree"),
        *(f"{no} {word}" for no in ("no", "non", "not", "without", "un") for word in ("fracture", "fractured")),
        *("no fractures", "not broken", "non broken", "not abnormal", "no finding", "no findings"),
    }
)
_KINDS = {
    "avulsion": "avulsion",
    "comminuted": "comminuted",
    "dislocation": "fracture dislocation",
    "greenstick": "greenstick",
    "green stick": "greenstick",
    "hairline": "hairline",
    "hair line": "hairline",
    "impacted": "impacted",
    "longitudinal": "longitudinal",
    "oblique": "oblique",
    "pathological": "pathological",
    "pathologic": "pathological",
    "spiral": "spiral",
}
# Further types count only with the word "fracture" beside them: "simple" or "open" alone may mean anything.
_FURTHER_KINDS = frozenset(
    {
        "transverse",
        "compression",
        "segmental",
        "stress",
        "buckle",
        "torus",
        "compound",
        "open",
        "closed",
        "simple",
        "displaced",
        "linear",
    }
)
_SPLIT_FILLERS = frozenset({"set", "data", "dataset", "folder", "images", "image", "split", "part"})
_SPLITS = {
    **dict.fromkeys(("train", "training", "trainset", "traindata"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "valset"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "testdata"), "test"),
}
_YES, _NO = frozenset({"1", "1.0", "true", "yes", "y"}), frozenset({"0", "0.0", "false", "no", "n"})
_NEGATIVE = re.compile(r"\s*[-‐-―−]\s*\d")


def normalise(name: str) -> str:
    """Lower case, spaces for hyphens and underscores, one space at a time; the minus of a number stays."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    words = " ".join(re.split(r"[\s_\-‐-―−.,()\[\]+&]+", folded)).strip()
    return f"-{words}" if _NEGATIVE.match(folded) else words


def meaning_of(name: str) -> Meaning | None:
    """What a folder name or label word says, or None where it says nothing known.

    "Not Fractured", "non-fractured", "healthy_bones" and "Negative" are normal; "Fractured", "positive" and "broken"
    are fractured; "Avulsion fracture" and "Spiral_Fracture" are fractured, of that type.
    """
    words = [word for word in normalise(name).split() if word not in _FILLERS]
    text = " ".join(words)
    if text in _NORMAL:
        return Meaning(NORMAL)
    if text in _FRACTURED:
        return Meaning(FRACTURED)
    kind = " ".join(word for word in words if word not in ("fracture", "fractures", "fractured"))
    fracture_said = kind != text
    if kind == "dislocation" and not fracture_said:
        return None  # a joint out of place, the bone may be whole
    if kind in _KINDS:
        return Meaning(FRACTURED, _KINDS[kind])
    if kind in _FURTHER_KINDS and fracture_said:
        return Meaning(FRACTURED, kind)
    return None


def split_of(name: str) -> str | None:
    """The published split a folder name or a table's word stands for: "train", "val", "test", or None."""
    words = [word for word in normalise(name).split() if word not in _SPLIT_FILLERS]
    return _SPLITS.get(" ".join(words))


def label_of(value: str) -> Meaning | None:
    """What a label in a table says: 0 and 1, true and false, yes and no, or a name as `meaning_of` reads it.

    Negative numbers say nothing known: -1 is "uncertain" in some tables (CheXpert) and "normal" in others.
    """
    word = normalise(value) if value.strip() not in ("1.0", "0.0") else value.strip()
    if word in _YES:
        return Meaning(FRACTURED)
    if word in _NO:
        return Meaning(NORMAL)
    return meaning_of(value)
