"""Names of metrics for people, and a value with its interval as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRIC_NAMES = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "kappa": "Cohen's kappa",
    "brier": "Brier score",
}
"""Key of a metric to its name in tables and figures."""


def metric_name(key: str) -> str:
    """Return the name of a metric for people; an unknown key keeps its words."""
    return METRIC_NAMES.get(key, key.replace("_", " "))


def interval_text(interval: Mapping[str, Any] | None) -> str:
    """Return a value with its interval, such as "0.900 (0.87–0.93)"; empty where it is undefined.

    Args:
        interval: `value`, `low` and `high`; None and NaN are undefined.

    Examples:
        >>> interval_text({"value": 0.9, "low": 0.87, "high": 0.93})
        '0.900 (0.87–0.93)'
    """
    value, low, high = ((interval or {}).get(key) for key in ("value", "low", "high"))
    if value is None or value != value:
        return ""
    return f"{value:.3f}" + ("" if low is None or high is None or low != low else f" ({low:.2f}–{high:.2f})")
