"""How well the label can be told without looking at any bone.

A file's length, a picture's size or a marker in its corner should say nothing about a fracture. Where they do, through
two machines, two hospitals or two ways of exporting, a network may learn them instead of fractures, and its score
will not hold elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fracturelab.audit.reading import Readings

STRONG = 0.70
"""A cross-validated AUC from here on is called a shortcut, if it is also surely above `SURELY`."""

SURELY = 0.60
"""The lower end of a strong shortcut's 95% interval lies above this."""

_FOLDS = 5
_MOST = 10_000  # images looked at: an AUC is then known to about 0.01
_PIECE = 2048  # pictures in memory as floats at once
_EDGE = 2  # pixels of the 64 x 64 thumbnail
_CORNER = 12


def shortcut_features(readings: Readings, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Collect the features of each image that do not depend on the bone it shows.

    Args:
        readings: What `read_files` found.
        rows: Row numbers of readable files.

    Returns:
        float32 (rows, features) for `file_size`, `image_size` (width, height), `aspect`, `mean_brightness`, `border`
        (mean and deviation of each edge) and `corners` (mean, deviation and maximum of each corner).
    """
    parts = [
        _content_features(readings.thumbnails[rows[start : start + _PIECE]].astype(np.float32))
        for start in range(0, max(len(rows), 1), _PIECE)
    ]
    files = readings.files.iloc[rows]
    by_file = {
        "file_size": files[["bytes"]].to_numpy(np.float32),
        "image_size": files[["width", "height"]].to_numpy(np.float32),
        "aspect": (files[["width"]].to_numpy(np.float32) / files[["height"]].to_numpy(np.float32)),
    }
    return by_file | {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def shortcut_scores(
    features: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> dict[str, float | None]:
    """Compute the cross-validated AUC with which each set of features alone predicts the label.

    Small gradient-boosted trees, which find steps and single values as well as trends; five folds (fewer where a class
    has fewer groups) that keep groups whole; the mean of the folds' AUCs. Of more than 10,000 images a fixed choice of
    groups with about that many is looked at.

    Args:
        features: (n, k) values by name.
        labels: int (n,), 0 or 1.
        groups: (n,) group of each row.
        seed: Decides the folds.

    Returns:
        AUC by name; None where a class has fewer than two groups.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    from fracturelab.splits import assign_groups

    if len(labels) > _MOST:
        kept = assign_groups(labels, groups, [_MOST, len(labels) - _MOST], seed=seed) == 0
        features = {name: values[kept] for name, values in features.items()}
        labels, groups = labels[kept], groups[kept]
    spread = [len(np.unique(groups[labels == label])) for label in (0, 1)]
    if min(spread) < 2:
        return dict.fromkeys(features)
    folds = min(_FOLDS, *spread)
    fold = assign_groups(labels, groups, [1.0] * folds, seed=seed)
    both = [
        number for number in range(folds) if _has_both(labels[fold == number]) and _has_both(labels[fold != number])
    ]
    scores: dict[str, float | None] = {}
    for name, values in features.items():
        aucs = []
        for number in both:
            train, held_out = fold != number, fold == number
            model = HistGradientBoostingClassifier(
                max_iter=40,
                max_leaf_nodes=6,
                min_samples_leaf=int(np.clip(train.sum() // 40, 2, 20)),
                early_stopping=False,
                random_state=seed,
            )
            with threadpool_limits(limits=1):  # threads wait for one another longer than such small trees take
                model.fit(values[train], labels[train])
                aucs.append(roc_auc_score(labels[held_out], model.decision_function(values[held_out])))
        scores[name] = float(np.mean(aucs)) if aucs else None
    return scores


def auc_margin(auc: float, positives: int, negatives: int) -> float:
    """Compute half the width of an AUC's 95% interval.

    Hanley and McNeil, *The meaning and use of the area under a receiver operating characteristic (ROC) curve*, 1982.

    Args:
        auc: The AUC, 0 to 1.
        positives: Number of fractured images.
        negatives: Number of normal images.
    """
    if min(positives, negatives) < 1:
        return 1.0
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (positives - 1) * (both_positive - auc**2) + (negatives - 1) * (both_negative - auc**2)
    return float(1.96 * np.sqrt(max(variance, 0) / (positives * negatives)))


def is_strong(auc: float | None, positives: int, negatives: int) -> bool:
    """Return whether an AUC from a shortcut is high, and surely so with that many images."""
    return auc is not None and auc >= STRONG and auc - auc_margin(auc, positives, negatives) > SURELY


def _content_features(pictures: np.ndarray) -> dict[str, np.ndarray]:
    edges = (pictures[:, :_EDGE], pictures[:, -_EDGE:], pictures[:, :, :_EDGE], pictures[:, :, -_EDGE:])
    near, far = slice(0, _CORNER), slice(-_CORNER, None)
    corners = [pictures[:, down, across] for down in (near, far) for across in (near, far)]
    columns = {
        "mean_brightness": [pictures.mean(axis=(1, 2))],
        "border": [statistic(edge, axis=(1, 2)) for edge in edges for statistic in (np.mean, np.std)],
        "corners": [statistic(corner, axis=(1, 2)) for corner in corners for statistic in (np.mean, np.std, np.max)],
    }
    return {name: np.stack(values, axis=1) for name, values in columns.items()}


def _has_both(labels: np.ndarray) -> bool:
    return 0 < labels.sum() < len(labels)
