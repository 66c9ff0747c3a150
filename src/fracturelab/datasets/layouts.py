"""Read a folder of X-rays, in any of the layouts people have, into the one table."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fracturelab.datasets.boxes import box_rows, find_boxes
from fracturelab.datasets.choices import Choices, ask, ask_labels, some, word_for
from fracturelab.datasets.csv_tables import find_tables, table_rows
from fracturelab.datasets.folder_names import Folder, ask_classes, ask_parts, read_folders
from fracturelab.datasets.fracatlas import add_facts, fracatlas_csv, fracatlas_rows, is_part_of_fracatlas
from fracturelab.datasets.names import FRACTURED, NORMAL, UNSURE, Meaning
from fracturelab.datasets.table import make_table
from fracturelab.datasets.walking import Files, ImageIndex, Parts, check_folder, count_others, walk
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

BOX_LAYOUTS = ("yolo", "coco", "voc")
LAYOUTS = ("auto", "labels_csv", "fracatlas", "mura", *BOX_LAYOUTS, "folders", "unlabelled")
_STUDY = re.compile(r"(study\d+)_(positive|negative)", re.IGNORECASE)
_PATIENT = re.compile(r"patient\d+", re.IGNORECASE)
_Row = dict[str, Any]


def read_dataset(
    folder: str | os.PathLike[str],
    *,
    layout: str = "auto",
    label_names: Mapping[str, str] | None = None,
    split_names: Mapping[str, str] | None = None,
    source: str | None = None,
    allow_unlabelled: bool = False,
) -> pd.DataFrame:
    """List the X-rays of a folder with what is known from names and tables. No image is decoded.

    Layouts, in the order in which they are looked for:

    - "labels_csv": a `labels.csv` with path and label, and where known group, split, kind, source, study. Where
      there is none and folders have no class names, any other table that names the images and has a label column.
    - "fracatlas": FracAtlas as published, `images/` beside `dataset.csv` (Abedeen et al., Scientific Data 2023).
    - "mura": `XR_WRIST/patient00011/study1_positive/image1.png` (Rajpurkar et al., 2018), below `train/` and `valid/`
      or not. The label comes from the study and means abnormal, which is more than fractured; the group is the patient,
      who may have studies of several regions. `valid` becomes "val", as it is called: the authors' own test part was
      never published, and patients set apart from `train` are the honest replacement.
    - "folders": class folders under any usual names, fracture types among them, with train, val and test folders above
      or below, and folders of patients ("patient12"). Folder names without a known meaning mean nothing.
    - "yolo", "coco", "voc": sets made for detection. A box of a fracture means fractured, a picture without one normal.
    - "unlabelled": every image, label unknown. Only when asked for, here or with `allow_unlabelled`.

    In every layout folder names give the published part and the patient where nothing else does, and a label that
    contradicts the class folder it lies in is an error. Files that are no images are left out (`list_other_files` names
    them), as are hidden files and other junk.

    Args:
        folder: The folder.
        layout: One of the above, or "auto".
        label_names: What names of folders, labels in tables and boxes mean that are not known or mean something else
            here, such as `{"grade 2": "fractured", "controls": "normal"}`. "ignore" makes a name mean nothing, "skip"
            leaves its images out; the name "empty" stands for empty cells. Case, spaces, hyphens and underscores do not
            matter.
        split_names: The same for parts: "train", "val", "test", "ignore" or "skip".
        source: Name of the data set; the folder's name unless the layout or its table names it.
        allow_unlabelled: Images without a known label are kept, their label <NA>, instead of being an error.

    Returns:
        The table of `make_table`, sorted by path: two readings of the same folder are equal. `attrs["reading"]`
        has what was used as what, what was not, and what was left out (`reading_lines` puts it into words).

    Raises:
        FracturelabError: The folder is missing or has no images, or names are unknown or contradict each other; the
            message lists what is there and how to answer.

    Examples:
        >>> from fracturelab.phantoms import write_set
        >>> folder = write_set("made", n=4, size=64, progress=False)
        >>> read_dataset(folder)["label"].value_counts().sort_index().tolist()
        [2, 2]
    """
    if layout not in LAYOUTS:
        raise FracturelabError(f"expected a layout among {', '.join(LAYOUTS)}. Received: {layout!r}")
    files = walk(check_folder(folder))
    if not files.images:
        raise FracturelabError(_nothing(files))
    choices = Choices(label_names, split_names)
    folders = read_folders(files, choices)
    index = ImageIndex(files)
    rows, layout = _rows(files, index, folders, choices, layout, allow_unlabelled)
    rows = _with_folders(rows, index, folders, choices)
    choices.check_all_met()
    if not rows:
        raise FracturelabError(f"expected images in {files.root} that are not skipped. Received: none")
    ask_parts(folders, {index.parts[r["path"]] for r in rows if r["label"] is not None and r["split"] is None}, choices)
    fallback = source or {"fracatlas": "FracAtlas", "mura": "MURA"}.get(layout, files.root.name)
    table = make_table({**row, "source": source or row.get("source") or fallback} for row in rows)
    choices.reading.layout = layout
    unread = [n for n in files.others if n not in choices.reading.tables and not is_part_of_fracatlas(n)]
    choices.reading.left_out.update(count_others(unread))
    table.attrs["reading"] = choices.reading.to_dict()
    return table


def _rows(
    files: Files, index: ImageIndex, folders: dict[Parts, Folder], choices: Choices, layout: str, unlabelled: bool
) -> tuple[list[_Row], str]:
    """The rows of a layout, and its name where it was to be found out."""
    auto = layout == "auto"
    ours = any(name.lower() == "labels.csv" for name in files.others)
    unknown = [p for p, folder in folders.items() if not folder.skip and folder.meaning in (None, UNSURE)]
    dataset_csv = fracatlas_csv(files) if layout == "fracatlas" or (auto and not ours) else None
    if layout == "fracatlas" or dataset_csv:
        choices.reading.tables += [os.path.relpath(dataset_csv, files.root)] if dataset_csv else []
        return fracatlas_rows(files), "fracatlas"
    if layout == "mura" or (auto and not ours and any(_STUDY.fullmatch(name) for p in folders for name in p)):
        return _mura_rows(files, choices), "mura"
    if layout == "labels_csv" or (auto and (ours or unknown)):
        try:
            tables = find_tables(files, index)
            if tables:
                return table_rows(files, index, tables, choices, unlabelled=unlabelled), "labels_csv"
        except FracturelabError as error:
            raise FracturelabError(f"{error}{'' if unknown else '; or --layout folders'}") from error
        if not auto:
            raise FracturelabError(
                f"expected a labels.csv with the columns path and label in {files.root}. Received: none"
            )
    for kind in BOX_LAYOUTS:
        if layout == kind or (auto and unknown):
            boxes, names = find_boxes(files, index, kind)
            if layout == kind or any(boxes.values()):
                choices.reading.tables += names
                return box_rows(files, boxes, kind, choices), kind
    if layout == "unlabelled":
        return [{"path": path, "meaning": None} for path in index.parts], layout
    if unknown and not unlabelled:
        raise FracturelabError(ask_classes(files, folders, unknown))
    beside = [name for name in files.others if name.lower().endswith((".csv", ".tsv"))]
    choices.reading.without_meaning.update(f"{name} (--layout labels_csv)" for name in beside[:3])
    return add_facts([{"path": p, "meaning": folders[parts].meaning} for p, parts in index.parts.items()]), "folders"


def _with_folders(rows: list[_Row], index: ImageIndex, folders: dict[Parts, Folder], choices: Choices) -> list[_Row]:
    """The rows that are not skipped, with the part and the patient that folder names give.

    Raises:
        FracturelabError: A label or a part contradicts the names of the folders.
    """
    kept = []
    for row in rows:
        parts = index.parts[row["path"]]
        folder, meaning, where = folders[parts], row["meaning"] or UNSURE, row.get("where", row["path"])
        if folder.skip or row.get("split") == "skip":
            choices.reading.left_out["skipped by their name"] += 1
            continue
        if len({meaning.label, (folder.meaning or UNSURE).label} - {None}) > 1:
            line = ask_labels(choices.words, "fractured|normal") if choices.words else "mend one of them"
            raise FracturelabError(
                f"{where}: the label is {word_for(meaning)}, but the image lies in {os.path.join(*parts)!r}; which is "
                f"right? {line}; or --layout folders, or --label-names '{parts[-1]}=ignore'"
            )
        split = row.get("split") if row.get("split") != "ignore" else None
        if split and folder.split and split != folder.split:
            raise FracturelabError(
                f"{where}: the part is {split}, but the image lies in {os.path.join(*parts)!r}; mend it, or "
                + ask("--split-names", [name for name in parts if choices.split(name)], f"{split}|ignore")
            )
        kind = row.get("kind") or (meaning.kind if meaning.label is not None else None)
        group = row.get("group") or folder.group
        kept.append(row | {"label": meaning.label, "kind": kind, "split": split or folder.split, "group": group})
    return kept


def _nothing(files: Files) -> str:
    if not files.others:
        return f"expected a folder of X-rays. Received: an empty folder, {files.root}"
    kinds = some([f"{count} {reason}" for reason, count in count_others(files.others).items()])
    return (
        f"expected a folder of X-rays. Received: {files.root} with {len(files.others)} files, none an image ({kinds})"
    )


def _mura_rows(files: Files, choices: Choices) -> list[_Row]:
    rows, strange = [], []
    for path, parts in files.paths():
        study = next((match for name in parts if (match := _STUDY.fullmatch(name))), None)
        patient = next((name for name in parts if _PATIENT.fullmatch(name)), None)
        if study is None or patient is None:
            strange.append(os.path.relpath(path, files.root))
            continue
        above = parts[max(0, parts.index(patient) - 1) : parts.index(patient)]
        meaning = Meaning(FRACTURED if study[2].lower() == "positive" else NORMAL)
        choices.reading.note(study[0], word_for(meaning))
        rows.append(
            {"path": path, "meaning": meaning, "group": patient, "study": "/".join((*above, patient, study[1]))}
        )
    if strange:
        raise FracturelabError(
            f"expected the MURA tree (XR_WRIST/patient00011/study1_positive/image1.png) in {files.root}. "
            f"Received: {len(strange)} images elsewhere, such as {strange[0]!r}; move them out"
        )
    return rows
