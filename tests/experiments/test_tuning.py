"""A search that survives a kill, that several processes share, and that never draws the same twice."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.experiments import tuning
from fracturelab.experiments.tuning import history, importances, open_study, tune

needs_optuna = pytest.mark.skipif(not tuning.optuna_is_here(), reason=tuning.HOW_TO_GET_IT)
SOURCE = Path(tuning.__file__).resolve().parents[3]


def bowl(trial) -> float:
    x, y = trial.suggest_float("x", -3, 3), trial.suggest_float("y", -3, 3)
    return (x - 1) ** 2 + 0.01 * y**2


def script(text: str, *arguments: object) -> subprocess.Popen:
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


# Four trials end; the fifth says that it has begun, and waits for its end.
KILLED = """
import sys, time
from fracturelab.experiments.tuning import tune

def objective(trial):
    x, y = trial.suggest_float("x", -3, 3), trial.suggest_float("y", -3, 3)
    if trial.number == 4:
        print("begun", flush=True)
        time.sleep(600)
    return (x - 1) ** 2 + 0.01 * y ** 2

tune(objective, storage=sys.argv[1], trials=8, seed=3)
"""


@needs_optuna
def test_a_study_killed_and_started_again_keeps_every_finished_trial(tmp_path, happened):
    storage = tmp_path / "study" / "trials.db"
    with script(KILLED, storage) as child:
        assert child.stdout.readline() == "begun\n"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    before = open_study(storage).get_trials()
    assert [trial.state.name for trial in before] == ["COMPLETE"] * 4 + ["RUNNING"]
    said: list[str] = []
    after = tune(bowl, storage=storage, trials=8, seed=3, report=said.append).get_trials()
    for old, new in zip(before[:4], after, strict=False):
        assert (old.params, old.value, old.datetime_complete) == (new.params, new.value, new.datetime_complete)
    assert after[4].state.name == "FAIL"
    assert after[5].params == after[4].params and after[5].state.name == "COMPLETE"  # what was lost is tried again
    assert [trial.state.name for trial in after].count("COMPLETE") == 8
    assert len({tuple(trial.params.values()) for trial in after if trial.number != 4}) == 8  # and nothing else twice
    assert len(said) == 4
    table = history(open_study(storage))
    assert table["state"].tolist() == ["complete"] * 4 + ["failed"] + ["complete"] * 4
    assert table["again"].tolist()[5] == 4
    best = np.minimum.accumulate([trial.value for trial in after if trial.value is not None])
    assert table.loc[table["state"] == "complete", "best"].tolist() == pytest.approx(best.tolist())
    happened("kill-tuning", "all four finished trials were kept, and the fifth was tried again")


# Trials wait until both processes have one, so that both surely take part.
SHARED = """
import sys, time
from pathlib import Path
from fracturelab.experiments.tuning import tune

folder, name = Path(sys.argv[1]), sys.argv[2]

def objective(trial):
    (folder / f"here-{name}").touch()
    x, y = trial.suggest_float("x", -3, 3), trial.suggest_float("y", -3, 3)
    for _ in range(6000):
        if len(list(folder.glob("here-*"))) == 2:
            return (x - 1) ** 2 + 0.01 * y ** 2
        time.sleep(0.05)

tune(objective, storage=folder / "trials.db", trials=10, seed=1, report=lambda line: print(line, flush=True))
"""


@needs_optuna
def test_processes_share_a_study(tmp_path):
    with script(SHARED, tmp_path, "a") as one, script(SHARED, tmp_path, "b") as two:
        said = [child.communicate(timeout=500)[0].splitlines() for child in (one, two)]
        assert (one.returncode, two.returncode) == (0, 0)
    trials = open_study(tmp_path / "trials.db").get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 10  # not one more
    assert len({tuple(trial.params.values()) for trial in trials}) == 10
    assert all(said) and sum(map(len, said)) == 10
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2


@needs_optuna
def test_one_process_draws_the_same_each_time_and_finds_the_bottom(tmp_path):
    found = [
        tune(bowl, storage=tmp_path / name, trials=n, seed=2).get_trials() for name, n in (("a.db", 20), ("b.db", 9))
    ]
    assert [trial.params for trial in found[0][:9]] == [trial.params for trial in found[1]]
    study = open_study(tmp_path / "a.db")
    assert study.best_value < 0.3
    shares = importances(study)
    assert list(shares) == ["x", "y"] and shares["x"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert tune(bowl, storage=tmp_path / "a.db", trials=20, seed=2).get_trials()[-1].number == 19  # nothing more to do


@needs_optuna
def test_a_trial_that_falls_behind_is_pruned_and_one_that_fails_is_told(tmp_path):
    import optuna

    def objective(trial):
        level = float(trial.number)
        for epoch in range(6):
            trial.report(level, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        trial.suggest_float("x", 0, 1)
        return level

    table = history(tune(objective, storage=tmp_path / "trials.db", trials=6))
    assert table["state"].tolist() == ["complete"] * 4 + ["pruned"] * 2
    assert importances(open_study(tmp_path / "empty.db")) == {}

    def broken(trial):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        tune(broken, storage=tmp_path / "broken.db", trials=2)
    assert history(open_study(tmp_path / "broken.db"))["state"].tolist() == ["failed"]


def test_without_optuna_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "find_spec", lambda name: None if name == "optuna" else importlib.util.find_spec(name))
    with pytest.raises(FracturelabError, match="pip install -r requirements/tune"):
        open_study(tmp_path / "trials.db")


@needs_optuna
def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(FracturelabError, match="at least one trial"):
        tune(bowl, storage=tmp_path / "trials.db", trials=0)
    (tmp_path / "text.db").write_text("not a study " * 200)
    with pytest.raises(FracturelabError, match="no study can be kept there"):
        open_study(tmp_path / "text.db")
