"""Recipes that fit models: prepare the data, train v1 from scratch, train v2 from pretrained features.

TensorFlow is imported when something is trained, not when this package is.
"""

from fracturelab.training.external import Outside, inside_and_outside, same_source_unseen, score
from fracturelab.training.fitting import Fit, set_seed
from fracturelab.training.prepare import Prepared, at_size, prepare, prepare_arrays
from fracturelab.training.v1 import train_v1
from fracturelab.training.v2 import train_v2

__all__ = [
    "Fit",
    "Outside",
    "Prepared",
    "at_size",
    "inside_and_outside",
    "prepare",
    "prepare_arrays",
    "same_source_unseen",
    "score",
    "set_seed",
    "train_v1",
    "train_v2",
]
