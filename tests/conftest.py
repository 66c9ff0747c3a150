"""What every test shares: no downloads, no windows, and caches and reports away from the user's."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable

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


def pytest_runtest_setup():
    """Networks begin with the same random weights in every run: Keras draws the seeds it is not given from `random`."""
    random.seed(1)


@pytest.fixture
def eager():
    """No graphs: tracing a backbone takes longer than the few steps that a test takes."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


_answers: dict[str, str] = {}


@pytest.fixture
def happened(request) -> Callable[[str, str], None]:
    """Say what happened to a row of the table in `hostile.py`; it counts if the test passes."""
    from tests.hostile import cases as hostile

    def say(key: str, text: str) -> None:
        assert key in hostile.BY_KEY, f"{key} is no row of the table"
        request.node.user_properties.append(("robustness", [key, text]))

    return say


def pytest_runtest_logreport(report):
    """Gather the rows where the whole run is seen: under pytest-xdist they come from the workers with the reports."""
    if report.when == "call" and report.passed:
        _answers.update(answer for name, answer in report.user_properties if name == "robustness")


def pytest_sessionfinish(session):
    """Write `reports/robustness.md` once every row has been answered; a checkout that is read only is left alone."""
    if _answers and not hasattr(session.config, "workerinput"):
        from tests.hostile import robustness

        with contextlib.suppress(OSError):
            robustness.write(_answers)


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    """A working folder outside any checkout, where `reports/` and `models/` may be written."""
    folder = tmp_path / "somebody's folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("FRACTURELAB_REPORTS", "FRACTURELAB_MODELS"):
        monkeypatch.delenv(name, raising=False)
    return folder
