"""What every test shares: no downloads, no windows, and caches and reports away from the user's."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("FRACTURELAB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """One cache folder for all workers of this run; `default_data` and decoded images land there."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRACTURELAB_CACHE", str(shared / "fracturelab-cache"))
        yield


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    """A working folder outside any checkout, where `reports/` and `models/` may be written."""
    folder = tmp_path / "somebody's folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("FRACTURELAB_REPORTS", "FRACTURELAB_MODELS"):
        monkeypatch.delenv(name, raising=False)
    return folder
