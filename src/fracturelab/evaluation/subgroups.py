"""Scores of a model by region, view, metal and size of the fracture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.evaluation.metrics import evaluate

if TYPE_CHECKING:
    import pandas as pd

SIZES = {"small": (0.0, 0.06), "middle": (0.06, 0.09), "large": (0.09, 1.01)}
"""Longest side of an X-ray's largest fracture, as a share of the picture's longer side: thirds of FracAtlas."""
SCORES = ("roc_auc", "pr_auc", "recall", "specificity")


def subgroup_members(table: pd.DataFrame, fracture_sizes: ArrayLike | None = None) -> dict[str, NDArray[np.bool_]]:
    """Find the images of each subgroup that the table describes.

    An X-ray of several regions or views belongs to each of them. A subgroup of one fracture size also holds all normal
    X-rays.

    Args:
        table: With any of the columns `region`, `view` and `hardware`, and `label`.
        fracture_sizes: (n,) as in `SIZES`; NaN where not known or normal.

    Returns:
        Name of the subgroup to bool (n,); empty where the table describes none.
    """
    members: dict[str, NDArray[np.bool_]] = {}
    if "hardware" in table and table["hardware"].notna().any():
        members["without metal"] = (~table["hardware"]).fillna(False).to_numpy(bool)
        members["with metal"] = table["hardware"].fillna(False).to_numpy(bool)
    for column in ("region", "view"):
        values = table[column].fillna("").str.split("+") if column in table else []
        for name in sorted({name for row in values for name in row} - {""}):
            members[f"{column}: {name}"] = np.array([name in row for row in values], bool)
    if fracture_sizes is not None:
        sizes, normal = np.asarray(fracture_sizes, float), (table["label"] == 0).to_numpy(bool)
        for name, (low, high) in SIZES.items():
            inside = (sizes >= low) & (sizes < high)
            if inside.any():
                members[f"fracture: {name}"] = inside | normal
    return members


def subgroup_scores(
    table: pd.DataFrame,
    probabilities: ArrayLike,
    *,
    threshold: float,
    fracture_sizes: ArrayLike | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score each subgroup of `subgroup_members`, with 95% intervals over groups.

    Args:
        table: One row an image, with `label`, `group` and the columns of `subgroup_members`.
        probabilities: (n,) P(fractured).
        threshold: At or above it an image is called fractured.
        fracture_sizes: See `subgroup_members`.
        seed: Of the bootstrap.

    Returns:
        For each subgroup its `subgroup`, `n`, `fractured`, `groups`, and the intervals of `SCORES` as mappings, ready
        for JSON. A score that needs both classes is undefined where one is missing.
    """
    labels, values = table["label"].to_numpy(int), np.asarray(probabilities, float)
    rows = []
    for name, inside in subgroup_members(table, fracture_sizes).items():
        groups = table["group"][inside]
        evaluation = evaluate(labels[inside], values[inside], threshold=threshold, groups=groups, seed=seed)
        scores = {score: evaluation.metrics[score].to_dict() for score in SCORES}
        counts = {"n": evaluation.n, "fractured": int(labels[inside].sum()), "groups": evaluation.n_groups}
        rows.append({"subgroup": name, **counts, **scores})
    return rows
