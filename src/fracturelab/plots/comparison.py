"""One picture of everything: each model's score where it was trained, chosen, tested, and elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fracturelab.plots.style import COLOURS, GREY, WIDTH, style, styled

_MARKERS = "o^sDvPX*"
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
    """A forest plot of models: for each, a dot with whiskers for every part that it was tested on, and none for others.

    Args:
        scores: Model to part to (value, low, high); parts may be missing.
        parts: Names of the parts, in the order of their colours.
        reference: Where to draw a line, such as 0.5 for the AUC of guessing.
        xlabel: What the values are.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    if ax is None:
        ax = plt.subplots(figsize=(WIDTH, forest_height(scores)), layout="constrained")[1]
    row, middles, used = 0.0, [], set()
    for found in scores.values():
        known = [part for part in parts if part in found and None not in found[part]]
        for number, part in enumerate(known):
            value, low, high = (float(v) for v in found[part] if v is not None)
            i, y = parts.index(part), row + number * _STEP
            label = None if part in used else part
            used.add(part)
            ax.errorbar(
                value,
                y,
                xerr=[[max(value - low, 0)], [max(high - value, 0)]],
                fmt=_MARKERS[i % len(_MARKERS)],
                color=COLOURS[i % len(COLOURS)],
                markersize=5.5,
                linewidth=1.6,
                capsize=2.5,
                label=label,
            )
            ax.annotate(
                f"{value:.2f}",
                (1.0, y),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                va="center",
                fontsize=8,
                textcoords="offset points",
                color=COLOURS[i % len(COLOURS)],
            )
        last = row + max(len(known) - 1, 0) * _STEP
        middles.append((row + last) / 2)
        row = last + 2.6 * _STEP
        ax.axhline(row - 1.3 * _STEP, color="#E4E4E4", linewidth=0.8)
    if reference is not None:
        ax.axvline(reference, color=GREY, linewidth=1, linestyle="--")
    ax.set_yticks(middles, list(scores))
    ax.set(ylim=(row - 1.3 * _STEP, -1.3 * _STEP), xlabel=xlabel)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    shown = [part for part in parts if part in handles]
    ax.legend([handles[part] for part in shown], shown, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return ax


def forest_height(scores: Mapping[str, Mapping[str, Sequence[float | None]]]) -> float:
    """Inches that `score_forest` needs for these scores."""
    return 1.1 + sum(_LINE * (1 + 0.45 * max(len(found) - 1, 0)) for found in scores.values())


def score_forests(
    panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float | None]]]],
    *,
    parts: Sequence[str],
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Several forests one above the other, one for each kind of score.

    Args:
        panels: Name of the score to what `score_forest` takes.
        parts: Names of the parts.
        references: Name of the score to where its line is drawn.

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
