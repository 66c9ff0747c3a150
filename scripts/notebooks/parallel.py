"""Run several notebooks at once, each in a process of its own and after those whose results it reads."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fracturelab.errors import FracturelabError
from scripts.notebooks.running import Failure, run_notebook

AFTER = {"03": ("02",), "04": ("02", "03")}
"""Notebooks (by number) that read what others save, and those others."""

_POLL = 0.5  # seconds between two looks at what cells have begun
_cells: Any = None  # in a worker: the queue that takes (notebook, cell, cells)


@dataclass(frozen=True)
class Task:
    """One notebook to be run; see `run_notebook` for the other fields.

    Attributes:
        number: Its place in the run, from 1.
        path: The notebook.
    """

    number: int
    path: Path
    out: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None


def run_together(
    tasks: Sequence[Task], *, jobs: int, on_cell: Callable[[Task, int, int], None] | None = None
) -> Iterator[tuple[Task, Failure | None, float]]:
    """Run notebooks, at most `jobs` at once; after a failure those that run are finished and no other begins.

    Args:
        tasks: The notebooks, in the order in which they begin where nothing else decides.
        jobs: Processes at once.
        on_cell: Called with a notebook, the number of its cell that starts, from 1, and the number of its cells.

    Yields:
        Each notebook as it ends, with None or what it failed with, and the seconds that it took.

    Raises:
        FracturelabError: See `run_notebook`; or a process was ended from outside.
    """
    context = multiprocessing.get_context("spawn")  # a forked process would share sockets of the kernels' clients
    cells = context.Queue()
    waiting = list(tasks)
    pending: dict[Future, Task] = {}
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(cells,)) as pool:
        while waiting or pending:
            unfinished = {_number(task) for task in [*waiting, *pending.values()]}
            ready = [task for task in waiting if unfinished.isdisjoint(AFTER.get(_number(task), ()))]
            for task in ready[: jobs - len(pending)]:
                waiting.remove(task)
                pending[pool.submit(_run, task)] = task
            ended, _ = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED)
            while not cells.empty():
                index, cell, total = cells.get()
                if on_cell is not None:
                    on_cell(tasks[index], cell, total)
            for future in ended:
                task = pending.pop(future)
                try:
                    failure, seconds = future.result()
                except BrokenProcessPool as error:
                    raise FracturelabError(
                        f"{task.path.name}: the process that ran it was ended from outside (out of memory?)"
                    ) from error
                if failure is not None:
                    waiting.clear()
                yield task, failure, seconds


def _number(task: Task) -> str:
    return task.path.name[:2]


def _begin(cells: Any) -> None:
    """In a new worker: Ctrl-C ends it at once, and its kernel sees that and ends as well."""
    global _cells
    _cells = cells
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(task: Task) -> tuple[Failure | None, float]:
    began = time.perf_counter()
    failure = run_notebook(
        task.path,
        task.out,
        parameters=task.parameters,
        environment=task.environment,
        timeout=task.timeout,
        on_cell=lambda cell, total: _cells.put((task.number - 1, cell, total)),
    )
    return failure, time.perf_counter() - began
