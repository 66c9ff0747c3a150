"""The picture of a threshold's choice."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import pyplot as plt

from fracturelab import plots
from fracturelab.evaluation import choose_threshold, evaluate, roc_curve

LABELS = np.array([0, 0, 0, 1, 1, 0, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.25, 0.5, 0.6, 0.7, 0.9])


@pytest.mark.parametrize("threshold", [0.05, 0.22, 0.4, 0.65, 0.8, 0.95])
def test_the_lines_are_the_rates_at_every_threshold(threshold):
    ax = plots.threshold_choice(roc_curve(LABELS, SCORES), choose_threshold(LABELS, SCORES))
    expected = evaluate(LABELS, SCORES, threshold=threshold, n_bootstrap=10).metrics
    for line, name in zip(ax.lines, ("recall", "specificity"), strict=False):
        x, y = line.get_data()
        assert line.get_drawstyle() == "steps-pre"
        assert y[np.searchsorted(x, threshold)] == pytest.approx(expected[name].value), name
    plt.close("all")


def test_the_chosen_one_is_marked():
    ax = plots.threshold_choice(roc_curve(LABELS, SCORES), 0.4)
    assert ax.lines[-1].get_xdata()[0] == 0.4
    assert "chosen: 0.40" in [text.get_text() for text in ax.get_legend().get_texts()]
    plt.close("all")
