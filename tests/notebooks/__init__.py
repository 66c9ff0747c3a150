"""The tests of the notebooks and of what runs them."""

import scripts.notebooks  # noqa: F401  before `nbformat`, which takes a second longer otherwise
