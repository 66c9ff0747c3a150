"""A saved model and any image: probabilities, likeness, words, downloads and exports.

TensorFlow is imported only where a model without an export is opened.
"""

# ruff: noqa: F401  # names for `from fracturelab.prediction import ...`
from fracturelab.prediction.predictor import Predictor, load_predictor
