"""Run comparisons: two sides in two processes, one repetition of each after the other, and one table at the end."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fracturelab import records
from fracturelab.system.quiet import load_tensorflow

Call = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[1]


def in_own_process(module: str, side: str, folder: Path, count: int) -> dict[str, Any]:
    """Run one side of a comparison in a process of its own: a module that prints what it found as its last line."""
    command = [sys.executable, "-m", module, side, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{side} ended with {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Outcome:
    """What the repetitions of a comparison gave.

    Attributes:
        ours: A number a repetition.
        theirs: The same.
        limit: What the machine could reach at best, in the same unit.
        checks: What must hold for the two sides to have done the same work, and whether it did.
        details: What else is worth knowing.
    """

    ours: list[float]
    theirs: list[float]
    limit: float | None
    checks: dict[str, bool] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """One line of the table.

    Attributes:
        name: Its name in results.json.
        unit: Of its numbers.
        more_is_better: True for rates, False for seconds and megabytes.
        about: What both sides do, in a sentence or two.
        limit_is: What the limit is, in a sentence.
        sizes: "tiny", "default" and "full" to the settings.
        run: From the settings to the outcome.
    """

    name: str
    unit: str
    more_is_better: bool
    about: str
    limit_is: str
    sizes: Mapping[str, Mapping[str, Any]]
    run: Callable[..., Outcome]


@contextmanager
def two_sides() -> Iterator[tuple[Call, Call]]:
    """Two processes of this process's group, one for each side, that live as long as the block.

    A side keeps what it has loaded from one repetition to the next, and nothing it sets (TensorFlow's determinism, say)
    reaches the other one.

    Yields:
        `ours(function, **arguments)` and `theirs(...)`, which wait for the result; functions are found by import.
    """
    spawn = multiprocessing.get_context("spawn")
    pools = (ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin) for _ in range(2))
    with next(pools) as first, next(pools) as second:
        yield (
            lambda function, **arguments: first.submit(function, **arguments).result(),
            lambda function, **arguments: second.submit(function, **arguments).result(),
        )


def _begin() -> None:
    """Make a process ready to be a side."""
    load_tensorflow()
    multiprocessing.util.Finalize(None, _end_workers, exitpriority=100)  # before joblib removes its locks


def _end_workers() -> None:
    """Let joblib's processes go: they wait five minutes for more work, and a side's process for them."""
    if loky := sys.modules.get("joblib.externals.loky"):
        loky.get_reusable_executor().shutdown(wait=True)


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any], *, repetitions: int) -> tuple[list[Any], list[Any]]:
    """One repetition of each side after the other."""
    measured: tuple[list[Any], list[Any]] = ([], [])
    for _ in range(repetitions):
        measured[0].append(ours())
        measured[1].append(theirs())
    return measured


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def entry(comparison: Comparison, size: str, machine: Mapping[str, Any], seconds: float, outcome: Outcome) -> dict:
    """What results.json keeps of a comparison."""
    ours, theirs = statistics.median(outcome.ours), statistics.median(outcome.theirs)
    better, worse = (ours, theirs) if comparison.more_is_better else (theirs, ours)
    limit = outcome.limit
    share = None if limit is None else (ours / limit if comparison.more_is_better else limit / ours)
    return {
        "ours": ours,
        "theirs": theirs,
        "ratio": better / worse,
        "limit": limit,
        "limit_share": share,
        "unit": comparison.unit,
        "about": comparison.about,
        "limit_is": comparison.limit_is,
        "size": size,
        "repetitions": {"ours": outcome.ours, "theirs": outcome.theirs},
        "checks": outcome.checks,
        "details": outcome.details,
        "seconds": round(seconds, 1),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": records.code_version(),
        "machine": machine,
    }


def quiet_environment() -> None:
    """What every process of a run gets: no downloads, no chatter of TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("FRACTURELAB_OFFLINE", "1")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
