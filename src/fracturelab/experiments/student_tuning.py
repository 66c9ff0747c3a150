"""Hyperparameters of a student, searched with Optuna by one process or by several on one study.

A study is a folder: the lessons (what students learn from), `job.json` (what is searched) and `study.db` (what was
found). Whoever sees the folder can work on it, at the same time as others and after a stop:

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab.errors import FracturelabError
from fracturelab.experiments.distillation import ARCHITECTURES, fit_student
from fracturelab.experiments.teacher_views import Lessons, load_lessons, save_lessons
from fracturelab.experiments.tuning import finished, open_study, tune
from fracturelab.system.files import write_json

if TYPE_CHECKING:
    import optuna

STORAGE = "study.db"
JOB = "job.json"
SAID = "workers.log"


def suggest(trial: optuna.Trial, architecture: str) -> dict[str, Any]:
    """Draw a student's settings.

    Args:
        trial: The trial.
        architecture: One of `distillation.ARCHITECTURES`.

    Returns:
        Keyword arguments of `fit_student`.
    """
    settings: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 2e-4, 5e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "teacher_weight": trial.suggest_float("teacher_weight", 0.0, 0.9),
        "temperature": trial.suggest_float("temperature", 1.0, 6.0),
    }
    return {**settings, "options": options_of(architecture, width=trial.suggest_categorical("width", [8, 16, 24]))}


def options_of(architecture: str, *, width: int) -> dict[str, Any]:
    """The builder's options for a width, so that 16 gives about the students that are not tuned."""
    if architecture == "cnn":
        return {"filters": [width, 2 * width, 3 * width, 4 * width]}
    return {"width": 4 * width}


def settings_of(params: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """Keyword arguments of `fit_student` from a trial's hyperparameters."""
    rest = {name: value for name, value in params.items() if name != "width"}
    return {**rest, "options": options_of(architecture, width=int(params["width"]))}


def objective_of(
    lessons: Lessons, *, architecture: str, epochs: int, batch_size: int, seed: int
) -> Callable[[optuna.Trial], float]:
    """What a trial is worth: the lowest validation loss within a few epochs.

    Args:
        lessons: What students learn from.
        architecture: One of `distillation.ARCHITECTURES`.
        epochs: Of each trial; a trial that is behind the others ends sooner.
        batch_size: Images a batch.
        seed: Of every student, the same for all trials.

    Returns:
        From a trial to its value.
    """

    def objective(trial: optuna.Trial) -> float:
        import optuna

        def each_epoch(epoch: int, loss: float, auc: float | None) -> None:
            trial.report(loss, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        settings = suggest(trial, architecture)
        try:
            _, rows = fit_student(
                lessons,
                architecture=architecture,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                each_epoch=each_epoch,
                **settings,
            )
        except FracturelabError as error:  # a loss that is not finite: settings that cannot learn
            raise optuna.TrialPruned(str(error)) from error
        return min(row["val_loss"] for row in rows)

    return objective


def begin(
    parent: str | Path,
    lessons: Lessons,
    *,
    architecture: str = "cnn",
    epochs: int = 8,
    batch_size: int = 32,
    seed: int = 0,
    anew: int | None = None,
) -> Path:
    """Make the folder of a study, or find it again as it is: the same lessons and settings have the same folder.

    Args:
        parent: Where studies are kept.
        lessons: What students learn from.
        architecture: One of `distillation.ARCHITECTURES`.
        epochs: Of each trial.
        batch_size: Images a batch.
        seed: Of the draws and of every student.
        anew: A study that has so many finished trials already is removed and begun again; None keeps any.

    Returns:
        The folder.

    Raises:
        FracturelabError: There is no such architecture, or the folder cannot be written.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise FracturelabError(f"expected architecture to be one of {known}. Received: {architecture!r}")
    digest = hashlib.sha256()
    for array in (lessons.views, lessons.logits, lessons.labels, lessons.val_images, lessons.val_labels):
        digest.update(repr((array.shape, str(array.dtype))).encode() + np.ascontiguousarray(array).tobytes())
    job = {
        "architecture": architecture,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "lessons": digest.hexdigest(),
    }
    key = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()
    folder = Path(parent) / f"{architecture}-{key[:10]}"
    if (folder / JOB).is_file():
        if anew is None or finished(open_study(folder / STORAGE)) < anew:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    save_lessons(lessons, folder)
    write_json(folder / JOB, job)  # last: where it is, the folder is whole
    return folder


def search(
    folder: str | Path, *, trials: int, workers: int = 1, said: Callable[[str], None] | None = None
) -> optuna.Study:
    """Work on the study of a folder until it has so many finished trials.

    Args:
        folder: From `begin`.
        trials: Finished or pruned trials that the study is to have in the end.
        workers: Processes; this one and others that it starts. With several, what later trials draw depends on which
            finish first.
        said: Told a line for each trial of this process.

    Returns:
        The study.

    Raises:
        FracturelabError: Optuna is not installed, the folder holds no study, or a process failed.
    """
    folder = Path(folder)
    job = _job(folder)
    open_study(folder / STORAGE)  # what is wrong with it is said before others are started
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(_other(folder, trials)) for _ in range(workers - 1)]
        objective = objective_of(
            load_lessons(folder), **{name: job[name] for name in ("architecture", "epochs", "batch_size", "seed")}
        )
        study = tune(objective, storage=folder / STORAGE, trials=trials, seed=job["seed"], said=said)
        for other in others:
            if other.wait() != 0:
                raise FracturelabError(f"{folder}: a process of the study failed; its words are in {SAID}")
    return study


@contextlib.contextmanager
def _other(folder: Path, trials: int) -> Iterator[subprocess.Popen]:
    """Another process at work on the study; it is ended if this one cannot wait for it."""
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "fracturelab.experiments.student_tuning", str(folder), "--trials", str(trials)]
    with (
        open(folder / SAID, "ab") as said,
        subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": path}) as child,
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
    parser.add_argument("--trials", type=int, required=True, help="finished trials that it is to have in the end")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    arguments = parser.parse_args()
    from fracturelab.system.quiet import load_tensorflow

    try:
        load_tensorflow()
        study = search(
            arguments.folder,
            trials=arguments.trials,
            workers=arguments.workers,
            said=lambda line: print(line, flush=True),
        )
        print(f"best: {study.best_value:.4f} with {json.dumps(study.best_params)}")
    except (FracturelabError, ValueError) as error:  # ValueError: no trial has finished
        print(f"fracturelab: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
