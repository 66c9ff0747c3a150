"""Read a folder of X-rays, in any of the layouts people have, into the one table."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.datasets.csv_tables import labels_csv, labels_rows
from fracturelab.datasets.fracatlas import add_facts, fracatlas_csv, fracatlas_rows
from fracturelab.datasets.names import FRACTURED, NORMAL, Meaning, meaning_of, normalise, split_of
from fracturelab.datasets.table import make_table
from fracturelab.datasets.walking import Found, check_folder, walk
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

LAYOUTS = ("auto", "labels_csv", "fracatlas", "mura", "folders", "unlabelled")
_Parts = tuple[str, ...]
_LABEL_WORDS = {"fractured": Meaning(FRACTURED), "normal": Meaning(NORMAL)}
_STUDY = re.compile(r"(study\d+)_(positive|negative)", re.IGNORECASE)
_PATIENT = re.compile(r"patient\d+", re.IGNORECASE)


def read_dataset(
    folder: str | os.PathLike[str],
    *,
    layout: str = "auto",
    label_names: Mapping[str, str] | None = None,
    source: str | None = None,
    allow_unlabelled: bool = False,
) -> pd.DataFrame:
    """List the X-rays of a folder with what their names and tables say about them. No image is opened.

    Layouts, in the order in which they are looked for:

    - "labels_csv": a `labels.csv` with path and label, and where known group, split, kind, source, study.
    - "fracatlas": FracAtlas as published, `images/` beside `dataset.csv` (Abedeen et al., Scientific Data 2023).
    - "mura": `XR_WRIST/patient00011/study1_positive/image1.png` (Rajpurkar et al., 2018), below `train/` and `valid/`
      or not. The label comes from the study and means abnormal, which is more than fractured; the group is the patient,
      who may have studies of several regions. `valid` becomes "val", as it is called: the authors' own test part was
      never published, and patients set apart from `train` are the honest replacement.
    - "folders": class folders under any usual names, fracture types among them, with train, val and test folders above
      or below. Folder names that say nothing stand for nothing.
    - "unlabelled": every image, label unknown. Only when asked for, here or with `allow_unlabelled`.

    Files that are no images by name are left out (`list_other_files` names them), as are hidden files and other junk.

    Args:
        folder: The folder.
        layout: One of the above, or "auto".
        label_names: What folder names mean that are not known or mean something else here, such as
            `{"grade 2": "fractured", "controls": "normal"}`. "ignore" makes a name say nothing, "skip" leaves its
            images out. Case, spaces, hyphens and underscores do not matter.
        source: Name of the data set; the folder's name unless the layout or its table says better.
        allow_unlabelled: Images without a known label are kept, their label <NA>, instead of being an error.

    Returns:
        The table of `make_table`, sorted by path: two readings of the same folder are equal.

    Raises:
        FracturelabError: The folder is missing or has no images, or names are unknown or ambiguous; the message lists
            what was found and how to say which is which.

    Examples:
        >>> from fracturelab.phantoms import write_set
        >>> folder = write_set("made", n=4, size=64, progress=False)
        >>> read_dataset(folder)["label"].value_counts().sort_index().tolist()
        [2, 2]
    """
    if layout not in LAYOUTS:
        raise FracturelabError(f"expected a layout among {', '.join(LAYOUTS)}. Received: {layout!r}")
    root = check_folder(folder)
    found = walk(root)
    if not found.images:
        raise FracturelabError(_nothing(root, found))
    if layout == "auto":
        layout = _recognise(root, found)
    meanings = _user_meanings(label_names)
    if layout == "labels_csv":
        rows = labels_rows(root, found, allow_unlabelled=allow_unlabelled)
    elif layout == "fracatlas":
        rows = fracatlas_rows(root, found)
    elif layout == "mura":
        rows = _mura_rows(root, found)
    elif layout == "folders":
        rows = add_facts(_folder_rows(root, found, meanings, allow_unlabelled=allow_unlabelled))
    else:
        rows = [{"path": path} for path, _ in _paths(root, found)]
    fallback = source or {"fracatlas": "FracAtlas", "mura": "MURA"}.get(layout, root.name)
    return make_table({**row, "source": source or row.get("source") or fallback} for row in rows)


def _recognise(root: Path, found: Found) -> str:
    if labels_csv(root) is not None:
        return "labels_csv"
    if fracatlas_csv(root, found) is not None:
        return "fracatlas"
    if any(_STUDY.fullmatch(name) for parts in found.images for name in parts):
        return "mura"
    return "folders"


def _paths(root: Path, found: Found) -> Iterable[tuple[str, _Parts]]:
    for parts, names in found.images.items():
        folder = os.path.join(root, *parts)
        for name in names:
            yield os.path.join(folder, name), parts


def _nothing(root: Path, found: Found) -> str:
    if not found.others:
        return f"expected a folder of X-rays. Received: an empty folder, {root}"
    suffixes = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in found.others)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5))
    return f"expected a folder of X-rays. Received: {root} with {len(found.others)} files, none an image ({kinds})"


def _user_meanings(label_names: Mapping[str, str] | None) -> dict[str, str]:
    meanings = {}
    for name, word in (label_names or {}).items():
        chosen = normalise(str(word))
        if chosen not in (*_LABEL_WORDS, "ignore", "skip"):
            raise FracturelabError(
                f"expected label_names to say fractured, normal, ignore or skip. Received: {name!r}: {word!r}"
            )
        meanings[normalise(str(name))] = chosen
    return meanings


def _mura_rows(root: Path, found: Found) -> list[dict[str, Any]]:
    rows, strange = [], []
    for path, parts in _paths(root, found):
        study = next((match for name in parts if (match := _STUDY.fullmatch(name))), None)
        patient = next((name for name in parts if _PATIENT.fullmatch(name)), None)
        if study is None or patient is None:
            strange.append(os.path.join(*parts, os.path.basename(path)))
            continue
        position = parts.index(patient)
        splits = {split for name in parts[:position] if (split := split_of(name))}
        rows.append(
            {
                "path": path,
                "label": FRACTURED if study[2].lower() == "positive" else NORMAL,
                "group": patient,
                "split": splits.pop() if len(splits) == 1 else None,
                "study": "/".join((*parts[max(0, position - 1) : position], patient, study[1])),
            }
        )
    if strange:
        raise FracturelabError(
            f"expected the MURA tree (XR_WRIST/patient00011/study1_positive/image1.png) in {root}. "
            f"Received: {len(strange)} images elsewhere, such as {strange[0]!r}; move them out"
        )
    return rows


def _folder_rows(root: Path, found: Found, meanings: dict[str, str], *, allow_unlabelled: bool) -> list[dict[str, Any]]:
    folders = list(found.images)
    shared = next((i for i, names in enumerate(zip(*folders, strict=False)) if len(set(names)) > 1), -1)
    if shared < 0:  # no name differs before the shortest path ends
        shared = min(map(len, folders))
    facts: dict[_Parts, dict[str, Any] | None] = {}
    unknown: list[_Parts] = []
    for parts in found.images:
        words = [meanings.get(normalise(name)) for name in parts or (".",)]
        if "skip" in words:
            facts[parts] = None
            continue
        # A name that all images share ("bone fracture data") speaks only where nothing below it does.
        meaning = _class_of(root, parts[shared:], meanings) or _class_of(root, parts[:shared], meanings)
        if not parts and words[0] in _LABEL_WORDS:
            meaning = _LABEL_WORDS[str(words[0])]
        split = _split_of(root, parts[shared:]) or _split_of(root, parts[:shared])
        if meaning is None:
            unknown.append(parts)
        facts[parts] = {
            "label": meaning.label if meaning else None,
            "kind": meaning.kind if meaning else None,
            "split": split,
        }
    if unknown and not allow_unlabelled:
        raise FracturelabError(_unknown(root, found, unknown, facts))
    if not any(facts.values()):
        raise FracturelabError(f"expected images in {root} that label_names does not skip. Received: none")
    return [{"path": path, **fact} for path, parts in _paths(root, found) if (fact := facts[parts]) is not None]


def _class_of(root: Path, parts: _Parts, meanings: dict[str, str]) -> Meaning | None:
    """What a folder's names say about its images; names that contradict each other are an error."""
    said: dict[str, Meaning] = {}
    for name in parts:
        word = meanings.get(normalise(name))
        meaning = _LABEL_WORDS.get(word) if word else meaning_of(name)
        if meaning is not None:
            said[name] = meaning
    if len({meaning.label for meaning in said.values()}) > 1 or len({m.kind for m in said.values() if m.kind}) > 1:
        names = " and ".join(repr(name) for name in said)
        raise FracturelabError(
            f"ambiguous: {os.path.join(root, *parts)} is below {names}, which say different things; "
            f"{_how(next(iter(said)), 'ignore')}"
        )
    return max(said.values(), key=lambda meaning: meaning.kind is not None, default=None)


def _split_of(root: Path, parts: _Parts) -> str | None:
    splits = {name: split for name in parts if (split := split_of(name))}
    if len(set(splits.values())) > 1:
        names = " and ".join(repr(name) for name in splits)
        raise FracturelabError(
            f"ambiguous: {os.path.join(root, *parts)} is below {names}, two different splits; rename one of them"
        )
    return next(iter(splits.values()), None)


def _unknown(root: Path, found: Found, unknown: list[_Parts], facts: dict[_Parts, dict[str, Any] | None]) -> str:
    """Say what was found, folder by folder, and how to name what is not known."""
    lines: Counter[str] = Counter()
    for parts, names in found.images.items():
        fact = facts[parts]
        if fact is not None:
            what = "unknown" if parts in unknown else "fractured" if fact["label"] == FRACTURED else "normal"
            lines[f"{_spoken(parts)!r} {what}"] += len(names)
    listed = [f"{line} ({count} images)" for line, count in lines.most_common(12)]
    if len(lines) > len(listed):
        listed.append(f"and {len(lines) - len(listed)} more")
    first = _spoken(unknown[0])
    return (
        f"expected folders that say fractured or normal in {root}. Received: {', '.join(listed)}; "
        f"{_how(first, 'fractured')}, or normal, ignore or skip; for images without labels say layout='unlabelled' "
        f"(--layout unlabelled)"
    )


def _spoken(parts: _Parts) -> str:
    """The name that should have said the class: the deepest one that is not a split's."""
    return next((name for name in reversed(parts) if split_of(name) is None), ".")


def _how(name: str, word: str) -> str:
    option = f"--label-names {name}={word}" if " " not in name else f"--label-names '{name}={word}'"
    return f"say which is which with label_names={{{name!r}: {word!r}}} ({option})"
