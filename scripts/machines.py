"""Run what computes under settings that change the arithmetic, the timing or the order of files (`make test-machines`).

oneDNN and TensorFlow choose other kernels on other processors. The settings make this machine choose the kernels of
older ones. Two busy processes and a single core change how threads are scheduled.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fracturelab.cli import options
from fracturelab.cli.output import say

ROOT = Path(__file__).resolve().parents[1]
COMPUTES = (
    "tests/test_pipeline.py",
    "tests/training",
    "tests/experiments",
    "tests/models",
    "tests/prediction",
    "tests/explanations",
    "tests/hostile/test_stops.py",
)
READS = ("tests/datasets", "tests/images", "tests/audit", "tests/test_splits.py")


@dataclass(frozen=True)
class Setting:
    """One way to run tests: environment variables, a command in front, busy processes beside them, and which tests."""

    key: str
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    busy: int = 0
    tests: tuple[str, ...] = COMPUTES


SETTINGS = (
    Setting("machine-default"),
    Setting("machine-sse41", {"ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Setting("machine-avx2", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    Setting("machine-eigen", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    Setting("machine-core", prefix=("taskset", "-c", "0")),
    Setting("machine-busy", busy=2),
    Setting("machine-reversed", {"FRACTURELAB_TEST_REVERSED": "1"}, tests=READS),
)


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    machines = options.add_command(commands, "machines", run_machines)
    machines.add_argument("--only", choices=[setting.key for setting in SETTINGS], help="one setting (default all)")
    machines.add_argument("tests", nargs="*", metavar="TESTS", help="what pytest runs instead of each setting's tests")


def run_machines(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Run the tests that compute as if on other machines, and write reports/robustness.md.

    Every setting is run, and what happened is added to the report where the usual tests ran.
    """
    from tests.hostile import robustness

    outcomes = {}
    for setting in SETTINGS:
        if arguments.only in (None, setting.key):
            outcomes[setting.key] = run_setting(setting, arguments.tests or setting.tests)
            say(f"{setting.key}: {outcomes[setting.key]['text']} in {outcomes[setting.key]['seconds']:.0f} s")
    failed = [key for key, outcome in outcomes.items() if outcome["code"]]
    if not arguments.tests and not failed:
        robustness.write({key: outcome["text"] for key, outcome in outcomes.items()})
    text = f"failed: {', '.join(failed)}" if failed else "every setting passed"
    return {"outcomes": outcomes}, text, 1 if failed else 0


def run_setting(setting: Setting, tests: Sequence[str]) -> dict[str, Any]:
    """Run pytest under one setting; its exit code, its last line without the time, and the seconds it took."""
    workers = ["-n", "1" if setting.prefix else "2", "--dist", "loadfile"]
    command = [*setting.prefix, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, *tests]
    started = time.perf_counter()
    with busy_processes(setting.busy):
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **setting.environment}, capture_output=True, text=True
        )
    last = re.sub(r" in [\d.]+s.*", "", (done.stdout.strip().splitlines() or ["no output"])[-1].strip("= "))
    if done.returncode:
        say(done.stdout[-6000:])
    return {"code": done.returncode, "text": last, "seconds": time.perf_counter() - started}


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep some processes busy while the block lasts."""
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in running:
        process.start()
    try:
        yield
    finally:
        for process in running:
            process.terminate()
            process.join()


def _spin() -> None:
    while True:
        sum(range(100_000))
