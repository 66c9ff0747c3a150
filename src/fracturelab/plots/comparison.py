"""Forest plots: scores of models with their intervals, on each part that they were tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fracturelab.plots.style import (
    ABOVE,
    GREY,
    MODEL_COLOURS,
    WIDTH,
    line_at,
    note,
    nth,
    own_axes,
    style,
    styled,
    whiskers,
)
from fracturelab.records.names import metric_name

_STEP = 0.19  # between the parts of one model, in rows
_LINE = 0.42  # inches for a model with one part; each further part adds a share of it


@styled
def score_forest(
    scores: Mapping[str, Mapping[str, Sequence[float | None]]],
    *,
    parts: Sequence[str],
    reference: float | None = None,
    xlabel: str = "value and 95% interval",
    ax: Axes | None = None,
) -> Axes:
    """A forest plot of models, with a dot and whiskers for every part that a model was tested on.

    A row that is a model of `MODEL_COLOURS` has its colour, and its parts differ in their marks.

    Args:
        scores: Model to part to (value, low, high). Parts may be missing; undefined scores are marked as such.
        parts: Names of the parts, in the order of their colours.
        reference: Value of a dashed line, such as 0.5, the AUC of chance.
        xlabel: Label of the values.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = own_axes(ax, height=forest_height(scores))
    row, middles = 0.0, []
    of_models = any(name in MODEL_COLOURS for name in scores)
    for name, of_parts in scores.items():
        known = [part for part in parts if part in of_parts]
        for number, part in enumerate(known):
            mark, y = nth(parts.index(part), part), row + number * _STEP
            mark["color"] = MODEL_COLOURS.get(name, mark["color"])
            value, low, high = of_parts[part]
            if defined := value is not None and low is not None and high is not None:
                look = {**mark, "linestyle": "none", "markersize": 5.5, "linewidth": 1.6}
                ax.errorbar(value, y, xerr=whiskers(value, low, high), capsize=2.5, **look)
            words = {"va": "center", "fontsize": 8, "color": mark["color"] if defined else GREY}
            text = f"{value:.2f}" if defined else "undefined"
            note(ax, text, (1.0, y), (4, 0), xycoords=("axes fraction", "data"), **words)
        last = row + max(len(known) - 1, 0) * _STEP
        middles.append((row + last) / 2)
        row = last + 2.6 * _STEP
        ax.axhline(row - 1.3 * _STEP, color="#E4E4E4", linewidth=0.8)
    line_at(ax, reference)
    ax.set_yticks(middles, list(scores))
    ax.set(ylim=(row - 1.3 * _STEP, -1.3 * _STEP), xlabel=xlabel)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    shown = [part for part in parts if any(part in of_parts for of_parts in scores.values())]
    if len(parts) > 1:
        marks = [nth(parts.index(part), part) | ({"color": GREY} if of_models else {}) for part in shown]
        ax.legend([plt.Line2D([], [], linestyle="none", markersize=5.5, **mark) for mark in marks], shown, **ABOVE)
    return ax


def intervals(
    scores: Mapping[str, Mapping[str, Sequence[float | None]]],
    *,
    reference: float | None = None,
    xlabel: str = "value and 95% interval",
    ax: Axes | None = None,
) -> Axes:
    """A forest plot of metrics, with a dot and whiskers for each model.

    Args:
        scores: Model to metric to (value, low, high), as `evaluation.Interval`. Undefined scores are marked as such.
        reference: Value of a dashed line, such as 0.5, the AUC of chance.
        xlabel: Label of the values.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    metrics = list(dict.fromkeys(metric for row in scores.values() for metric in row))
    missing = (None, None, None)
    rows = {metric_name(name): {model: row.get(name, missing) for model, row in scores.items()} for name in metrics}
    return score_forest(rows, parts=list(scores), reference=reference, xlabel=xlabel, ax=ax)


def forest_height(scores: Mapping[str, Mapping[str, Sequence[float | None]]]) -> float:
    """Inches that `score_forest` needs for these scores."""
    return 1.1 + sum(_LINE * (1 + 0.45 * max(len(of_parts) - 1, 0)) for of_parts in scores.values())


def score_forests(
    panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float | None]]]],
    *,
    parts: Sequence[str],
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Several forest plots, one above the other, one for each kind of score.

    Args:
        panels: Name of the score to what `score_forest` takes.
        parts: Names of the parts.
        references: Name of the score to the value of its dashed line.

    Returns:
        The figure.
    """
    heights = [forest_height(scores) for scores in panels.values()]
    with style():
        figure, axes = plt.subplots(
            len(panels), 1, figsize=(WIDTH, sum(heights)), squeeze=False, height_ratios=heights, layout="constrained"
        )
        for ax, (name, scores) in zip(axes[:, 0], panels.items(), strict=True):
            score_forest(
                scores, parts=parts, reference=(references or {}).get(name), xlabel=f"{name} and 95% interval", ax=ax
            )
    return figure
