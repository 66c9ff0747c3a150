"""Students over seeds, and the search: a stopped command goes on, and its records hold what the notebook shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fracturelab.experiments import tuning
from fracturelab.experiments.distillation import Recipe
from fracturelab.records import read_record
from fracturelab.system.folders import REPORTS
from scripts import students


@pytest.fixture
def given() -> students.Lesson:
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = (rng.integers(0, 90, (24, 32, 32, 1)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    answers = np.where(labels == 1, 0.9, 0.1).astype(np.float32)
    return students.Lesson((images, labels, answers), (images[:8], labels[:8]), (images, labels), answers)


@pytest.mark.skipif(not tuning.optuna_is_here(), reason=tuning.HOW_TO_GET_IT)
@pytest.mark.usefixtures("eager")
def test_records_hold_the_search_and_every_student(given, tmp_path, monkeypatch):
    tiny = Recipe(width=8, epochs=1)
    models = dict.fromkeys(students.Settings().models, tiny) | {"CNN taught": replace(tiny, teacher_weight=0.7)}
    monkeypatch.setenv(REPORTS, str(tmp_path))
    monkeypatch.setattr(students, "default_data", lambda name: tmp_path)
    monkeypatch.setattr(students, "read_dataset", lambda path: given.test[1])
    monkeypatch.setattr(students, "fingerprint", lambda table: "0" * 64)
    monkeypatch.setattr(students, "lesson", lambda settings: given)
    monkeypatch.setattr(students, "TAUGHT", models["CNN taught"])
    trained = []
    train = students.train_student
    monkeypatch.setattr(students, "train_student", lambda *a, **k: trained.append(k["seed"]) or train(*a, **k))
    settings = students.Settings(size=32, models={name: models[name] for name in ("CNN alone", "CNN taught")})
    monkeypatch.setattr(students, "PAIRS", (("CNN alone", "CNN taught"), ("CNN taught", "CNN tuned")))
    monkeypatch.setattr(students, "suggest", lambda trial: replace(tiny, width=trial.suggest_categorical("width", [8])))
    monkeypatch.setattr(students, "SEARCHED", ("width",))
    paths = students.write_students([0, 1], settings, trials=2, results=tmp_path / "results")
    search, found = (read_record(path)["results"] for path in paths)
    assert [trial["width"] for trial in search["trials"]] == [8, 8]
    assert [(run["seed"], run["model"]) for run in found["runs"]] == [
        (seed, model) for seed in (0, 1) for model in ("CNN alone", "CNN taught", "CNN tuned")
    ]
    one = found["differences"]["CNN taught minus CNN alone"]
    aucs = {
        model: [run["test"] for run in found["runs"] if run["model"] == model] for model in ("CNN alone", "CNN taught")
    }
    assert one["aucs_a"] == pytest.approx(aucs["CNN alone"]) and one["aucs_b"] == pytest.approx(aucs["CNN taught"])
    before = len(trained)
    students.write_students([0, 1], settings, trials=2, results=tmp_path / "results")
    assert before == 8 and len(trained) == before  # two trials and six fits, none of them again
