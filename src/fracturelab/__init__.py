"""fracturelab: finding fractures in bone X-rays, and finding out whether the score is true.

For teaching and research. Not for clinical use.
"""

import os as _os

# TensorFlow turns oneDNN's kernels on or off by the processor. Set here, and inherited by every process that is started,
# it is the same in a notebook, on the command line and in a fit of a fold: one seed then gives one result.
_os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
