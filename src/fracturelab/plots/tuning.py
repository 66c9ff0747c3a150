"""Pictures of a search over hyperparameters: the trials in order, and the values of each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from fracturelab.plots.style import BESIDE, FRACTURED, GREY, NORMAL, WIDTH, line_at, own_axes, panels, style, styled

_STATES = {"complete": ("o", NORMAL), "pruned": ("x", GREY), "failed": ("|", FRACTURED)}


@styled
def tuning_history(
    values: ArrayLike,
    states: Sequence[str],
    *,
    reference: float | None = None,
    ylabel: str = "validation loss",
    ax: Axes | None = None,
) -> Axes:
    """The value of each trial, and the best one so far as a line.

    Args:
        values: The loss of each trial in order; of a pruned one the last that it reached, nan where there is none.
        states: "complete", "pruned" or "failed", one a trial; others are left out.
        reference: Value of a dashed line, such as the value before tuning.
        ylabel: Label of the values.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes; trials that have no value stand at the lower edge.
    """
    losses = np.asarray(values, float)
    if len(losses) != len(states):
        raise ValueError(f"expected a state for each of {len(losses)} trials. Received: {len(states)}")
    ax = own_axes(ax, width=7.5, height=3.4)
    numbers = np.arange(len(losses))
    kinds = np.asarray(states, str)
    for state, (marker, colour) in _STATES.items():
        of, known = kinds == state, np.isfinite(losses)
        if (of & known).any():
            ax.plot(numbers[of & known], losses[of & known], marker, color=colour, markersize=6, label=state)
        if (of & ~known).any():
            edge, label = ax.get_xaxis_transform(), f"{state}, without a value"
            x, y = numbers[of & ~known], np.zeros((of & ~known).sum())
            ax.plot(x, y, marker, color=colour, markersize=6, clip_on=False, transform=edge, label=label)
    done = np.flatnonzero((kinds == "complete") & np.isfinite(losses))
    if len(done):
        best = np.minimum.accumulate(losses[done])
        ends = np.append(done, max(len(losses) - 1, done[-1]))
        ax.step(ends, np.append(best, best[-1]), where="post", color="black", linewidth=1.2, label="best so far")
    line_at(ax, reference, across=True)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="trial", ylabel=ylabel)
    if len(losses):
        ax.legend(**BESIDE)
    return ax


def tuning_slices(
    tried: Mapping[str, Sequence[float]],
    values: ArrayLike,
    *,
    logarithmic: Sequence[str] = (),
    ylabel: str = "validation loss",
    columns: int = 3,
) -> Figure:
    """The values of finished trials against each hyperparameter, a panel each; later trials are darker.

    Args:
        tried: Hyperparameter to what each trial used of it.
        values: Of the same trials, in order.
        logarithmic: Names of those on a logarithmic scale.
        ylabel: Label of the values.
        columns: Panels in a row.

    Returns:
        The figure.
    """
    losses = np.asarray(values, float)
    if not tried or any(len(used) != len(losses) for used in tried.values()):
        raise ValueError(f"expected hyperparameters of {len(losses)} trials. Received: {list(tried)}")
    with style():
        across = max(1, min(columns, len(tried)))
        figure, axes = panels(len(tried), columns=columns, panel=(WIDTH / across, 2.4))
        colours = [to_rgba(NORMAL, alpha) for alpha in np.linspace(0.3, 1.0, len(losses))]
        for i, (ax, (name, used)) in enumerate(zip(axes, tried.items(), strict=True)):
            ax.scatter(np.asarray(used, float), losses, s=30, color=colours)
            if name in logarithmic:
                ax.set_xscale("log")
                decades = np.log10(max(used) / min(used)) if len(losses) else 0.0
                subs = (1.0,) if decades > 2 else (1.0, 3.0) if decades > 1 else (1.0, 2.0, 5.0)
                ax.xaxis.set_major_locator(LogLocator(subs=subs))
                ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
                ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set(xlabel=name.replace("_", " "), ylabel=ylabel if i % across == 0 else "")
    return figure
