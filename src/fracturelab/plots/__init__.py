"""Pictures of numbers: a function takes numbers and returns matplotlib Axes, or a figure for a whole page.

A function of one panel takes `ax=None`. All have the look of `fracturelab.plots.style`.
"""

# ruff: noqa: F401  # names for `from fracturelab import plots`
from fracturelab.plots.comparison import intervals, score_forest, score_forests
from fracturelab.plots.curves import calibration, precision_recall, roc
from fracturelab.plots.images import duplicate_pairs, heat_overlay, heat_page, montage, overlay_page, prediction_montage
from fracturelab.plots.matrices import confusion_matrices, confusion_matrix
from fracturelab.plots.scores import score_against_cost
from fracturelab.plots.style import FRACTURED, MODEL_COLOURS, NORMAL, SHIPPED, V1, V2, WIDTH, save_figure, style
from fracturelab.plots.training import learning_curve, training_curves
from fracturelab.plots.tuning import tuning_history, tuning_slices
