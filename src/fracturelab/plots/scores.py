"""Pictures of scores: intervals, bars, scores against costs, ratios."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from fracturelab.plots.images import shortened
from fracturelab.plots.style import COLOURS, FRACTURED, GREY, NORMAL, RIGHT, WIDTH, own_axes, styled
from fracturelab.records.names import metric_name

_MARKERS = "osD^vPX*"


@styled
def intervals(
    scores: Mapping[str, Mapping[str, Sequence[float | None]]],
    *,
    reference: float | None = None,
    xlabel: str = "value and 95% interval",
    ax: Axes | None = None,
) -> Axes:
    """A forest plot: for each metric, a dot with whiskers for each model.

    Args:
        scores: Model to metric to (value, low, high), as `evaluation.Interval`; undefined ones are named so.
        reference: Where to draw a line, such as 0.5 for the AUC of guessing.
        xlabel: What the values are.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    models = list(scores)
    metrics = list(dict.fromkeys(metric for row in scores.values() for metric in row))
    gap = len(models) + 0.8
    ax = own_axes(ax, height=1.0 + 0.23 * gap * len(metrics))
    marks: list[tuple[float, str]] = []
    for i, model in enumerate(models):
        for j, metric in enumerate(metrics):
            value, low, high = scores[model].get(metric, (None, None, None))
            row = j * gap + i
            if value is None or low is None or high is None:
                marks.append((row, "undefined"))
                continue
            ax.errorbar(
                value,
                row,
                xerr=[[max(value - low, 0)], [max(high - value, 0)]],
                fmt=_MARKERS[i % len(_MARKERS)],
                color=COLOURS[i % len(COLOURS)],
                markersize=5.5,
                linewidth=1.6,
                capsize=2.5,
            )
            marks.append((row, f"{value:.2f}"))
        ax.plot([], [], _MARKERS[i % len(_MARKERS)], color=COLOURS[i % len(COLOURS)], label=model)
    for row, words in marks:
        ax.annotate(
            words,
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color="black" if words != "undefined" else GREY,
        )
    if reference is not None:
        ax.axvline(reference, color=GREY, linewidth=1, linestyle="--")
    middle = (len(models) - 1) / 2
    ax.set_yticks([j * gap + middle for j in range(len(metrics))], [metric_name(metric) for metric in metrics])
    for j in range(1, len(metrics)):
        ax.axhline(j * gap - 0.9, color="#E4E4E4", linewidth=0.8)
    ax.set(ylim=((len(metrics) - 1) * gap + len(models) - 0.3, -0.8), xlabel=xlabel)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    if len(models) > 1:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return ax


@styled
def importances(names: Sequence[str], values: ArrayLike, *, xlabel: str = "importance", ax: Axes | None = None) -> Axes:
    """Bars, the longest on top, such as the importance of hyperparameters.

    Args:
        names: Of the bars.
        values: Their lengths.
        xlabel: What they are.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    lengths = np.asarray(values, float)
    order = np.argsort(-lengths, kind="stable")
    ax = own_axes(ax, height=0.9 + 0.32 * len(lengths))
    bars = ax.barh(np.arange(len(lengths)), lengths[order], height=0.65, color=NORMAL)
    ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    ax.set_yticks(np.arange(len(lengths)), [shortened(names[i], width=36) for i in order])
    ax.set(ylim=(len(lengths) - 0.5, -0.5), xlabel=xlabel)
    ax.margins(x=0.1)
    ax.grid(axis="y", visible=False)
    return ax


@styled
def score_against_cost(
    names: Sequence[str],
    costs: ArrayLike,
    scores: Sequence[Sequence[float | None]],
    *,
    xlabel: str = "parameters (millions)",
    ylabel: str = "ROC AUC",
    hollow: Collection[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """A score against size or time, on a logarithmic scale, with whiskers and names.

    Args:
        names: Of the models.
        costs: Parameters, megabytes or milliseconds; positive.
        scores: (value, low, high) of each.
        xlabel: What the costs are.
        ylabel: What the scores are.
        hollow: Names of models that must not be compared with the others as if they were alike; drawn hollow.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = own_axes(ax, width=7.5, height=4.2)
    for i, (name, cost, (value, low, high)) in enumerate(zip(names, np.asarray(costs, float), scores, strict=True)):
        if value is None or low is None or high is None:
            continue
        colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]
        ax.errorbar(
            cost,
            value,
            yerr=[[max(value - low, 0)], [max(high - value, 0)]],
            fmt=marker,
            color=colour,
            markerfacecolor="white" if name in hollow else colour,
            markersize=7,
            linewidth=1.2,
            capsize=3,
            label=f"{name}: {value:.2f}",
        )
    ax.set_xscale("log")
    ax.margins(x=0.1)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    known = np.asarray(costs, float)
    between = "25" if len(known) and known.max() < 200 * known.min() else ""  # over three decades they would touch
    ax.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in between else "")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


@styled
def ratios(names: Sequence[str], values: ArrayLike, *, xlabel: str = "times better", ax: Axes | None = None) -> Axes:
    """Ratios of a benchmark on a logarithmic scale; above 1 is better and green.

    Args:
        names: Of the comparisons.
        values: Ratios, positive.
        xlabel: What they are.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    measured = np.asarray(values, float)
    if not (measured > 0).all():
        raise ValueError(f"expected positive ratios. Received: {measured.tolist()}")
    ax = own_axes(ax, height=0.9 + 0.34 * len(measured))
    rows = np.arange(len(measured))
    better = measured >= 1
    ax.barh(rows, measured - 1, left=1, height=0.65, color=np.where(better, RIGHT, FRACTURED))
    for row, value in zip(rows, measured, strict=True):
        ax.annotate(
            f"{value:.1f}×" if value >= 0.95 else f"{value:.2f}×",
            (value, row),
            xytext=(4 if value >= 1 else -4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if value >= 1 else "right",
            fontsize=9,
        )
    ax.set_xscale("log")
    ax.axvline(1, color="black", linewidth=1)
    ax.set_yticks(rows, [shortened(name.replace("_", " "), width=36) for name in names])
    low, high = min(measured.min(initial=1) / 1.8, 0.8), max(measured.max(initial=1) * 1.8, 2)
    ax.set(xlim=(low, high), ylim=(len(measured) - 0.5, -0.5), xlabel=f"{xlabel} (1: the same)")
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= t <= high]
    ax.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    ax.minorticks_off()
    ax.grid(axis="y", visible=False)
    return ax


@styled
def score_over_parts(
    parts: Sequence[str],
    scores: Mapping[str, Sequence[Sequence[float | None]]],
    *,
    ylabel: str = "accuracy",
    ax: Axes | None = None,
) -> Axes:
    """Bars with whiskers side by side, such as training, validation and test accuracy of several models.

    Args:
        parts: Such as ("train", "val", "test").
        scores: Model to (value, low, high) for each part.
        ylabel: The score.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes; the vertical axis goes from 0 to 1.
    """
    ax = own_axes(ax, width=min(WIDTH, 2.5 + 1.6 * len(parts)), height=3.6)
    width = 0.8 / max(len(scores), 1)
    for i, (name, values) in enumerate(scores.items()):
        known = [(j, v) for j, v in enumerate(values) if None not in v]
        places = [j + (i - (len(scores) - 1) / 2) * width for j, _ in known]
        heights, lows, highs = (np.array([v[k] for _, v in known], float) for k in range(3))
        ax.bar(places, heights, width=0.92 * width, color=COLOURS[i % len(COLOURS)], label=name, alpha=0.85)
        ax.errorbar(
            places,
            heights,
            yerr=np.maximum([heights - lows, highs - heights], 0),
            fmt="none",
            ecolor="black",
            capsize=3,
        )
        for place, height, high in zip(places, heights, highs, strict=True):
            ax.annotate(
                f"{height:.2f}", (place, high), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8
            )
    ax.set_xticks(range(len(parts)), list(parts))
    ax.set(ylim=(0, 1.08), ylabel=ylabel)
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax
