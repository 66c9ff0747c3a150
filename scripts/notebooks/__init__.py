"""Run the numbered notebooks from a clean kernel: in place on the embedded default, as copies over anything else."""

import sys

# `nbformat` imports `jsonschema`, and that this package where it is installed: it builds a grammar of web addresses,
# which no notebook is checked for, for more than a second in every process.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

from scripts.notebooks.cells import tidy, with_parameters  # noqa: E402
from scripts.notebooks.running import CORE, Failure, find_notebooks, run_notebook  # noqa: E402

__all__ = ["CORE", "Failure", "find_notebooks", "run_notebook", "tidy", "with_parameters"]
