"""The choice of a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from fracturelab.plots.style import FRACTURED, NORMAL, own_axes, styled

if TYPE_CHECKING:
    from fracturelab.evaluation import Curve


@styled
def threshold_choice(curve: Curve, threshold: float, *, ax: Axes | None = None) -> Axes:
    """Sensitivity and specificity at every threshold, with the one that was chosen.

    Args:
        curve: Of the validation images, from `evaluation.roc_curve`.
        threshold: The chosen one.
        ax: Where to draw; a new figure if None.

    Returns:
        The Axes.
    """
    ax = own_axes(ax, width=6.5, height=3.2)
    order = np.argsort(curve.thresholds, kind="stable")
    at = np.concatenate([[0.0], np.clip(curve.thresholds[order], 0, 1)])
    for rates, name, colour, dashes in (
        (curve.y, "sensitivity: share of fractured images called fractured", FRACTURED, "-"),
        (1 - curve.x, "specificity: share of normal images called normal", NORMAL, "--"),
    ):
        # At or above it an image is called fractured: a rate holds from the next lower probability up to its own.
        steps = np.concatenate([rates[order[:1]], rates[order]])
        ax.step(at, steps, where="pre", color=colour, linestyle=dashes, label=name)
    ax.axvline(threshold, color="black", linewidth=1, linestyle=":", label=f"chosen: {threshold:.2f}")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="threshold on P(fractured)", ylabel="share")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
    return ax
