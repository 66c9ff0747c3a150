"""Sets made for detection (YOLO, COCO, Pascal VOC): a picture with a box of a fracture is fractured, others normal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fracturelab.datasets.choices import IGNORE, SKIP, Choices, ask_labels, some, word_for
from fracturelab.datasets.names import FRACTURED, NORMAL, Meaning, is_finding, meaning_of
from fracturelab.datasets.walking import Files, ImageIndex
from fracturelab.errors import FracturelabError

_YOLO_LINE = re.compile(r"\d+(\s+[-+.\deE]+){4,}")
_Boxes = dict[str, list[str]]
"""For each image, by path, the names of its boxes."""


def find_boxes(files: Files, index: ImageIndex, layout: str) -> tuple[_Boxes, list[str]]:
    """Return the boxes of a set and the files that hold them; both are empty where there is no such set.

    Args:
        files: The folder's files.
        index: The folder's images.
        layout: "yolo": a text file an image, one line a box, class names in `data.yaml` or `classes.txt`. "coco": JSON
            files with images, annotations and categories. "voc": an XML file an image.

    Raises:
        FracturelabError: A file may belong to several images.
    """
    read = {"yolo": _yolo, "coco": _coco, "voc": _voc}[layout]
    suffix = {"yolo": ".txt", "coco": ".json", "voc": ".xml"}[layout]
    names = [name for name in files.others if name.lower().endswith(suffix)]
    boxes: _Boxes = {}
    used = []
    for name in names:
        path = files.root / name
        try:
            entries = list(read(path.read_text(encoding="utf-8-sig"), name))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ElementTree.ParseError):
            continue  # another kind of file: the reading names it
        for image, words in entries:
            paths = _image_of(image, name, index)
            if len(paths) > 1:
                raise FracturelabError(f"{path}: {image!r} may be {some(paths)}; keep each image once")
            if paths:
                boxes.setdefault(paths[0], []).extend(words)
                used.append(name)
    return boxes, list(dict.fromkeys(used))


def _image_of(image: str, name: str, index: ImageIndex) -> list[str]:
    """The image of an annotation: beside its file, in the folder `images` that belongs to `labels`, or anywhere."""
    below = Path(name).parent.parts
    beside = tuple("images" if part.lower() in ("labels", "annotations") else part for part in below)
    return index.find("/".join((*beside, image))) or index.find(image, below)


def _yolo(text: str, name: str) -> Iterator[tuple[str, list[str]]]:
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if all(_YOLO_LINE.fullmatch(" ".join(line)) for line in lines):
        yield Path(name).stem, [line[0] for line in lines]


def _coco(text: str, name: str) -> Iterator[tuple[str, list[str]]]:
    content = json.loads(text)
    categories = {category["id"]: str(category["name"]) for category in content["categories"]}
    words: dict[Any, list[str]] = {image["id"]: [] for image in content["images"]}
    for box in content["annotations"]:
        words[box["image_id"]].append(categories[box["category_id"]])
    for image in content["images"]:
        yield str(image["file_name"]), words[image["id"]]


def _voc(text: str, name: str) -> Iterator[tuple[str, list[str]]]:
    tree = ElementTree.fromstring(text)
    if tree.tag == "annotation":
        yield Path(name).stem, [str(box.findtext("name")) for box in tree.iter("object")]


def box_rows(files: Files, boxes: _Boxes, layout: str, choices: Choices) -> list[dict[str, Any]]:
    """Return the rows of the images of a detection set.

    Args:
        files: The folder's files.
        boxes: As `find_boxes` gives them.
        layout: As there.
        choices: What names of boxes mean, by the user.

    Raises:
        FracturelabError: The meaning of a box's name is not known, or no box is a fracture.
    """
    numbers = _yolo_names(files) if layout == "yolo" else {}
    named = {path: [numbers.get(word, word) for word in words] for path, words in boxes.items()}
    meanings = {
        word: choices.label(word, lambda word: IGNORE if is_finding(word) else meaning_of(word))
        for word in sorted({word for words in named.values() for word in words})
    }
    for word, meaning in meanings.items():
        choices.reading.note(word, word_for(meaning) if meaning else "unknown")
    unknown = [word for word, meaning in meanings.items() if meaning is None]
    if unknown or FRACTURED not in {meaning.label for meaning in meanings.values() if meaning}:
        raise FracturelabError(
            f"{files.root} has boxes ({layout}) named {some(meanings) or 'nothing'}, and which of these are fractures "
            f"is not known; {ask_labels(unknown or meanings, 'fractured|ignore|skip')}"
        )
    if not all(named.values()):
        choices.reading.note("no box", "normal")
    rows = []
    for path, words in named.items():
        read = [meanings[word] or IGNORE for word in words]
        if SKIP not in read:
            worst = max(read, key=lambda meaning: (meaning.label or 0, meaning.kind or ""), default=Meaning(NORMAL))
            rows.append({"path": path, "meaning": worst if worst.label == FRACTURED else Meaning(NORMAL)})
    choices.reading.left_out["skipped by their label"] += len(named) - len(rows)
    return rows


def _yolo_names(files: Files) -> dict[str, str]:
    """The names of class numbers, where `data.yaml` or `classes.txt` gives them."""
    for name in files.others:
        base = os.path.basename(name).lower()
        text = ""
        if base in ("classes.txt", "obj.names"):
            text = (files.root / name).read_text(encoding="utf-8-sig", errors="replace")
        elif base.endswith((".yaml", ".yml")):
            content = (files.root / name).read_text(encoding="utf-8-sig", errors="replace")
            listed = re.search(r"^names\s*:\s*(\[[^\]]*\]|\{[^}]*\}|(\n\s*(-|\d+\s*:)[^\n]*)+)", content, re.MULTILINE)
            text = re.sub(r"[\[\]{}]", "", listed[1]).replace(",", "\n") if listed else ""
        items = [re.sub(r"^(-|\d+\s*:)", "", line.strip()).strip(" '\"") for line in text.splitlines() if line.strip()]
        if items:
            return {str(number): item for number, item in enumerate(items)}
    return {}
