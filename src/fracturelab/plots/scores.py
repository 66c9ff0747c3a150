"""Pictures of scores: bars, and scores against costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from fracturelab.plots.style import BESIDE, nth, own_axes, styled, whiskers


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
        names: Names of the models.
        costs: Parameters, megabytes or milliseconds; positive.
        scores: (value, low, high) of each.
        xlabel: Label of the costs.
        ylabel: Label of the scores.
        hollow: Names of models that are not comparable with the others; their marks are hollow.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = own_axes(ax, width=7.5, height=4.2)
    for i, (name, cost, (value, low, high)) in enumerate(zip(names, np.asarray(costs, float), scores, strict=True)):
        if value is None or low is None or high is None:
            continue
        look = {**nth(i, name), "linestyle": "none", "markersize": 7, "linewidth": 1.2}
        if name in hollow:
            look["markerfacecolor"] = "white"
        ax.errorbar(cost, value, yerr=whiskers(value, low, high), capsize=3, label=f"{name}: {value:.2f}", **look)
    ax.set_xscale("log")
    ax.margins(x=0.1)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    known = np.asarray(costs, float)
    between = "25" if len(known) and known.max() < 200 * known.min() else ""  # over three decades they would touch
    ax.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in between else "")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(**BESIDE)
    return ax
