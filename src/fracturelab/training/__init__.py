"""Recipes that fit models: prepare the data, train v1 from scratch, train v2 from pretrained features.

TensorFlow is imported when something is trained, not when this package is.
"""

# ruff: noqa: F401  # names for `from fracturelab import training`
from fracturelab.training.epochs import Schedule, set_seed
from fracturelab.training.external import ExternalSet, prepare_with_external, score, unseen_of_same_source
from fracturelab.training.features import FeatureStore
from fracturelab.training.fitting import Fit, choose
from fracturelab.training.maps import train_maps
from fracturelab.training.prepare import Prepared, at_size, prepare, prepare_arrays
from fracturelab.training.v1 import FROM_SCRATCH, train_v1
from fracturelab.training.v2 import FINE_TUNING, TransferSettings, fine_tune, fit_probe, train_v2
