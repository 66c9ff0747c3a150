"""A search over hyperparameters with Optuna that several processes share and that can be stopped at any time.

The study is an SQLite file. A finished trial is a committed transaction, which neither SIGKILL nor a power cut removes.
Every process that works on a study holds a lock that ends with the process. So a trial of a dead process is detected,
marked as failed, and its settings are tried again. Trials are drawn by one process at a time, from a random state that
follows from the study's seed and the trial's number. So no two processes draw the same, and a restarted process does
not repeat its first draws.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import filelock
    import optuna
    import pandas as pd

HOW_TO_GET_IT = "Optuna is not installed. Get it with: pip install -r requirements/tune.txt"
STARTUP = 6
"""Trials drawn at random before the sampler (TPE, Bergstra et al. 2011) uses their results."""
_WORKER = "worker"
_AGAIN = "again"


def optuna_is_here() -> bool:
    """Whether Optuna is installed."""
    return find_spec("optuna") is not None


def open_study(storage: str | Path) -> optuna.Study:
    """Open a study that minimises a value, or begin it.

    Args:
        storage: The SQLite file; its folder is made.

    Returns:
        The study. Its pruner ends a trial that, after its third epoch, is worse than the median of the others.

    Raises:
        FracturelabError: Optuna is not installed, or the file cannot be used.
    """
    if not optuna_is_here():
        raise FracturelabError(HOW_TO_GET_IT)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path(storage)
    try:
        with _locked(path):
            return optuna.create_study(
                storage=optuna.storages.RDBStorage(
                    f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": 120}}
                ),
                study_name="study",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
                load_if_exists=True,
            )
    except FracturelabError:
        raise
    except Exception as error:  # SQLAlchemy has many
        raise FracturelabError(f"{path}: no study can be kept there ({str(error).splitlines()[0]})") from error


def tune(
    objective: Callable[[optuna.Trial], float],
    *,
    storage: str | Path,
    trials: int,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> optuna.Study:
    """Work on a study until it has a number of finished trials; other processes may work on it at the same time.

    Args:
        objective: Returns the value of a trial; it may `report` and raise `optuna.TrialPruned`.
        storage: The SQLite file of the study.
        trials: Finished or pruned trials that the study will have, those of earlier runs included.
        seed: The settings of trial k follow from (seed, k) and from the results of earlier trials.
        report: Called with a line for each trial that ends in this process.

    Returns:
        The study. Where other processes work on it too, their last trials may still run.

    Raises:
        FracturelabError: As `open_study`. Exceptions of the objective are passed on; the trial counts as failed.
    """
    if trials < 1:
        raise FracturelabError(f"expected at least one trial. Received: {trials}")
    study = open_study(storage)
    import optuna

    states = optuna.trial.TrialState
    path = Path(storage)
    with _registered(path) as worker:
        while True:
            with _locked(path):
                _fail_lost_trials(study, path, worker)
                known = study.get_trials(deepcopy=False)
                if sum(trial.state in (states.COMPLETE, states.PRUNED, states.RUNNING) for trial in known) >= trials:
                    return study
                state = int(np.random.SeedSequence([seed, len(known)]).generate_state(1)[0])
                study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=state)
                trial = study.ask()
                trial.set_user_attr(_WORKER, worker)
            try:
                value = objective(trial)
            except optuna.TrialPruned:
                done = study.tell(trial, state=states.PRUNED)
            except BaseException:
                study.tell(trial, state=states.FAIL)
                raise
            else:
                done = study.tell(trial, value)
            if report is not None:
                report(f"trial {done.number}: {'pruned' if done.state == states.PRUNED else f'{done.value:.4f}'}")


def finished(study: optuna.Study) -> int:
    """How many trials of a study have finished or were pruned."""
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.get_trials(deepcopy=False))


def history(study: optuna.Study) -> pd.DataFrame:
    """The trials of a study as a table.

    Args:
        study: From `tune` or `open_study`.

    Returns:
        Columns `trial`, `state` ("complete", "pruned", "failed", "running" or "waiting"), `value`, `best` (the lowest
        value of a finished trial until then), `seconds`, `again` (the number of the lost trial that it repeats), and
        each hyperparameter.
    """
    import pandas as pd

    trials = study.get_trials(deepcopy=False)
    names = list(dict.fromkeys(key for trial in trials for key in trial.params))
    rows, best = [], None
    for trial in trials:
        state = trial.state.name.lower().replace("fail", "failed")
        if state == "complete" and trial.value is not None:
            best = trial.value if best is None else min(best, trial.value)
        seconds = trial.duration.total_seconds() if trial.duration is not None else None
        row = {"trial": trial.number, "state": state, "value": trial.value, "best": best, "seconds": seconds}
        rows.append({**row, "again": trial.user_attrs.get(_AGAIN), **{key: trial.params.get(key) for key in names}})
    return pd.DataFrame(rows, columns=["trial", "state", "value", "best", "seconds", "again", *names])


def importances(study: optuna.Study, *, seed: int = 0) -> dict[str, float]:
    """The share of the spread of values that each hyperparameter explains (fANOVA, Hutter et al. 2014), largest first.

    With a few trials this is a hint, not a result.

    Args:
        study: From `tune` or `open_study`.
        seed: Seed of the random forest.

    Returns:
        Name to share; empty with fewer than four finished trials or without a difference between them.
    """
    import optuna

    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == optuna.trial.TrialState.COMPLETE]
    if len(done) < 4 or len({trial.value for trial in done}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def _fail_lost_trials(study: optuna.Study, path: Path, worker: str) -> None:
    """Mark trials of dead processes as failed, and let their settings be tried again."""
    import optuna

    alive = _alive(path, worker)
    # Read after the processes were counted: a trial that runs in none of them will never finish.
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if trial.user_attrs.get(_WORKER) in alive:
            continue
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params, user_attrs={_AGAIN: trial.number})


def _locked(path: Path) -> filelock.BaseFileLock:
    """The lock of the study, to enter; it ends with the process."""
    return _lock(path.with_name(f"{path.name}.lock"))


@contextlib.contextmanager
def _registered(path: Path) -> Iterator[str]:
    """Hold a lock with a name of its own for as long as this process works on the study."""
    worker = uuid.uuid4().hex
    with contextlib.ExitStack() as stack:
        with _locked(path):  # no other process may look between the file's creation and its lock
            stack.enter_context(_lock(_workers(path) / worker))
        yield worker
        (_workers(path) / worker).unlink(missing_ok=True)


def _alive(path: Path, worker: str) -> set[str]:
    """Names of the processes that work on the study."""
    import filelock

    alive = {worker}
    for place in _workers(path).iterdir():
        if place.name != worker:
            try:
                with _lock(place).acquire(blocking=False):
                    place.unlink(missing_ok=True)  # its process has ended
            except filelock.Timeout:
                alive.add(place.name)
    return alive


def _workers(path: Path) -> Path:
    return path.with_name(f"{path.name}.workers")


def _lock(path: Path) -> filelock.BaseFileLock:
    import filelock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FracturelabError(f"{path.parent}: cannot be written ({error.strerror or error})") from error
    return filelock.FileLock(path)
