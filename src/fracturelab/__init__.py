"""fracturelab: finding fractures in bone X-rays, and finding out whether the score is true.

For teaching and research. Not for clinical use.

From a folder of X-rays to a saved model with its scores:

    >>> import fracturelab as fl
    >>> prepared = fl.prepare(fl.read_dataset("xrays"), size=64)
    >>> fit = fl.train_v1(prepared, epochs=2)
    >>> path = fit.save("mine.keras")
    >>> fit.evaluate("test").table.loc["ROC AUC"].index.tolist()
    ['value', 'low', 'high']
    >>> fl.load_predictor(path).threshold == fit.threshold
    True

`read_dataset`, `audit_dataset`, `prepare`, `build_cnn`, `build_transfer_model`, `train_v1`, `train_v2`, `evaluate`,
`load_predictor`, `explain`, `render_phantom` and the module `plots` are here, each loaded when it is first used. The
rooms behind them are modules: `fracturelab.datasets`, `fracturelab.audit`, `fracturelab.evaluation` and so on.
"""

import os
from importlib import import_module
from typing import Any

# TensorFlow turns oneDNN's kernels on or off by the processor. Set here, and inherited by every process that is
# started, it is the same in a notebook, on the command line and in a fit of a fold: one seed then gives one result.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.2.0"

_FRONT_DOOR = {
    "audit_dataset": "audit:audit_dataset",
    "build_cnn": "models.cnn:build_cnn",
    "build_transfer_model": "models.transfer:build_transfer_model",
    "evaluate": "evaluation:evaluate",
    "explain": "explanations.explain:explain",
    "load_predictor": "prediction:load_predictor",
    "plots": "plots",
    "prepare": "training:prepare",
    "read_dataset": "datasets:read_dataset",
    "render_phantom": "phantoms:render",
    "train_v1": "training:train_v1",
    "train_v2": "training:train_v2",
}
"""Name to the module of this package and the function in it."""


def __getattr__(name: str) -> Any:
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, function = _FRONT_DOOR[name].partition(":")
    loaded = import_module(f"{__name__}.{module}")
    return getattr(loaded, function) if function else loaded


def __dir__() -> list[str]:
    return [*_FRONT_DOOR, "__version__"]
