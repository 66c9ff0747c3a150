"""The scores that the notebooks build on, repeated over seeds: v1, the leak, v2, and the fracture types.

The notebooks run one seed step by step. Each function here repeats one of their experiments over several seeds, with
the same sets and the same settings, and writes one record.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab.datasets import fingerprint, read_dataset
from fracturelab.errors import FracturelabError
from fracturelab.experiments.leaky_split import augment_then_split, shared_with_training, split_then_augment
from fracturelab.images import load_images
from fracturelab.models.transfer import FEATURES, split_at
from fracturelab.phantoms import default_data, write_set
from fracturelab.phantoms.defaults import EDITION
from fracturelab.phantoms.sources import GENERATOR_VERSION
from fracturelab.phantoms.writer import Recipe
from fracturelab.pipeline import Augmentation
from fracturelab.records import read_record, write_record
from fracturelab.system.folders import MODELS, REPORTS, project_folder
from fracturelab.training import Prepared, prepare, train_v1, train_v2
from fracturelab.training.epochs import predict
from fracturelab.training.features import FeatureStore
from fracturelab.training.fitting import Fit
from fracturelab.training.v1 import FROM_SCRATCH
from fracturelab.training.v2 import FINE_TUNING
from scripts.notebooks import run_notebook

if TYPE_CHECKING:
    import pandas as pd

MIRRORED = Augmentation(vertical_flip=0.5, rotation=0.0, shift=0.0, zoom=0.0)
"""Changes that leave every fracture as large as it is: mirror images, brightness and contrast."""
ELSEWHERE = ("unseen", "field", "hard")
HARDER_TYPES = Recipe(per_kind=180, seed=6, size=160, zoom=(1.5, 3.0), difficulty=(0.5, 1.0))
"""Fracture types in all regions of the body, smaller and finer than those of the default set, with casts and metal."""


@dataclass(frozen=True)
class Settings:
    """The settings that the notebooks and these records share.

    Attributes:
        size: Side of v1's images in pixels.
        filters: Of v1's blocks.
        epochs: Of v1.
        transfer_size: Side of v2's images in pixels.
        few: X-rays in the experiment on the leak, as many as a small project has.
        copies: Augmented copies made of them.
        copies_epochs: Epochs over the copies.
    """

    size: int = 96
    filters: tuple[int, ...] = (16, 32, 64, 128)
    epochs: int = 24
    transfer_size: int = 160
    few: int = 400
    copies: int = 3000
    copies_epochs: int = 10


def roc_auc(fit: Fit, names: Sequence[str]) -> dict[str, float]:
    """ROC AUC of a fit on its validation images and on default sets that it was not trained on."""
    from sklearn.metrics import roc_auc_score

    prepared, val = fit.prepared, fit.prepared.rows("val")
    scores = {"val": roc_auc_score(prepared.labels[val], predict(fit.model, prepared.images, rows=val))}
    for name in names:
        table = read_dataset(default_data(name))
        images = load_images(table["path"].tolist(), prepared.size)
        scores[name] = roc_auc_score(table["label"].to_numpy(int), predict(fit.model, images))
    return {name: float(score) for name, score in scores.items()}


def home(size: int, seed: int, *, n: int | None = None, val: float = 0.2) -> Prepared:
    """X-rays of the clinic to train and validate on; a seed has its own split."""
    table = read_dataset(default_data("clinic", n=n))
    return prepare(table, size=size, seed=seed, val=val, test=0.0, progress=False)


def train_small(prepared: Prepared, *, seed: int, settings: Settings, augmentation: Augmentation | None) -> Fit:
    """v1 as the notebooks train it."""
    options: dict[str, Any] = {"filters": settings.filters, "augmentation": augmentation}
    return train_v1(prepared, seed=seed, epochs=settings.epochs, progress=False, **options)


def v1_runs(seeds: Sequence[int], settings: Settings, store: FeatureStore) -> Iterator[dict[str, Any]]:
    """v1 with and without augmentation: ROC AUC on validation images, and on sets it was not trained on."""
    for seed in seeds:
        prepared = home(settings.size, seed)
        for name, augmentation in (("v1", MIRRORED), ("without augmentation", None)):
            fit = train_small(prepared, seed=seed, settings=settings, augmentation=augmentation)
            yield {"seed": seed, "model": name, "roc_auc": roc_auc(fit, ELSEWHERE)}


def leak_runs(seeds: Sequence[int], settings: Settings, store: FeatureStore) -> Iterator[dict[str, Any]]:
    """v1 on augmented copies of few X-rays: validated on further copies of them, and on copies of other X-rays.

    Both ways to split have the same training copies. So one network serves both, and only its validation differs.
    """
    options: dict[str, Any] = {"copies": settings.copies, "augmentation": MIRRORED}
    few = replace(settings, epochs=settings.copies_epochs)
    for seed in seeds:
        prepared = home(settings.size, seed, n=settings.few, val=0.25)
        flawed, honest = (make(prepared, seed=seed, **options) for make in (augment_then_split, split_then_augment))
        fit = train_small(flawed, seed=seed, settings=few, augmentation=None)
        steps = int(np.ceil(len(flawed.rows("train")) / FROM_SCRATCH.batch_size)) * settings.copies_epochs
        scores = roc_auc(fit, ELSEWHERE[:2])
        for name, data in (("augment, then split", flawed), ("split, then augment", honest)):
            val = roc_auc(replace(fit, prepared=data), ())
            found = {"leak": shared_with_training(data), "steps": steps, "roc_auc": scores | val}
            yield {"seed": seed, "model": name, **found}


def v2_runs(seeds: Sequence[int], settings: Settings, store: FeatureStore) -> Iterator[dict[str, Any]]:
    """v2's probe on the bundled ResNet50: ROC AUC on validation images, and on sets it was not trained on."""
    from sklearn.metrics import roc_auc_score

    features: dict[str, Any] = {}
    for seed in seeds:
        prepared = home(settings.transfer_size, seed)
        fit = probe(prepared, seed, store)
        backbone, head = split_at(fit.model, FEATURES)
        scores = roc_auc(fit, ())
        for name in ELSEWHERE:  # the backbone is frozen, so its features serve every seed
            table = read_dataset(default_data(name))
            if name not in features:
                features[name] = predict(backbone, load_images(table["path"].tolist(), prepared.size))
            scores[name] = float(roc_auc_score(table["label"].to_numpy(int), predict(head, features[name])))
        yield {"seed": seed, "model": "v2", "roc_auc": scores}


def probe(prepared: Prepared, seed: int, store: FeatureStore) -> Fit:
    """v2 without fine-tuning: a logistic head on features of the frozen, bundled ResNet50."""
    options: dict[str, Any] = {"schedule": replace(FINE_TUNING, epochs=0), "store": store}
    return train_v2(prepared, weights="bundled", seed=seed, views=1, progress=False, **options)


def write_baselines(part: str, seeds: Sequence[int], settings: Settings, *, results: Path | None = None) -> Path:
    """Run one part over seeds and write its record, `baselines-{part}`.

    Args:
        part: One of `PARTS`.
        seeds: The seeds; each has its own split.
        settings: What the notebooks use.
        results: Where the record goes; None for the project's results.

    Returns:
        The record's file.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        runs = list(PARTS[part](seeds, settings, FeatureStore(folder, shared=True)))
    table = read_dataset(default_data("clinic"))
    return write_record(
        f"baselines-{part}",
        kind="study",
        data={"source": f"phantoms {GENERATOR_VERSION}.{EDITION}", "n": len(table), "fingerprint": fingerprint(table)},
        seed=seeds[0],
        seconds=time.perf_counter() - started,
        settings=asdict(settings),
        results={"runs": runs},
        folder=results,
    )


def write_types(seeds: Sequence[int], *, results: Path | None = None) -> Path:
    """Run notebook 05 over seeds, and once on a harder set, and write the accuracies as `types-over-seeds`.

    Args:
        seeds: The seeds; each has its own split. The harder set gets the first one.
        results: Where the record goes; None for the project's results.

    Returns:
        The record's file.

    Raises:
        FracturelabError: The notebook fails.
    """
    [notebook] = (project_folder() / "notebooks").glob("05_*.ipynb")
    started, runs = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        harder = write_set(f"{folder}/harder", **asdict(HARDER_TYPES))
        for number, (name, seed) in enumerate([*(("types", seed) for seed in seeds), ("harder", seeds[0])]):
            place = Path(folder) / str(number)
            parameters: dict[str, Any] = {"SEED": seed} | ({"DATA": str(harder)} if name == "harder" else {})
            environment = {REPORTS: str(place), MODELS: str(place / "models")}
            failure = run_notebook(notebook, place / notebook.name, parameters=parameters, environment=environment)
            if failure is not None:
                raise FracturelabError(f"notebook 05 fails with {parameters}: {failure}")
            found = [read_record(path)["results"] for path in sorted(place.glob("results/05-types-*.json"))]
            accuracy = {
                results["model"].removeprefix("types: "): results["evaluations"]["test"]["metrics"]["accuracy"]["value"]
                for results in found
            }
            runs.append({"set": name, "seed": seed, **accuracy})
    seconds = time.perf_counter() - started
    data = {"source": f"phantoms {GENERATOR_VERSION}.{EDITION}"}
    options: dict[str, Any] = {"settings": {"harder": asdict(HARDER_TYPES)}, "results": {"runs": runs}}
    return write_record(
        "types-over-seeds", kind="study", data=data, seed=seeds[0], seconds=seconds, folder=results, **options
    )


PARTS: dict[str, Callable[[Sequence[int], Settings, FeatureStore], Iterator[dict[str, Any]]]] = {
    "v1": v1_runs,
    "leak": leak_runs,
    "v2": v2_runs,
}


def summary(runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Mean over the seeds of each model's scores, with the lowest and the highest.

    Args:
        runs: From a record of `write_baselines`.

    Returns:
        A row a model, a column a set.
    """
    import pandas as pd

    rows = [{"model": run["model"], **run["roc_auc"]} for run in runs]
    grouped = pd.DataFrame(rows).groupby("model", sort=False)
    return grouped.agg(lambda scores: f"{scores.mean():.3f} ({scores.min():.3f} to {scores.max():.3f})")
