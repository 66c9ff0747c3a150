"""A search over hyperparameters that several processes share and that survives being killed, with Optuna.

The study is an SQLite file: a finished trial is a committed transaction, and neither SIGKILL nor a power cut takes it
back. Every process that works on a study holds a lock that dies with it, so that a trial whose process is gone is found
at once, marked as failed, and its settings are tried again. Trials are drawn one process at a time, from a random state
that follows from the study's seed and the trial's number: no two processes draw the same, and a restarted one does not
begin again with the draws of its youth.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import optuna
    import pandas as pd

HOW_TO_GET_IT = "Optuna is not installed. Get it with: pip install -r requirements/tune.txt"
STARTUP = 6
"""Trials drawn at random before the sampler (TPE, Bergstra et al. 2011) learns from them."""
_WORKER = "worker"
_AGAIN = "again"


def optuna_is_here() -> bool:
    """Whether Optuna is installed."""
    return find_spec("optuna") is not None


def open_study(
    storage: str | Path, *, name: str = "study", direction: Literal["minimize", "maximize"] = "minimize"
) -> optuna.Study:
    """Open a study, or begin it.

    Args:
        storage: The SQLite file; its folder is made.
        name: Of the study in the file.
        direction: What is good.

    Returns:
        The study, with a pruner that ends a trial which, after its third epoch, is worse than the median of the others.

    Raises:
        FracturelabError: Optuna is not installed, or the file cannot be used.
    """
    if not optuna_is_here():
        raise FracturelabError(HOW_TO_GET_IT)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path(storage)
    try:
        with _alone(path):
            return optuna.create_study(
                storage=optuna.storages.RDBStorage(
                    f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": 120}}
                ),
                study_name=name,
                direction=direction,
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
    name: str = "study",
    direction: Literal["minimize", "maximize"] = "minimize",
    seed: int = 0,
    said: Callable[[str], None] | None = None,
) -> optuna.Study:
    """Work on a study until it has so many finished trials; others may do the same at the same time.

    Args:
        objective: From a trial to its value; it may `report` and raise `optuna.TrialPruned`.
        storage: The SQLite file of the study.
        trials: Finished or pruned trials that the study is to have in the end, those of earlier runs included.
        name: Of the study.
        direction: What is good.
        seed: What trial k tries follows from (seed, k) and from what earlier trials found.
        said: Told a line for each trial that ends here.

    Returns:
        The study. Where other processes work on it too, their last trials may still run.

    Raises:
        FracturelabError: As `open_study`. What the objective raises is passed on; the trial counts as failed.
    """
    if trials < 1:
        raise FracturelabError(f"expected at least one trial. Received: {trials}")
    study = open_study(storage, name=name, direction=direction)
    import optuna

    states = optuna.trial.TrialState
    path = Path(storage)
    with _present(path) as me:
        while True:
            with _alone(path):
                _bury(study, path, me)
                known = study.get_trials(deepcopy=False)
                if sum(one.state in (states.COMPLETE, states.PRUNED, states.RUNNING) for one in known) >= trials:
                    return study
                state = int(np.random.SeedSequence([seed, len(known)]).generate_state(1)[0])
                study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=state)
                trial = study.ask()
                trial.set_user_attr(_WORKER, me)
            try:
                value = objective(trial)
            except optuna.TrialPruned:
                done = study.tell(trial, state=states.PRUNED)
            except BaseException:
                study.tell(trial, state=states.FAIL)
                raise
            else:
                done = study.tell(trial, value)
            if said is not None:
                said(f"trial {done.number}: {'pruned' if done.state == states.PRUNED else f'{done.value:.4f}'}")


def finished(study: optuna.Study) -> int:
    """How many trials of a study have finished or were pruned."""
    return sum(one.state.name in ("COMPLETE", "PRUNED") for one in study.get_trials(deepcopy=False))


def history(study: optuna.Study) -> pd.DataFrame:
    """What was tried, a row a trial.

    Args:
        study: From `tune` or `open_study`.

    Returns:
        Columns `trial`, `state` ("complete", "pruned", "failed", "running" or "waiting"), `value`, `best` (the best
        finished value up to this trial), `seconds`, `again` (the number of the killed trial that it repeats), and each
        hyperparameter.
    """
    import optuna
    import pandas as pd

    trials = study.get_trials(deepcopy=False)
    names = list(dict.fromkeys(key for one in trials for key in one.params))
    better = min if study.direction == optuna.study.StudyDirection.MINIMIZE else max
    rows, best = [], None
    for one in trials:
        complete = one.state == optuna.trial.TrialState.COMPLETE
        if complete and one.value is not None:
            best = one.value if best is None else better(best, one.value)
        state = {"fail": "failed"}.get(one.state.name.lower(), one.state.name.lower())
        seconds = one.duration.total_seconds() if one.duration is not None else None
        rows.append(
            {
                "trial": one.number,
                "state": state,
                "value": one.value,
                "best": best,
                "seconds": seconds,
                "again": one.user_attrs.get(_AGAIN),
                **{key: one.params.get(key) for key in names},
            }
        )
    return pd.DataFrame(rows, columns=["trial", "state", "value", "best", "seconds", "again", *names])


def importances(study: optuna.Study, *, seed: int = 0) -> dict[str, float]:
    """How much of the spread of values each hyperparameter explains (fANOVA, Hutter et al. 2014), the largest first.

    With a few trials this is a hint, not a finding.

    Args:
        study: From `tune` or `open_study`.
        seed: Of the random forest.

    Returns:
        Name to share; empty with fewer than four finished trials or without a difference between them.
    """
    import optuna

    done = [one for one in study.get_trials(deepcopy=False) if one.state == optuna.trial.TrialState.COMPLETE]
    if len(done) < 4 or len({one.value for one in done}) < 2:
        return {}
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed)
    )
    return {name: float(share) for name, share in found.items()}


def _bury(study: optuna.Study, path: Path, me: str) -> None:
    """Mark trials as failed whose process is gone, and let their settings be tried again."""
    import optuna

    alive = _alive(path, me)
    if alive is None:
        return
    # Read after the processes were counted: what one that has left still shows as running, it will never finish.
    for one in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if one.user_attrs.get(_WORKER) in alive:
            continue
        study.tell(one.number, state=optuna.trial.TrialState.FAIL)
        if one.params:
            study.enqueue_trial(one.params, user_attrs={_AGAIN: one.number})


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the study's lock, waiting for whoever has it; a process that dies lets go of it."""
    with _file(path.with_name(f"{path.name}.lock")) as lock:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _present(path: Path) -> Iterator[str]:
    """Hold a lock under a name of its own for as long as this process works on the study."""
    me = uuid.uuid4().hex
    place = _workers(path) / me
    with contextlib.ExitStack() as stack:
        with _alone(path):  # nobody may look between making the file and locking it
            lock = stack.enter_context(_file(place))
            with contextlib.suppress(ImportError, OSError):
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield me
        finally:
            place.unlink(missing_ok=True)


def _alive(path: Path, me: str) -> set[str] | None:
    """Names of the processes at work; None where there are no locks that could tell."""
    try:
        import fcntl
    except ImportError:
        return None
    found = {me}
    for place in _workers(path).iterdir():
        if place.name == me:
            continue
        with contextlib.suppress(FileNotFoundError), open(place, "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                found.add(place.name)
            else:
                place.unlink(missing_ok=True)  # its process is gone
    return found


def _workers(path: Path) -> Path:
    return path.with_name(f"{path.name}.workers")


def _file(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab")
    except OSError as error:
        raise FracturelabError(f"{path.parent}: cannot be written ({os.strerror(error.errno or 0)})") from error
