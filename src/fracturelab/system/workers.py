"""Independent jobs on several processes or machines: joblib on this machine, Dask on a cluster.

Jobs must be independent of one another: folds, seeds, files to read. Results do not depend on the workers, because no
job is given the worker that it runs on.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import distributed

Job = TypeVar("Job")
Result = TypeVar("Result")
_KILLED = "a worker process was killed, as happens where memory runs out; use fewer workers"
_GIVEN_UP = "a job was given up because every worker that took it died (out of memory?); give the workers more"
_DEAD_WORKERS = {"TerminatedWorkerError": _KILLED, "BrokenProcessPool": _KILLED, "KilledWorker": _GIVEN_UP}
CONNECT_SECONDS = 20
"""How long a scheduler may take to answer, and its first worker to come."""


@contextlib.contextmanager
def connected(address: str) -> Iterator[distributed.Client]:
    """Connect to a Dask cluster.

    Args:
        address: Of the scheduler, such as `tcp://10.0.0.5:8786`.

    Yields:
        The client, with at least one worker behind it.

    Raises:
        FracturelabError: Dask is not installed, no scheduler answers, or the cluster has no worker.
    """
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise FracturelabError(
            'Dask is not installed. Install it with: pip install -r requirements/dask.txt (or -e ".[dask]")'
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FracturelabError(
            f"no Dask scheduler answers at {address}; expected the address of a running `dask scheduler`, such as "
            "tcp://10.0.0.5:8786"
        ) from error
    try:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise FracturelabError(
                f"the Dask scheduler at {address} has no worker; start some with: dask worker {address}"
            ) from error
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def on_cluster(address: str | None) -> Iterator[None]:
    """Do what joblib is given in this block on a Dask cluster, or on this machine where there is no address.

    Args:
        address: Of the scheduler, or None.

    Raises:
        FracturelabError: The cluster cannot be used, or its workers died.
    """
    import joblib

    if address is None:
        yield
        return
    with connected(address) as client, joblib.parallel_config(backend="dask", client=client), _readable_errors():
        yield


def unordered(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int = 1,
    dask: str | None = None,
    local: Literal["threading", "loky"] = "loky",
) -> Iterator[tuple[int, Result]]:
    """Do independent jobs, and hand over each result as it comes.

    Args:
        function: What to do with a job; importable, because workers import it by name.
        jobs: The jobs; they travel to the workers.
        workers: How many are done at the same time on this machine; 1 does one after another in this process.
        dask: Address of a Dask scheduler; its workers do the jobs then, and `workers` does not count. A job whose
            worker dies is done again by another one.
        local: What a worker on this machine is: "loky" a process, "threading" a thread, for jobs that start a process
            of their own.

    Yields:
        Number of the job and its result, in the order in which they are done.

    Raises:
        FracturelabError: Fewer than one worker, a cluster that cannot be used, or workers that died.
        Exception: Whatever a job raises.
    """
    if workers < 1:
        raise FracturelabError(f"expected at least one worker. Received: {workers}")
    if dask is not None:
        with connected(dask) as client, _readable_errors():
            import distributed

            futures = [client.submit(_numbered, number, function, job, pure=False) for number, job in enumerate(jobs)]
            for future in distributed.as_completed(futures, loop=client.loop):
                yield future.result()
        return
    import joblib

    calls = [joblib.delayed(_numbered)(number, function, job) for number, job in enumerate(jobs)]
    if workers == 1:
        yield from joblib.Parallel(1, "sequential", return_as="generator")(calls)
        return
    parallel = joblib.Parallel(workers, local, return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    with _readable_errors():
        yield from parallel(calls)


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Turn what dead workers and missing packages raise into one line; any other error is raised as it is."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise FracturelabError(
            f"a worker lacks the package {error.name}; install fracturelab and its requirements where the workers run"
        ) from error
    except Exception as error:
        if type(error).__name__ not in _DEAD_WORKERS:
            raise
        raise FracturelabError(_DEAD_WORKERS[type(error).__name__]) from error


def _numbered(number: int, function: Callable[[Any], Any], job: Any) -> tuple[int, Any]:
    return number, function(job)
