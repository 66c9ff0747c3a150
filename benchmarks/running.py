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
    """Run one side in a process of its own: a module that prints its result as JSON in its last line."""
    command = [sys.executable, "-m", module, side, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{side} ended with {done.returncode}: {done.stderr[-800:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass(frozen=True)
class Outcome:
    """The result of the repetitions of a comparison.

    Attributes:
        ours: A number a repetition.
        theirs: A number a repetition of the usual recipe.
        limit: The best value that the machine allows, in the same unit.
        checks: Conditions of a fair comparison, and whether they hold.
        details: Further results.
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
        unit: Unit of its numbers.
        more_is_better: True for rates, False for seconds and megabytes.
        about: One or two sentences on what both sides do.
        limit_is: A sentence on the limit.
        sizes: "tiny", "default" and "full" to the settings.
        run: Function from the settings to the outcome.
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
    """Start two processes, one for each side, that live as long as the block.

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
    """Prepare the process of a side."""
    load_tensorflow()
    multiprocessing.util.Finalize(None, _end_workers, exitpriority=100)  # before joblib removes its locks


def _end_workers() -> None:
    """End joblib's processes, which otherwise wait five minutes for more work."""
    if loky := sys.modules.get("joblib.externals.loky"):
        loky.get_reusable_executor().shutdown(wait=True)


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any], *, repetitions: int) -> tuple[list[Any], list[Any]]:
    """Alternate the repetitions of both sides."""
    measured: tuple[list[Any], list[Any]] = ([], [])
    for _ in range(repetitions):
        measured[0].append(ours())
        measured[1].append(theirs())
    return measured


def print_step(what: str) -> None:
    """Print what a comparison does now."""
    print(f"  {what}", flush=True)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def entry(comparison: Comparison, size: str, machine: Mapping[str, Any], seconds: float, outcome: Outcome) -> dict:
    """The entry of a comparison in results.json."""
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
    """Set the environment of every process of a run: no downloads, no log of TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("FRACTURELAB_OFFLINE", "1")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
