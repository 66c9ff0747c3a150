"""Run the numbered notebooks from a clean kernel: in place on the embedded default, as copies over anything else."""

from scripts.notebooks.cells import tidy, with_parameters
from scripts.notebooks.running import CORE, Failure, find_notebooks, run_notebook

__all__ = ["CORE", "Failure", "find_notebooks", "run_notebook", "tidy", "with_parameters"]
