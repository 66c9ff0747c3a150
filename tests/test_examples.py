"""The examples in docstrings of the functions that people call first."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = (
    "datasets.layouts",
    "evaluation.ensembles",
    "evaluation.intervals",
    "evaluation.metrics",
    "evaluation.paired",
    "evaluation.studies",
    "evaluation.thresholds",
    "images.letterbox",
    "models.cnn",
    "phantoms.render",
    "records.names",
    "records.comparison",
    "splits",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(f"fracturelab.{name}"), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0
