"""Students of notebook 09 over seeds, and the search over the settings of one: two records.

All that is finished is kept in a folder below `reports/studies`. A stopped command goes on there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fracturelab.cli.output import say
from fracturelab.datasets import fingerprint, read_dataset
from fracturelab.evaluation import compare_seeds
from fracturelab.experiments import tuning
from fracturelab.experiments.distillation import Recipe, train_student
from fracturelab.images import load_images
from fracturelab.models.transfer import FEATURES, split_at
from fracturelab.phantoms import default_data
from fracturelab.phantoms.defaults import EDITION
from fracturelab.phantoms.sources import GENERATOR_VERSION
from fracturelab.records import write_record
from fracturelab.system.files import write_json
from fracturelab.system.folders import reports_folder
from fracturelab.training.epochs import predict, validation_scores
from fracturelab.training.features import DEFAULT_STORE, FeatureStore, compute
from scripts.baselines import home, probe

if TYPE_CHECKING:
    import optuna

PAIRS = (("CNN alone", "CNN taught"), ("CNN taught", "hybrid taught"), ("CNN taught", "CNN tuned"))
SEARCHED = ("width", "learning_rate", "weight_decay", "dropout", "teacher_weight", "temperature")
SEARCH, STUDENTS = "students-search", "students"
TAUGHT = Recipe(teacher_weight=0.7)


@dataclass(frozen=True)
class Settings:
    """The settings that notebook 09 and its records share.

    Attributes:
        size: Side of the students' images in pixels.
        teacher_size: Side of the teacher's images in pixels.
        models: The recipe of each student whose settings are not searched.
    """

    size: int = 64
    teacher_size: int = 160
    models: Mapping[str, Recipe] = field(
        default_factory=lambda: {
            "CNN alone": Recipe(),
            "CNN taught": TAUGHT,
            "hybrid taught": replace(TAUGHT, architecture="hybrid"),
        }
    )


@dataclass(frozen=True)
class Lesson:
    """What the students are trained on, validated on and tested on.

    Attributes:
        train: Images uint8 (n, size, size, 1), labels (n,) and the teacher's P(fractured) (n,).
        val: Images and labels of the validation part.
        test: Images and labels that no network was trained on.
        teacher: The teacher's P(fractured) for the test images.
    """

    train: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]
    val: tuple[NDArray[np.uint8], NDArray[np.int64]]
    test: tuple[NDArray[np.uint8], NDArray[np.int64]]
    teacher: NDArray[np.float32]


def lesson(settings: Settings, store: FeatureStore = DEFAULT_STORE) -> Lesson:
    """Train the teacher, and collect its answers to the training images."""
    large, small = home(settings.teacher_size, 0), home(settings.size, 0)
    teacher = probe(large, 0, store)
    backbone, head = split_at(teacher.model, FEATURES)
    train, val = small.rows("train"), small.rows("val")
    [features] = compute({FEATURES: backbone}, large, rows=train, views=1, store=store, progress=False)[FEATURES]
    table = read_dataset(default_data("unseen"))
    images = {size: load_images(table["path"].tolist(), size) for size in (settings.size, settings.teacher_size)}
    return Lesson(
        train=(small.images[train], small.labels[train], predict(head, features)),
        val=(small.images[val], small.labels[val]),
        test=(images[settings.size], table["label"].to_numpy(int)),
        teacher=predict(teacher.model, images[settings.teacher_size]),
    )


def suggest(trial: optuna.Trial) -> Recipe:
    """Draw the settings of a small CNN."""
    return Recipe(
        width=trial.suggest_categorical("width", [8, 16, 24]),
        learning_rate=trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.5),
        teacher_weight=trial.suggest_float("teacher_weight", 0.0, 1.0),
        temperature=trial.suggest_float("temperature", 1.0, 6.0),
    )


def objective(trial: optuna.Trial, *, data: Lesson, seed: int) -> float:
    """Validation loss of a student after its last epoch; one that falls behind is stopped early."""
    import keras
    import optuna

    losses: list[float] = []

    def judge(epoch: int, logs: object) -> None:
        losses.append(validation_scores(data.val[1], predict(watch.model, data.val[0]))[0])
        trial.report(losses[-1], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    watch = keras.callbacks.LambdaCallback(on_epoch_end=judge)
    train_student(suggest(trial), *data.train, seed=seed, callbacks=[watch])
    return losses[-1]


def search(data: Lesson, folder: Path, *, trials: int, seed: int) -> optuna.Study:
    """Search for settings of a small CNN; the first trial has those of the taught CNN."""
    study = tuning.open_study(folder / "study.db")
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial({name: getattr(TAUGHT, name) for name in SEARCHED})
    options: dict[str, Any] = {"storage": folder / "study.db", "trials": trials, "seed": seed, "report": say}
    return tuning.tune(partial(objective, data=data, seed=seed), **options)


def digest(values: Mapping[str, Any]) -> str:
    """Eight letters that stand for some plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def repeat(data: Lesson, models: Mapping[str, Recipe], folder: Path, *, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Train every model with every seed; each fit is kept in the folder.

    Returns:
        For each fit its seed, its model, and its P(fractured) for validation and test images.
    """
    runs = []
    for seed in seeds:
        for name, recipe in models.items():
            path = folder / f"{name.replace(' ', '-')}-{digest(asdict(recipe))}-{seed}.json"
            if not path.is_file():
                model = train_student(recipe, *data.train, seed=seed)
                parts = {"val": data.val[0], "test": data.test[0]}
                answers = {part: predict(model, images).tolist() for part, images in parts.items()}
                write_json(path, {"seed": seed, "model": name, "weights": model.count_params(), **answers})
                say(f"{name}, seed {seed}: ROC AUC {roc_auc_score(data.test[1], answers['test']):.3f}")
            runs.append(json.loads(path.read_text(encoding="utf-8")))
    return runs


def write_students(
    seeds: Sequence[int], settings: Settings, *, trials: int = 40, results: Path | None = None
) -> list[Path]:
    """Search for settings of the small CNN, then train every student with every seed; a record of each.

    Args:
        seeds: Of the students; all share one split and one teacher. The first is the seed of the search.
        settings: What the notebook uses.
        trials: Of the search.
        results: Where the records go; None for the project's results.

    Returns:
        The files of the two records.
    """
    table = read_dataset(default_data("clinic"))
    data = {"source": f"phantoms {GENERATOR_VERSION}.{EDITION}", "n": len(table), "fingerprint": fingerprint(table)}
    common: dict[str, Any] = {"kind": "study", "data": data, "settings": asdict(settings), "folder": results}
    sizes = {"size": settings.size, "teacher_size": settings.teacher_size}
    folder = reports_folder() / "studies" / f"students-{digest(data | sizes)}"
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    given = lesson(settings)
    say(f"teacher: ROC AUC {roc_auc_score(given.test[1], given.teacher):.3f}")
    repeat(given, settings.models, folder, seeds=seeds)
    study = search(given, folder, trials=trials, seed=seeds[0])
    tried = tuning.history(study).drop(columns=["again", "seconds"])
    found = {
        "trials": tried.astype(object).where(tried.notna(), None).to_dict("records"),
        "importances": tuning.importances(study),
        "best": study.best_params,
    }
    seconds = time.perf_counter() - started
    paths = [write_record(SEARCH, seed=seeds[0], seconds=seconds, results=found, **common)]
    models = {**settings.models, "CNN tuned": Recipe(**study.best_params)}
    runs = repeat(given, models, folder, seeds=seeds)
    truth = given.test[1]
    p = {name: [run["test"] for run in runs if run["model"] == name] for name in models}
    scores = [
        {key: run[key] for key in ("seed", "model", "weights")}
        | {part: float(roc_auc_score(labels, run[part])) for part, labels in (("val", given.val[1]), ("test", truth))}
        for run in runs
    ]
    found = {
        "runs": scores,
        "teacher": float(roc_auc_score(truth, given.teacher)),
        "differences": {f"{b} minus {a}": compare_seeds(truth, p[a], p[b]).to_dict() for a, b in PAIRS},
    }
    seconds = time.perf_counter() - started
    return [*paths, write_record(STUDENTS, seed=seeds[0], seconds=seconds, results=found, **common)]
