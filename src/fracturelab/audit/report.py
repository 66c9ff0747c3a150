"""Audit a data set: one reading of every file, and a report of what would make a score untrue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fracturelab.audit.groups import MADE_UP, Copies, fill_groups, find_copies, joined_groups
from fracturelab.audit.hashing import ORIENTATIONS
from fracturelab.audit.leakage import conflicting_groups, count_copies, groups_across_splits, shared_between_splits
from fracturelab.audit.reading import Readings, read_files
from fracturelab.audit.shortcuts import shortcut_features, shortcut_scores
from fracturelab.audit.verdict import Facts, give_verdict, list_findings
from fracturelab.errors import FracturelabError

_PAIR = ["path_a", "path_b", "distance", "correlation", "orientation", "identical"]
_PAIR += ["split_a", "split_b", "label_a", "label_b"]


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit. The audit changes nothing.

    Attributes:
        facts: The counts.
        verdict: One sentence: can a score on this split be believed, and why not.
        findings: One row a finding, worst first: `severity` ("high", "medium", "low"), `finding`, `count`, `of`,
            `detail`.
        unreadable: `path`, `reason`: X-rays that cannot be decoded.
        no_images: Files in the folder that are no images.
        pairs: Copies, one row a pair, worst first (across splits with different labels, across splits, with different
            labels, others): `path_a`, `path_b`, `distance` (bits of 64), `correlation`, `orientation` (what lays b over
            a), `identical`, `split_a`, `split_b`, `label_a`, `label_b`.
        groups: Every image of a group of copies: `group` (number), `path`, `label`, `split`.
        table: The audited table with `group` filled for readable and unreadable files alike.
    """

    facts: Facts
    verdict: str
    findings: pd.DataFrame
    unreadable: pd.DataFrame
    no_images: tuple[str, ...]
    pairs: pd.DataFrame
    groups: pd.DataFrame
    table: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return the report in JSON types only, None where something is undefined."""
        facts = self.facts
        return {
            "images": facts.images,
            "unreadable": self.unreadable.to_dict("records"),
            "no_images": list(self.no_images),
            "exact_duplicates": facts.exact_duplicates,
            "near_duplicate_groups": facts.near_groups,
            "label_conflicts": facts.label_conflicts,
            "cross_split": {pair: dict(counts) for pair, counts in facts.cross_split.items()},
            "shortcuts": [{"name": name, "auc": auc} for name, auc in facts.shortcuts.items()],
            "verdict": self.verdict,
        }


def audit_dataset(
    table: pd.DataFrame,
    *,
    others: Sequence[str] = (),
    turned: bool = False,
    progress: bool = False,
    workers: int | None = None,
    seed: int = 0,
) -> AuditReport:
    """Audit a data set: unreadable files, copies, leaks across published splits, label conflicts and shortcuts.

    Every file is read once, in parallel; nothing is written or changed. See `duplicates` for which copies are found and
    which are not, and `shortcuts` for how the shortcuts are scored.

    Args:
        table: The data set's table.
        others: Files of the folder that are no images (`datasets.list_other_files`), to be listed as such.
        turned: Look for copies that were turned by some degrees or cropped too; see `turned`. It takes longer.
        progress: Show a progress bar.
        workers: Processes that read files; see `reading.read_files`.
        seed: Decides the folds of the shortcut scores.

    Returns:
        The report.

    Raises:
        FracturelabError: The table has no rows, or `turned` needs a package that is not installed.
    """
    if len(table) == 0:
        raise FracturelabError("expected a table with at least one image. Received: an empty one")
    readings = read_files(list(table["path"]), closer=turned, progress=progress, workers=workers)
    labels = table["label"].astype("Int64").fillna(-1).to_numpy(np.int64)
    copies = find_copies(readings, table["label"])
    split = table["split"].astype("string[python]").fillna("").to_numpy(object)
    names = table["group"].astype("string[python]").fillna("").to_numpy(object)
    published = np.where(np.char.startswith(names.astype(str), MADE_UP), "", names)  # made-up names are no patients
    rows = np.flatnonzero(readings.readable & (labels >= 0))
    shortcuts = shortcut_scores(
        shortcut_features(readings, rows), labels[rows], joined_groups(published, copies.groups)[rows], seed=seed
    )
    facts = _facts(readings, copies, labels, split, published, shortcuts, len(others))
    return AuditReport(
        facts=facts,
        verdict=give_verdict(facts),
        findings=pd.DataFrame(list_findings(facts), columns=["severity", "finding", "count", "of", "detail"]),
        unreadable=readings.unreadable,
        no_images=tuple(str(path) for path in others),
        pairs=_pairs(table, copies.pairs, labels, split),
        groups=_groups(table, copies),
        table=fill_groups(table, readings, copies),
    )


def _facts(
    readings: Readings,
    copies: Copies,
    labels: np.ndarray,
    split: np.ndarray,
    published: np.ndarray,
    shortcuts: dict[str, float | None],
    others: int,
) -> Facts:
    readable = readings.readable
    sizes = np.bincount(copies.groups, minlength=1)
    sides = {str(side) for side in split[readable]} - {""}
    judged = next((side for side in ("test", "val") if side in sides and len(sides) > 1), "")
    here = readable & (split == judged) & (judged != "")
    elsewhere = readable & (split != judged) & (split != "")
    leaked = count_copies(here, elsewhere, copies.contents, copies.groups)
    return Facts(
        images=len(labels),
        readable=int(readable.sum()),
        normal=int((readable & (labels == 0)).sum()),
        fractured=int((readable & (labels == 1)).sum()),
        exact_duplicates=int(copies.pairs["identical"].sum()),
        near_groups=int((sizes > 1).sum()),
        near_images=int(sizes[sizes > 1].sum()),
        label_conflicts=len(conflicting_groups(labels, readable, copies.groups)),
        cross_split=shared_between_splits(split, readable, copies.contents, copies.groups),
        judged=judged,
        judged_normal=int((here & (labels == 0)).sum()),
        judged_fractured=int((here & (labels == 1)).sum()),
        leaked=leaked["near"],
        leaked_identical=leaked["identical"],
        torn_groups=tuple(groups_across_splits(published, split, readable)),
        has_patients=bool((published != "").any()),
        turned=readings.features is not None,
        blank=int(copies.blank.sum()),
        several=int(readings.files["several"].sum()),
        others=others,
        shortcuts=shortcuts,
    )


def _pairs(table: pd.DataFrame, pairs: pd.DataFrame, labels: np.ndarray, split: np.ndarray) -> pd.DataFrame:
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    crossing = (split[first] != split[second]) & (split[first] != "") & (split[second] != "")
    conflict = (labels[first] != labels[second]) & (labels[first] >= 0) & (labels[second] >= 0)
    order = np.lexsort((second, first, -pairs["correlation"], -(2 * crossing.astype(int) + conflict)))
    files = table[["path", "split", "label"]]  # paths are plain objects: a name need not be UTF-8
    ends = [
        files.iloc[rows[order]].reset_index(drop=True).add_suffix(end) for rows, end in ((first, "_a"), (second, "_b"))
    ]
    shown = pd.concat([*ends, pairs.iloc[order].reset_index(drop=True)], axis=1)
    shown["orientation"] = [
        (*ORIENTATIONS, "turned or cropped", "by file name")[number] for number in shown["orientation"]
    ]
    return shown[_PAIR]


def _groups(table: pd.DataFrame, copies: Copies) -> pd.DataFrame:
    rows = np.flatnonzero(np.bincount(copies.groups, minlength=1)[copies.groups] > 1)
    rows = rows[np.argsort(copies.groups[rows], kind="stable")]
    members = table.iloc[rows][["path", "label", "split"]].reset_index(drop=True)
    members.insert(0, "group", copies.groups[rows])
    return members
