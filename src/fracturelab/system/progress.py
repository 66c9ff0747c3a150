"""The progress bar: a widget where a notebook can show one, else a line of text."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # without ipywidgets the line of text is as good
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
