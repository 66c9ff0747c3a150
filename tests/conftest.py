"""What every test shares: no downloads, no windows, and caches and reports away from the user's."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("FRACTURELAB_OFFLINE", "1")


class _Reversed:
    """What `os.scandir` gives, in reverse order of the names."""

    def __init__(self, entries):
        with entries:
            self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.entries)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        self.entries = iter(())


def pytest_configure():
    """With `FRACTURELAB_TEST_REVERSED=1`, folders are listed in reverse order, as another file system may list them."""
    if os.environ.get("FRACTURELAB_TEST_REVERSED") == "1":
        listed, scanned = os.listdir, os.scandir
        os.listdir = lambda path=".": sorted(listed(path), reverse=True)
        os.scandir = lambda path=".": _Reversed(scanned(path))


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


@pytest.fixture(scope="module")
def tiny() -> Iterator[None]:
    """Let the backbone of `tests.tiny_backbone` be known by its name."""
    from fracturelab.models.efficientnet_lite import BUILDERS
    from tests.tiny_backbone import TINY, build_tiny

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUILDERS, TINY, build_tiny)
        yield


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


def _skips(session_or_reporter) -> dict[str, int]:
    """Reason of each skip, without its place, and how many tests it left out."""
    counts: dict[str, int] = {}
    for report in session_or_reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _is_allowed(reason: str) -> bool:
    lines = (Path(__file__).parent / "allowed_skips.txt").read_text(encoding="utf-8").splitlines()
    return any(reason.startswith(line) for line in lines if line and not line.startswith("#"))


def pytest_terminal_summary(terminalreporter):
    """List at the end what was not tested. The reason of a skip names the command that brings what is missing."""
    skips = _skips(terminalreporter)
    if skips:
        terminalreporter.section("not tested")
        for reason, count in sorted(skips.items()):
            terminalreporter.write_line(f"{count} {'test' if count == 1 else 'tests'}: {reason}")


def pytest_sessionfinish(session):
    """Write `reports/robustness.md` once every row has been answered; a read-only checkout is left alone.

    With `FRACTURELAB_STRICT=1` a skip that `allowed_skips.txt` does not list fails the run.
    """
    if hasattr(session.config, "workerinput"):
        return
    if _answers:
        from tests.hostile import robustness

        with contextlib.suppress(OSError):
            robustness.write(_answers)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("FRACTURELAB_STRICT") == "1" and reporter is not None:
        unexpected = [reason for reason in _skips(reporter) if not _is_allowed(reason)]
        if unexpected and session.exitstatus == 0:
            session.exitstatus = 1
            reporter.write_line(
                "\nskips that tests/allowed_skips.txt does not list: " + "; ".join(unexpected), red=True
            )


@pytest.fixture
def in_empty_folder(tmp_path, monkeypatch):
    """A working folder outside any checkout, where `reports/` and `models/` may be written."""
    folder = tmp_path / "somebody's folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("FRACTURELAB_REPORTS", "FRACTURELAB_MODELS"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of 1 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
