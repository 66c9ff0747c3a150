"""The door to more workers: the same results in whatever order, and words for what goes wrong."""

from __future__ import annotations

import os
import signal

import joblib
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.system import workers


def square(number: int) -> int:
    return number * number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    raise FracturelabError(f"job {number} cannot be done")


@pytest.mark.parametrize(("count", "local"), [(1, "loky"), (2, "loky"), (3, "threading")])
def test_every_job_is_done_once_wherever(count, local):
    found = list(workers.unordered(square, range(7), workers=count, local=local))
    assert sorted(found) == [(number, number * number) for number in range(7)]
    if count == 1:
        assert [number for number, _ in found] == list(range(7))  # one after another


def test_one_worker_starts_a_job_when_the_one_before_was_taken():
    done = []
    for number, _ in workers.unordered(lambda job: done.append(job), range(4), workers=1):
        assert done == list(range(number + 1))


def test_what_a_job_says_arrives_and_a_killed_worker_is_one_line():
    with pytest.raises(FracturelabError, match="job 0 cannot be done"):
        list(workers.unordered(fail, range(2), workers=1))
    with pytest.raises(FracturelabError, match="cannot be done"):
        list(workers.unordered(fail, range(2), workers=2))
    with pytest.raises(FracturelabError, match="a worker process was killed"):
        list(workers.unordered(die, range(2), workers=2))
    with pytest.raises(FracturelabError, match="at least one worker"):
        list(workers.unordered(square, range(2), workers=0))


def test_a_cluster_does_the_same_and_what_comes_after_it_is_done_here():
    distributed = pytest.importorskip("distributed")
    for cores in (1, 2):
        with distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=cores,
            processes=False,
            dashboard_address=None,
            host="127.0.0.1",
            protocol="tcp",
        ) as cluster:
            found = workers.unordered(square, range(5), dask=cluster.scheduler_address)
            assert next(found)[0] in range(5)
            assert joblib.effective_n_jobs(None) == 1  # between two results nothing of ours goes to the cluster
            assert len(list(found)) == 4
            with workers.on_cluster(cluster.scheduler_address):
                assert joblib.effective_n_jobs(-1) == cores
    with workers.on_cluster(None):
        assert joblib.effective_n_jobs(None) == 1


def test_a_cluster_without_workers_is_one_line(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=None, host="127.0.0.1", protocol="tcp"
        ) as cluster,
        pytest.raises(FracturelabError, match="has no worker"),
    ):
        list(workers.unordered(square, range(2), dask=cluster.scheduler_address))
