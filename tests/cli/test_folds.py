"""`fracturelab cross-validate` as people start it: alone, stopped by a kill, and on a Dask cluster over TCP."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from fracturelab import cli

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Twenty patients of two X-rays each; a fractured one has a bright stripe."""
    folder = tmp_path_factory.mktemp("folds")
    lines = ["path,label,patient,study"]
    (folder / "xrays").mkdir()
    for number in range(40):
        rng = np.random.default_rng(number)
        label = number // 2 % 2
        coarse = Image.fromarray(rng.integers(0, 160, (6, 6), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((48, 40), Image.Resampling.BICUBIC)).copy()
        pixels[:, 14:19] = np.maximum(pixels[:, 14:19], 170 * label)
        Image.fromarray(pixels).save(folder / "xrays" / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{label},p{number // 2},s1")
    (folder / "xrays" / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def arguments(home: Path, name: str, *more: str) -> list[str]:
    return [
        *("cross-validate", str(home / "xrays"), "--recipe", "v1"),
        *("--folds", "2", "--holdout", "none", "--size", "32", "--epochs", "2", "--threads", "1"),
        *("--work", str(home / name), "--results", str(home / "results" / name), "--json", *more),
    ]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fracturelab", *words]


def answer(*words: str) -> tuple[dict, str]:
    """What a command printed, as it does in a process of its own, and what it said on the way."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        code = cli.main(words)
    assert code == 0, said.getvalue()
    return json.loads(out.getvalue()), said.getvalue()


def finished(home: Path, name: str) -> dict[str, dict]:
    """What each fit of a run said, to the last digit."""
    answers = {}
    for path in sorted((home / name).glob("fold-*.json")):
        answer = json.loads(path.read_text())["results"]["answer"]
        answer.pop("seconds")
        answers[path.name] = answer
    return answers


def without_times(document: dict) -> dict:
    for fold in document["folds"]:
        fold["fit"].pop("seconds")
    return {key: value for key, value in document.items() if key not in ("seconds", "record")}


@pytest.fixture(scope="module")
def alone(home) -> dict:
    """One fold after another, never stopped."""
    return without_times(answer(*arguments(home, "alone"))[0])


def test_every_fold_is_scored_and_recorded(home, alone):
    assert [fold["name"] for fold in alone["folds"]] == ["fold 1", "fold 2"]
    assert sum(fold["images"]["n"] for fold in alone["folds"]) == 40
    assert sum(fold["studies"]["n"] for fold in alone["folds"]) == 20
    values = [fold["images"]["metrics"]["roc_auc"]["value"] for fold in alone["folds"]]
    assert alone["spread"]["images"]["roc_auc"]["mean"] == pytest.approx(np.mean(values))
    assert (alone["input_size"], alone["groups"], alone["weights"]) == (32, 20, None)
    record = json.loads((home / "results" / "alone" / "cross-validation-v1-xrays.json").read_text())
    assert record["settings"]["options"]["augmentation"]["rotation"] == 10.0
    assert record["results"]["spread"] == alone["spread"]


def wait_for(condition, *, seconds: float = 1500) -> None:  # a busy machine is no defect
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def begun(home: Path, name: str, *, folds: int) -> None:
    """A run that has its first folds behind it: those of the one that was never stopped."""
    missing = shutil.ignore_patterns(*(f"fold-{n}-*" for n in range(folds + 1, 3)))
    shutil.copytree(home / "alone", home / name, ignore=missing)


def test_killed_in_the_last_fold_it_goes_on_there_and_ends_the_same(home, alone, happened):
    begun(home, "killed", folds=1)
    argv = arguments(home, "killed")
    started = subprocess.Popen(command(*argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = home / "killed" / "checkpoints"
    wait_for(lambda: any(checkpoints.glob("*/lock")))
    fits = psutil.Process(started.pid).children(recursive=True)
    assert fits
    started.kill()
    started.wait()
    _, left = psutil.wait_procs(fits, timeout=60)
    assert not left  # the fit ends with the run that waits for it,
    assert any(checkpoints.glob("*/lock"))  # and not because it was done
    before = {path: path.stat().st_mtime_ns for path in (home / "killed").glob("fold-*.json")}
    assert len(before) == 1
    done = subprocess.run(command(*argv), capture_output=True, text=True, check=True)
    assert ": fold 1\n" in done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines() if line.startswith("fold")] == ["fold 2"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert without_times(json.loads(done.stdout)) == alone
    assert finished(home, "killed") == finished(home, "alone")
    happened("kill-folds", "one fold was fitted, not two; all scores equal to the last digit")


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler and two workers, each a process of its own; their address and the workers."""
    file = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "env": dict(os.environ)}

    def start(module: str, *words: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", f"distributed.cli.{module}", *words], **quiet)

    listening = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    processes = [start("dask_scheduler", *listening)]
    try:
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))  # not while it is written
        address = json.loads(file.read_text())["address"]
        assert address.startswith("tcp://127.0.0.1:")
        alike = ("--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
        processes += [start("dask_worker", address, *alike, "--name", f"w{number}") for number in range(2)]
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory) -> Iterator[str]:
    """The address of a cluster of two workers."""
    with cluster(tmp_path_factory.mktemp("cluster")) as (address, _):
        yield address


def test_two_dask_workers_give_the_same_to_the_last_digit(home, alone, dask):
    found, _ = answer(*arguments(home, "dask", "--dask", dask))
    assert without_times(found) == alone
    assert finished(home, "dask") == finished(home, "alone")


@pytest.mark.long
def test_when_a_dask_worker_dies_another_does_its_fold(home, alone, tmp_path):
    with cluster(tmp_path) as (address, workers):
        argv = arguments(home, "dead", "--dask", address)
        started = subprocess.Popen(command(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        busy = [psutil.Process(worker.pid) for worker in workers]
        wait_for(lambda: all(process.children() for process in busy))  # both are in the middle of a fit
        fit = busy[0].children()[0]
        os.kill(workers[0].pid, signal.SIGKILL)
        out, said = started.communicate(timeout=500)
        assert started.returncode == 0, said
        psutil.wait_procs([fit], timeout=60)
        assert not fit.is_running()
    assert without_times(json.loads(out)) == alone
    assert finished(home, "dead") == finished(home, "alone")


def test_an_audit_on_the_cluster_is_the_audit_here(home, dask):
    first, *others = (
        answer("audit", str(home / "xrays"), "--json", *more)[0]
        for more in ([], ["--workers", "1"], ["--workers", "2"], ["--dask", dask])
    )
    assert first["images"] == 40
    assert all(other == first for other in others)


def refused(capsys, *argv: str) -> str:
    assert cli.main([str(word) for word in argv]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("fracturelab")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--folds", "1"], "expected --folds of at least 2"),
        (["--workers", "0"], "expected --workers of at least 1"),
        (["--recipe", "v1", "--weights", "bundled"], "with v2 only"),
        (["--recipe", "v1", "--epochs", "0"], "expected --epochs of at least 1"),
        (["--recipe", "v1", "--holdout", "val"], "expected a published validation part"),
        (["--recipe", "v1", "--folds", "15", "--size", "32"], "would have no"),
    ],
)
def test_what_cannot_be_used_is_one_line(home, tmp_path, capsys, more, words):
    assert words in refused(capsys, "cross-validate", home / "xrays", "--results", tmp_path, *more)


def test_an_address_without_scheduler_is_one_line(home, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fracturelab.system.workers.CONNECT_SECONDS", 1)
    line = refused(capsys, *arguments(home, "nobody", "--dask", "tcp://127.0.0.1:9"))
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in line
