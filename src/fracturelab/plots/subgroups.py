"""A score in each subgroup of a test, beside the score of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from fracturelab.plots.comparison import score_forest
from fracturelab.records.names import metric_name


def subgroup_intervals(
    rows: Sequence[Mapping[str, Any]], whole: Mapping[str, Any], *, score: str = "roc_auc", ax: Axes | None = None
) -> Axes:
    """A forest plot of one score: the whole first, then each subgroup with its number of X-rays.

    Args:
        rows: As `evaluation.subgroup_scores` gives them.
        whole: The score of all X-rays together: `value`, `low` and `high`.
        score: Which one.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes, with a line at the value of the whole.
    """
    named = {f"{row['subgroup']} ({row['fractured']} of {row['n']})": row[score] for row in rows}
    parts = {
        name: {score: (one_score["value"], one_score["low"], one_score["high"])}
        for name, one_score in {"all X-rays": whole, **named}.items()
    }
    label = f"{metric_name(score)} and 95% interval (fractured of all X-rays)"
    return score_forest(parts, parts=[score], reference=whole["value"], xlabel=label, ax=ax)
