"""Numbers in, matplotlib Axes out (a figure for whole pages); nothing here knows a model.

Every function takes `ax=None` where one panel is enough, and looks the same: see `fracturelab.plots.style`.
"""

# ruff: noqa: F401  # names for `from fracturelab import plots`
from fracturelab.plots.comparison import intervals, score_forest, score_forests
from fracturelab.plots.curves import calibration, hiding_curves, precision_recall, roc
from fracturelab.plots.data import class_balance, shortcuts, size_scatter
from fracturelab.plots.fractures import fracture_page
from fracturelab.plots.images import (
    duplicate_pairs,
    heat_overlay,
    heat_page,
    montage,
    overlay_page,
    prediction_montage,
    probability_strip,
)
from fracturelab.plots.matrices import confusion_matrices, confusion_matrix
from fracturelab.plots.scores import importances, score_against_cost, score_over_parts
from fracturelab.plots.style import FRACTURED, MODEL_COLOURS, NORMAL, SHIPPED, V1, V2, WIDTH, save_figure, style
from fracturelab.plots.subgroups import subgroup_intervals
from fracturelab.plots.thresholds import threshold_choice
from fracturelab.plots.training import learning_curve, training_curves
from fracturelab.plots.tuning import tuning_history, tuning_slices
