"""Pictures of a search over hyperparameters."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fracturelab import plots


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_history_shows_each_state_and_the_best_so_far():
    states = ["complete", "pruned", "complete", "failed", "complete", "pruned"]
    ax = plots.tuning_history([0.7, 0.9, 0.6, np.nan, 0.65, 0.8], states, reference=0.68)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["complete"].get_xdata().tolist() == [0, 2, 4]
    assert lines["pruned"].get_xdata().tolist() == [1, 5]
    assert lines["failed, without a value"].get_xdata().tolist() == [3]
    assert lines["best so far"].get_xdata().tolist() == [0, 2, 4, 5]
    assert lines["best so far"].get_ydata().tolist() == [0.7, 0.6, 0.6, 0.6]
    plots.tuning_history([], []).figure.canvas.draw()
    with pytest.raises(ValueError, match="a state for each"):
        plots.tuning_history([0.1], [])


def test_slices_have_a_panel_for_each_hyperparameter():
    tried = {"learning_rate": [1e-4, 1e-3, 1e-2], "width": [16, 32, 16]}
    figure = plots.tuning_slices(tried, [0.7, 0.6, 0.8], logarithmic=["learning_rate"])
    first, second = figure.axes
    assert (first.get_xscale(), second.get_xscale()) == ("log", "linear")
    assert (first.get_xlabel(), first.get_ylabel(), second.get_ylabel()) == ("learning rate", "validation loss", "")
    assert np.allclose(second.collections[0].get_offsets(), [[16, 0.7], [32, 0.6], [16, 0.8]])
    figure.canvas.draw()
    with pytest.raises(ValueError, match="hyperparameters of 2 trials"):
        plots.tuning_slices(tried, [0.1, 0.2])
