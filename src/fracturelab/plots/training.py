"""Pictures of training: measures over the epochs, and scores over the number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from fracturelab.plots.style import (
    BESIDE,
    COLOURS,
    DASHES,
    GREY,
    WIDTH,
    band,
    note,
    nth,
    own_axes,
    panels,
    styled,
    titled,
)

_LEAST_SPAN = 0.05  # of an axis of scores: a hundredth must not look like a mountain


@styled
def training_curves(
    history: Mapping[str, ArrayLike],
    *,
    stages: Sequence[str] | None = None,
    best: int | None = None,
    title: str = "",
    colour: str | None = None,
) -> Figure:
    """Loss on the left, every other measure on the right, over the epochs.

    Args:
        history: Measure to its value after each epoch, such as loss, val_loss, val_auc. A pandas DataFrame serves as
            well; columns that are not numbers, and `epoch`, are left out.
        stages: Stage of each epoch, such as "head" or "fine-tuning"; a dotted line separates them.
        best: Epoch (from 0) whose weights are kept, marked.
        title: Title of the figure.
        colour: Colour of a model for two classes. Validation is drawn in it and training in grey, on fixed axes with
            lines at chance, so that two models can be compared. None for a colour a measure, and axes that fit.

    Returns:
        The figure.
    """
    series: dict[str, Any] = {
        name: np.asarray(history[name], float)
        for name in history
        if name != "epoch" and np.issubdtype(np.asarray(history[name]).dtype, np.number)
    }
    losses = {name: values for name, values in series.items() if "loss" in name}
    others = {name: values for name, values in series.items() if name not in losses and "learning_rate" not in name}
    drawn = [group for group in (losses, others) if group]
    if not drawn:
        raise ValueError("expected at least one measure over the epochs. Received: none")
    figure, axes = panels(len(drawn), columns=2, panel=(WIDTH / len(drawn), 3.2))
    for ax, group in zip(axes, drawn, strict=True):
        for i, (name, values) in enumerate(group.items()):
            validation = name.startswith("val_")
            shade = COLOURS[i % len(COLOURS)] if colour is None else colour if validation else GREY
            look: dict[str, Any] = {"color": shade, "linestyle": "-" if validation else "--", "markersize": 3}
            look["marker"] = "o" if len(values) <= 30 else None
            ax.plot(np.arange(1, len(values) + 1), values, label=_in_words(name), **look)
        if stages is not None:
            _mark_stages(ax, stages)
        if best is not None:
            ax.axvline(best + 1, color=GREY, linewidth=1, label=f"kept: epoch {best + 1}")
        label = "loss" if group is losses else "score" if colour is None else "ROC AUC"
        ax.set(xlabel="epoch", xlim=(0.5, max(map(len, group.values())) + 0.5), ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        low, high = ax.get_ylim()
        if colour is not None:
            ax.set_ylim((0, max(high, 1.0)) if group is losses else (min(low, 0.4), 1.01))
            ax.axhline(np.log(2) if group is losses else 0.5, color=GREY, linewidth=1, linestyle=":", label="chance")
        elif group is others and high - low < _LEAST_SPAN:
            ax.set_ylim((low + high - _LEAST_SPAN) / 2, (low + high + _LEAST_SPAN) / 2)
        ax.legend()
    titled(figure, title)
    return figure


def _in_words(name: str) -> str:
    part, measure = ("validation", name[4:]) if name.startswith("val_") else ("training", name)
    return f"{part} {measure.replace('_', ' ').replace('auc', 'AUC')}"


def _mark_stages(ax: Axes, stages: Sequence[str]) -> None:
    for start, (before, stage) in enumerate(pairwise([None, *stages])):
        if stage != before:
            if start:
                ax.axvline(start + 0.5, color=GREY, linestyle=":", linewidth=1)
            place = {"xycoords": ("data", "axes fraction"), "fontsize": 8.5, "color": GREY}
            note(ax, str(stage), (start + 0.55, 1.0), (2, 2), **place)


@styled
def learning_curve(
    sizes: Sequence[int],
    curves: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str = "training images",
    ylabel: str = "ROC AUC",
    ax: Axes | None = None,
) -> Axes:
    """A score against a number of images, with bands.

    Args:
        sizes: Numbers of images.
        curves: Name to `value` and, where known, `low` and `high`: a number for each size; a curve may end early.
        xlabel: Label of the numbers.
        ylabel: The score.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes; the numbers of images stand on a logarithmic scale.
    """
    ax = own_axes(ax, width=7.5, height=3.8)
    for i, (name, curve) in enumerate(curves.items()):
        value = np.asarray(curve["value"], float)
        x, look = sizes[: len(value)], nth(i, name)
        ax.plot(x, value, **look, linestyle=DASHES[i % len(DASHES)], markersize=5, label=name)
        if "low" in curve and "high" in curve:
            band(ax, x, curve["low"], curve["high"], colour=look["color"])
    ax.set_xscale("log")
    ax.set_xticks(list(sizes), [f"{size:,}" for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(**BESIDE)
    return ax
