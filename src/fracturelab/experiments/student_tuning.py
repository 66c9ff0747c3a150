"""Hyperparameters of a student, searched with Optuna by one process or by several on one study.

A study is a folder with the transfer set, `job.json` (the settings of the search) and `study.db` (the trials). Every
process that can read the folder can work on it, at the same time as others and after a stop:

    python -m fracturelab.experiments.student_tuning FOLDER --trials 60
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab.errors import FracturelabError
from fracturelab.experiments.distillation import (
    ARCHITECTURES,
    STUDENT,
    TransferSet,
    fit_student,
    load_transfer_set,
    save_transfer_set,
)
from fracturelab.experiments.tuning import finished, open_study, tune
from fracturelab.system.files import write_json

if TYPE_CHECKING:
    import optuna

STORAGE = "study.db"
JOB = "job.json"
LOG = "workers.log"


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Draw a student's hyperparameters for `settings_of`."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 2e-4, 5e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "teacher_weight": trial.suggest_float("teacher_weight", 0.0, 0.9),
        "temperature": trial.suggest_float("temperature", 1.0, 6.0),
        "width": trial.suggest_categorical("width", [8, 16, 24]),
    }


def settings_of(params: Mapping[str, Any], architecture: str, **schedule: Any) -> dict[str, Any]:
    """Turn a trial's hyperparameters into keyword arguments of `fit_student`.

    Args:
        params: Hyperparameters; a width of 16 gives about the student that is not tuned.
        architecture: One of `distillation.ARCHITECTURES`.
        schedule: Further fields of its `Schedule`, such as `epochs`.
    """
    width = int(params["width"])
    rates = {name: params[name] for name in ("learning_rate", "weight_decay", "dropout")}
    return {
        "teacher_weight": params["teacher_weight"],
        "temperature": params["temperature"],
        "schedule": replace(STUDENT, **rates, **schedule),
        "options": {"filters": [width * n for n in (1, 2, 3, 4)]} if architecture == "cnn" else {"width": 4 * width},
    }


def objective_of(
    transfer_set: TransferSet, *, architecture: str, epochs: int, batch_size: int, seed: int
) -> Callable[[optuna.Trial], float]:
    """The value of a trial: the lowest validation loss within a few epochs.

    Args:
        transfer_set: Images and teacher's logits.
        architecture: One of `distillation.ARCHITECTURES`.
        epochs: Epochs of each trial; the pruner may end it before.
        batch_size: Images in a batch.
        seed: Seed of every student, the same for all trials.

    Returns:
        A function from a trial to its value.
    """

    def objective(trial: optuna.Trial) -> float:
        import optuna

        def each_epoch(epoch: int, loss: float, auc: float | None) -> None:
            trial.report(loss, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        settings = settings_of(suggest(trial), architecture, epochs=epochs, batch_size=batch_size)
        try:
            _, rows = fit_student(transfer_set, architecture=architecture, seed=seed, each_epoch=each_epoch, **settings)
        except FracturelabError as error:  # a loss that is not finite: settings that cannot learn
            raise optuna.TrialPruned(str(error)) from error
        return min(row["val_loss"] for row in rows)

    return objective


def begin(
    parent: str | Path,
    transfer_set: TransferSet,
    *,
    architecture: str = "cnn",
    epochs: int = 8,
    batch_size: int = 32,
    seed: int = 0,
    restart_after: int | None = None,
) -> Path:
    """Make the folder of a study, or return it as it is: the same transfer set and settings have the same folder.

    Args:
        parent: Folder of the studies.
        transfer_set: Images and teacher's logits.
        architecture: One of `distillation.ARCHITECTURES`.
        epochs: Epochs of each trial.
        batch_size: Images in a batch.
        seed: Seed of the draws and of every student.
        restart_after: An existing study with so many finished trials is removed and begun again; None keeps it.

    Returns:
        The folder.

    Raises:
        FracturelabError: There is no such architecture, or the folder cannot be written.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise FracturelabError(f"expected architecture to be one of {known}. Received: {architecture!r}")
    digest = hashlib.sha256()
    data = transfer_set
    for array in (data.views, data.logits, data.labels, data.val_images, data.val_labels):
        digest.update(repr((array.shape, str(array.dtype))).encode() + np.ascontiguousarray(array).tobytes())
    job = {"architecture": architecture, "epochs": epochs, "batch_size": batch_size, "seed": seed}
    key = json.dumps({**job, "transfer_set": digest.hexdigest()}, sort_keys=True)
    folder = Path(parent) / f"{architecture}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
    if (folder / JOB).is_file():
        if restart_after is None or finished(open_study(folder / STORAGE)) < restart_after:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    save_transfer_set(transfer_set, folder)
    write_json(folder / JOB, job)  # last, as a sign that the folder is complete
    return folder


def search(
    folder: str | Path, *, trials: int, workers: int = 1, report: Callable[[str], None] | None = None
) -> optuna.Study:
    """Work on the study of a folder until it has a number of finished trials.

    Args:
        folder: From `begin`.
        trials: Finished or pruned trials that the study will have.
        workers: Processes; this one starts the others. With several, the draws of later trials depend on which trials
            finish first.
        report: Called with a line for each trial of this process.

    Returns:
        The study.

    Raises:
        FracturelabError: Optuna is not installed, the folder holds no study, or a process failed.
    """
    folder = Path(folder)
    job = _job(folder)
    open_study(folder / STORAGE)  # an unusable study is reported before others are started
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(_other(folder, trials)) for _ in range(workers - 1)]
        objective = objective_of(load_transfer_set(folder), **job)
        study = tune(objective, storage=folder / STORAGE, trials=trials, seed=job["seed"], report=report)
        for other in others:
            if other.wait() != 0:
                raise FracturelabError(f"{folder}: a process of the study failed; its output is in {LOG}")
    return study


@contextlib.contextmanager
def _other(folder: Path, trials: int) -> Iterator[subprocess.Popen]:
    """Another process that works on the study; it is ended if this one cannot wait for it."""
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "fracturelab.experiments.student_tuning", str(folder), "--trials", str(trials)]
    with (
        open(folder / LOG, "ab") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path}) as child,
    ):
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def _job(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / JOB).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FracturelabError(f"{folder}: holds no study; a notebook or `begin` makes one") from error


def main() -> int:
    """Work on a study from the command line.

    Returns:
        0, or 2 when something given cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m fracturelab.experiments.student_tuning", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument("--trials", type=int, required=True, help="finished trials that it will have")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    arguments = parser.parse_args()
    from fracturelab.system.quiet import load_tensorflow

    try:
        load_tensorflow()
        limits = {"trials": arguments.trials, "workers": arguments.workers}
        study = search(arguments.folder, **limits, report=lambda line: print(line, flush=True))
        print(f"best: {study.best_value:.4f} with {json.dumps(study.best_params)}")
    except (FracturelabError, ValueError) as error:  # ValueError: no trial has finished
        print(f"fracturelab: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
