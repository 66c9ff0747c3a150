"""`realimages/`: the X-rays that a model is tried on at last, and how to fill it with ones no training run has seen."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fracturelab.datasets import PUBLISHED, list_other_files, read_dataset
from fracturelab.datasets.walking import check_folder, walk
from fracturelab.errors import FracturelabError
from fracturelab.system.files import whole_file, whole_folder
from fracturelab.system.folders import models_folder, realimages_folder, reports_folder

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = "examples"
OURS = frozenset({"README.md", EXAMPLES})
_NAMES = {1: "fractured", 0: "normal"}


class Filled(NamedTuple):
    """What `fill` copied.

    Attributes:
        folder: Where the images are now.
        table: The copies, as `read_real_images` gives them.
        left_out: Why images were not taken, and how many: `{"used in training": 12}`.
        source: Name of the data set.
        licence: Its licence or terms, or that they are not known.
    """

    folder: Path
    table: pd.DataFrame
    left_out: dict[str, int]
    source: str
    licence: str


def read_real_images(folder: str | Path | None = None) -> tuple[pd.DataFrame, bool]:
    """List the X-rays of `realimages/`; its examples serve only while nothing else is there.

    Class folders, a `labels.csv` and unlabelled images may stand side by side; an image that
    both name must have one label.

    Args:
        folder: The folder; that of the project if None.

    Returns:
        The data set's table, label <NA> where unknown, and whether it lists the examples.

    Raises:
        FracturelabError: There is no such folder, it has no images and no examples, or a table in it is wrong.
    """
    root = check_folder(folder if folder is not None else realimages_folder())
    if not has_own_images(root):
        if not (root / EXAMPLES).is_dir():
            raise FracturelabError(
                f"expected X-rays in {root}. Received: none; drop some there, or run: fracturelab realimages --from DIR"
            )
        return read_dataset(root / EXAMPLES, source="examples", allow_unlabelled=True), True
    skipped = {EXAMPLES: "skip"} if any(EXAMPLES in parts for parts in walk(root).images) else None
    table = read_dataset(root, layout="folders", label_names=skipped, source=root.name, allow_unlabelled=True)
    if any(name.lower() == "labels.csv" for name in list_other_files(root)):
        import pandas as pd

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it need not name every image: folders label the others
            listed = read_dataset(root, layout="labels_csv", allow_unlabelled=True)
        table = pd.concat([table[~table["path"].isin(listed["path"])], listed], ignore_index=True)
        table = table.sort_values("path", ignore_index=True)
    return table, False


def has_own_images(folder: str | Path) -> bool:
    """Whether a folder holds an image outside its examples."""
    return any(parts[:1] != (EXAMPLES,) for parts in walk(check_folder(folder)).images)


def training_hashes(folders: Iterable[str | Path] | None = None) -> frozenset[str]:
    """The sha256 of every image that a saved model or a recorded run was trained on.

    Args:
        folders: Where cards and records lie, at any depth; models and reports of the project if None.

    Returns:
        All `train_hashes` and `val_hashes` found there: validation images choose checkpoints and thresholds.
    """
    hashes: set[str] = set()
    for folder in folders if folders is not None else (models_folder(), reports_folder()):
        for path in sorted(Path(folder).rglob("*.json")):
            try:
                hashes |= set(_hashes_in(json.loads(path.read_text(encoding="utf-8"))))
            except (OSError, ValueError, RecursionError):
                warnings.warn(f"{path} cannot be read: its training images are not known", stacklevel=2)
    return frozenset(hashes)


def _hashes_in(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("train_hashes", "val_hashes") and isinstance(item, list):
                yield from (str(sha256) for sha256 in item)
            else:
                yield from _hashes_in(item)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list):
                yield from _hashes_in(item)


def unused_images(table: pd.DataFrame, *, used: frozenset[str] | None = None) -> tuple[pd.DataFrame, dict[str, int]]:
    """The labelled, readable images of a table that no training run has used, near copies of used ones left out too.

    The part that is published as the test, or the project's fixed test part of FracAtlas, is kept to where there is
    one: no later training run will use it either.

    Args:
        table: A data set's table.
        used: sha256 of used images; `training_hashes()` if None.

    Returns:
        Rows that may be taken, with `group` filled and `sha256` added, and why others were left out.
    """
    from fracturelab.audit import usable_rows

    left_out = {"no label": int(table["label"].isna().sum())}
    table, unreadable = usable_rows(table)
    left_out["unreadable"] = len(unreadable)
    seen = table["sha256"].isin(training_hashes() if used is None else used)
    groups = set(table.loc[seen, "group"].dropna())
    near = table["group"].isin(groups) & ~seen
    left_out |= {"used in training": int(seen.sum()), "near copy of one used in training": int(near.sum())}
    table = table[~seen & ~near]
    if (table["split"] == "test").any():
        left_out["not of the test part"] = int((table["split"] != "test").fillna(True).sum())
        table = table[table["split"] == "test"]
    return table.reset_index(drop=True), left_out


def fill(
    source_folder: str | Path,
    *,
    n: int = 24,
    folder: str | Path | None = None,
    source: str | None = None,
    licence: str | None = None,
    seed: int = 0,
    used: Sequence[str] | None = None,
    table: pd.DataFrame | None = None,
) -> Filled:
    """Copy images of a data set into `realimages/`, half of them fractured, none of them used in training.

    One image at most is taken from a patient or near-duplicate group. `labels.csv` notes label, group, source, licence
    and the original's name and sha256; the originals are only read.

    Args:
        source_folder: The data set, in any layout that `read_dataset` reads.
        n: How many, at least 2.
        folder: Where to; the project's `realimages/` if None. It may hold nothing but its README and examples.
        source: Name of the data set; that of the layout if None.
        licence: Licence or terms; that of a published data set if None.
        seed: Decides which ones.
        used: sha256 of images that must not be taken; those of `training_hashes()` if None.
        table: The data set's table, where it has been read already.

    Raises:
        FracturelabError: The folder holds images already, or there are too few unused images of a class, or it cannot
            be written.
    """
    import pandas as pd

    from fracturelab.audit.groups import MADE_UP

    if n < 2:
        raise FracturelabError(f"expected to take at least 2 images, one of each class. Received: --n {n}")
    target = Path(folder) if folder is not None else realimages_folder()
    if target.is_dir() and (extra := sorted(path.name for path in target.iterdir() if path.name not in OURS)):
        raise FracturelabError(
            f"{target} holds {extra[0]!r} already and nothing there is overwritten: move it away, or name another "
            "folder with --out"
        )
    table = read_dataset(source_folder, source=source) if table is None else table
    free, left_out = unused_images(table, used=None if used is None else frozenset(used))
    one_each = free.sample(frac=1, random_state=seed).drop_duplicates("group") if len(free) else free
    wanted = {1: (n + 1) // 2, 0: n // 2}
    chosen = [one_each[one_each["label"] == label].head(most) for label, most in wanted.items()]
    for rows, (label, most) in zip(chosen, wanted.items(), strict=True):
        if len(rows) < most:
            why = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "none left out"
            raise FracturelabError(
                f"expected {most} unused {_NAMES[label]} images in {source_folder}. Received: {len(rows)} ({why}); "
                "ask for fewer with --n"
            )
    found_source, found_licence = _origin(one_each, source, licence)
    originals = pd.concat(chosen)
    names = originals["label"].map(_NAMES)
    copies = originals["sha256"].str[:12] + originals["path"].map(lambda path: Path(path).suffix.lower())
    lines = pd.DataFrame({"path": names + "/" + copies, "label": names, "group": originals["group"]})
    lines.loc[lines["group"].str.startswith(MADE_UP), "group"] = ""
    lines = lines.assign(source=found_source, licence=found_licence, original=originals["path"].map(os.path.basename))
    with whole_folder(target / "fractured") as fractured, whole_folder(target / "normal") as normal:
        for original, name, copy in zip(originals["path"], names, copies, strict=True):
            shutil.copyfile(original, (fractured if name == "fractured" else normal) / copy)
        with whole_file(target / "labels.csv") as table_file:
            lines.assign(sha256=originals["sha256"]).to_csv(table_file, index=False)
    return Filled(target, read_real_images(target)[0], left_out, found_source, found_licence)


def _origin(table: pd.DataFrame, source: str | None, licence: str | None) -> tuple[str, str]:
    """Name and licence of a data set, where they are published."""
    name = source or ", ".join(sorted(set(table["source"].dropna()))) or "unknown"
    key = name.casefold().replace("_", "-").replace(" ", "-")
    if source is None and table["fixed"].notna().any():
        name, key = "FracAtlas", "fracatlas"
    if licence is None and key in PUBLISHED:
        licence = PUBLISHED[key].terms
    return name, licence or "not known: ask whoever published the images before passing them on"
