"""A saved model and any image: probabilities, likeness, words, downloads and exports.

TensorFlow is imported only where a model without an export is opened.
"""

from fracturelab.prediction.predictor import Predictor, load_predictor

__all__ = ["Predictor", "load_predictor"]
