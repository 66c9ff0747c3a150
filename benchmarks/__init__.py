"""Comparisons side by side: what fracturelab does, and what one would write with Keras instead. `make bench` runs them.

`theirs.py` is the usual recipe; `training.py`, `reading.py`, `inference.py`, `auditing.py` and `memory.py` hold the
comparisons, and `running.py` alternates their two sides.
"""
