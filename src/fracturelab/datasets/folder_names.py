"""What the names of folders mean for the images in them: class, part, patient."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fracturelab.datasets.choices import IGNORE, SIDES, SKIP, Choices, ask, ask_labels, some, word_for
from fracturelab.datasets.names import UNSURE, Meaning, is_patient, split_of, vocabulary
from fracturelab.datasets.walking import Files, Parts
from fracturelab.errors import FracturelabError


@dataclass(frozen=True)
class Folder:
    """The meaning of the names of an image's folders.

    Attributes:
        meaning: The label; None where no name gives one.
        split: The published part, or None.
        group: The patient, or None.
        skip: Its images are left out.
    """

    meaning: Meaning | None
    split: str | None
    group: str | None
    skip: bool


def read_folders(files: Files, choices: Choices) -> dict[Parts, Folder]:
    """Find the meaning of the names above each image.

    A name that all images share ("bone fracture data") counts only where no other name has a meaning.

    Raises:
        FracturelabError: Names above an image contradict each other.
    """
    folders = list(files.images)
    shared = next((i for i, names in enumerate(zip(*folders, strict=False)) if len(set(names)) > 1), -1)
    if shared < 0:  # no name differs before the shortest path ends
        shared = min(map(len, folders))

    def start(of: Callable[[Parts], object]) -> int:
        return shared if any(of(parts[shared:]) not in (None, UNSURE) for parts in folders) else 0

    class_start = start(lambda names: _meaning(files, names, choices))
    part_start = start(lambda names: _split(files, names, choices))
    read: dict[Parts, Folder] = {}
    patients = Counter[str]()
    for parts in folders:
        patient = next((name for name in reversed(parts) if is_patient(name)), None)
        skip = any(choices.skips(name) for name in parts or (".",))
        meaning = _meaning(files, parts[class_start:] or ((".",) if not parts else ()), choices)
        read[parts] = Folder(meaning, _split(files, parts[part_start:], choices), patient, skip)
        patients.update(filter(None, [patient]))
        for place, name in enumerate(parts):
            label, split = choices.label(name), choices.split(name)
            if label and (place >= class_start or label == SKIP):
                choices.reading.note(name, word_for(label))
            if split and place >= part_start and label != SKIP:
                choices.reading.note(name, f"part {split}" if split in SIDES else split)
            if name not in choices.reading.names and not is_patient(name):
                choices.reading.without_meaning[name] += len(files.images[parts])
    if patients:
        choices.reading.note(f"{len(patients)} folders such as {next(iter(patients))}", "patient")
    return read


def _meaning(files: Files, parts: Parts, choices: Choices) -> Meaning | None:
    read = {name: meaning for name in parts if (meaning := choices.label(name)) not in (None, IGNORE, SKIP)}
    if UNSURE in read.values():
        return UNSURE
    for values in ({meaning.label for meaning in read.values()}, {m.kind for m in read.values() if m.kind}):
        if len(values) > 1:
            raise FracturelabError(
                f"ambiguous: {os.path.join(files.root, *parts)} is below {' and '.join(map(repr, read))}, which mean "
                f"different things; {ask_labels(read, 'fractured|normal|ignore|skip')}"
            )
    return max(read.values(), key=lambda meaning: meaning.kind is not None, default=None)


def _split(files: Files, parts: Parts, choices: Choices) -> str | None:
    read = {name: split for name in parts if (split := choices.split(name)) not in (None, "ignore", "skip")}
    if len(set(read.values())) > 1:
        raise FracturelabError(
            f"ambiguous: {os.path.join(files.root, *parts)} is below {' and '.join(map(repr, read))}, two different "
            f"parts; {ask('--split-names', read, 'train|val|test|ignore|skip')}"
        )
    return next(iter(read.values()), None)


def ask_parts(folders: dict[Parts, Folder], used: set[Parts], choices: Choices) -> None:
    """Refuse unknown names beside those of parts, because their images would be trained on.

    Args:
        folders: As `read_folders` gives them.
        used: The folders that hold labelled images without a part.
        choices: What names mean, by the user.

    Raises:
        FracturelabError: There are such; the message has a line to copy that names the part of each.
    """
    beside: dict[Parts, dict[str, None]] = {}
    for parts in folders:
        for place, name in enumerate(parts):
            if choices.split(name) in SIDES:
                beside.setdefault(parts[:place], {})[name] = None
    unknown = {
        name: beside[parts[:place]]
        for parts in sorted(used)
        for place, name in enumerate(parts)
        if parts[:place] in beside and choices.split(name) is None and choices.label(name) is None
    }
    if unknown:
        name, known = next(iter(unknown.items()))
        raise FracturelabError(
            f"{name!r} stands beside {some(map(repr, known))} and is no known part: its images would be trained on; "
            + ask("--split-names", unknown, "train|val|test|ignore|skip")
        )


def ask_classes(files: Files, folders: dict[Parts, Folder], unknown: list[Parts]) -> str:
    """Describe what was read from each folder's name, with the line to copy for the unknown names."""
    shared = set.intersection(*map(set, folders))
    ways = {".csv": "has no columns for path and label", **vocabulary()["not_read"]}
    tables = [
        f"{name}: {ways[suffix]}" for name in files.others if (suffix := os.path.splitext(name)[1].lower()) in ways
    ]
    lines: Counter[str] = Counter()
    for parts, names in files.images.items():
        if not folders[parts].skip:
            meaning = "unknown" if parts in unknown else word_for(folders[parts].meaning or UNSURE)
            lines[f"{_spoken(parts, shared)!r} {meaning}"] += len(names)
    listed = some([f"{line} ({count} images)" for line, count in lines.most_common()], 12)
    return (
        f"expected folders that say fractured or normal in {files.root}. Received: {listed}; "
        + (f"not read: {some(tables, 3)}; " if tables else "")
        + f"{ask_labels(_spoken(parts, shared) for parts in unknown)}; --layout unlabelled does without labels"
    )


def _spoken(parts: Parts, shared: set[str]) -> str:
    """The name that should give the class: the deepest one that is no part's and not everyone's, else the deepest."""
    own = [name for name in parts if split_of(name) is None and name not in shared]
    return own[-1] if own else parts[-1] if parts else "."
