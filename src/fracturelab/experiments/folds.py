"""Cross-validation: K fits, each scored on patients it has not seen, then one fit on all of them and one holdout test.

The protocol of Rajpurkar et al. 2018 (MURA) and of the many projects that cross-validate on it: folds stratified by
label, whole patients on one side; mirrored with even odds and turned by up to 10 degrees; scores of images, and of
studies as the mean over their images. A fold's own images choose nothing: epoch, candidate and threshold are chosen on
a validation part that is cut, by patient, from the other folds.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.experiments import fold_process
from fracturelab.experiments.fold_scores import HOLDOUT, CrossValidation, mixed_studies, score_part
from fracturelab.pipeline import Augmentation
from fracturelab.training.prepare import Prepared, known_to_weights

if TYPE_CHECKING:
    from fracturelab.models.weights import WeightsInfo

VIEWS = Augmentation(flip=0.5, rotation=10.0, shift=0.0, zoom=0.0, contrast=0.0, brightness=0.0)
SIZE = 224
INNER = 0.15
"""Share of the other folds' images that choose epoch, candidate and threshold."""
THREADS = 2
"""Of each fit. The last digits follow from it, so it is the same on every machine unless asked otherwise."""
DEFAULTS: dict[str, dict[str, Any]] = {"v1": {"epochs": 30}, "v2": {"views": 4, "fine_tune_epochs": 3}}


def cross_validate(
    prepared: Prepared,
    *,
    folds: int = 5,
    recipe: str = "v2",
    options: Mapping[str, Any] | None = None,
    weights: WeightsInfo | None = None,
    seed: int = 0,
    threads: int = THREADS,
    holdout: bool = True,
    workers: int = 1,
    dask: str | None = None,
    work_dir: str | Path | None = None,
    said: Callable[[str], None] | None = None,
) -> CrossValidation:
    """Fit and score each fold, then fit on all of them and test on the holdout.

    Every fit runs in a process of its own with the same number of threads, so that the numbers do not depend on where
    it runs. Each is written, whole or not at all, when it is done; a run that was stopped and is started again with the
    same images and settings goes on with the first that is missing.

    Args:
        prepared: The images; those of the part "test" are the holdout, all others are dealt to the folds anew.
        folds: How many.
        recipe: "v1" or "v2".
        options: Of the recipe, on top of `DEFAULTS` and of `VIEWS` as `augmentation`.
        weights: What v2 starts from.
        seed: Decides folds and fits.
        threads: Of each fit.
        holdout: Whether to fit on all folds and test on the holdout.
        workers: Fits at the same time on this machine.
        dask: Address of a Dask scheduler whose workers make the fits instead; they need the images at the same paths.
        work_dir: Where finished fits are kept. None for a folder that the same run finds again while it is not
            finished; it is removed at the end.
        said: Called with a line for each finished fit.

    Returns:
        Scores of every fold and of the holdout.

    Raises:
        FracturelabError: Too few images or groups for the folds, weights missing for v2, a folder that cannot be
            written, or workers that cannot do it.
    """
    from fracturelab.system import workers as door

    settings = _settings(recipe, options, weights=weights, folds=folds, seed=seed, threads=threads)
    splits = fold_splits(prepared, folds=folds, seed=seed, holdout=holdout)
    cautions = [*known_to_weights(prepared, weights), *mixed_studies(prepared)]
    with _work_folder(work_dir, prepared, {**settings, "holdout": holdout}) as work:
        jobs = {name: _job(prepared, name, split, settings, weights, work) for name, split in splits.items()}
        keys = {name: fold_process.key_of(job) for name, job in jobs.items()}
        answers = {name: found for name, key in keys.items() if (found := _finished(work, name, key)) is not None}
        if answers and said is not None:
            said(f"found finished in {work}: {', '.join(answers)}")
        todo = [name for name in jobs if name not in answers]
        results = door.unordered(
            fold_process.fit_apart, [jobs[name] for name in todo], workers=workers, dask=dask, local="threading"
        )
        try:
            for number, answer in results if todo else ():
                name = todo[number]
                answers[name] = _keep(work, name, keys[name], answer)
                if said is not None:
                    part = score_part(prepared, name, splits[name], answer)
                    auc = part.images.metrics["roc_auc"]
                    said(f"{name}: ROC AUC {auc} on {part.images.n} images, {answer['seconds']:.0f} s")
        except BaseException:
            fold_process.stop()
            raise
        finally:
            _sweep(work)
    parts = {name: score_part(prepared, name, splits[name], answers[name]) for name in jobs}
    last = parts.pop(HOLDOUT, None)
    heard = [text for name in jobs for text in answers[name]["warnings"]]
    return CrossValidation(
        prepared=prepared,
        folds=tuple(parts.values()),
        holdout=last,
        settings=settings,
        weights=weights,
        seconds=sum(answer["seconds"] for answer in answers.values()),
        warnings=tuple(dict.fromkeys((*cautions, *heard))),
    )


def fold_splits(prepared: Prepared, *, folds: int, seed: int, holdout: bool = True) -> dict[str, list[str]]:
    """Say for each fit on which side every image is.

    Args:
        prepared: The images and their split.
        folds: How many.
        seed: Decides them.
        holdout: Whether to add the fit on all folds.

    Returns:
        "fold 1" and so on, and "holdout", each to a list with "train", "val", "test", or "" for an image left out. No
        group is on two sides; over the folds every image that is not held out is in one "test".

    Raises:
        FracturelabError: A side would lack a class, or there is no holdout.
    """
    from fracturelab.splits import assign_groups, kfold

    split = prepared.table["split"].fillna("").to_numpy(object)
    inside, held = np.flatnonzero(np.isin(split, ("train", "val"))), np.flatnonzero(split == "test")
    if not len(inside):
        raise FracturelabError("expected images outside the test part to make folds of. Received: none")
    if holdout and not len(held):
        raise FracturelabError("expected a test part to hold out. Received: none")

    def sides(name: str, rest: NDArray[np.int64], test: NDArray[np.int64]) -> list[str]:
        found = np.full(len(split), "", object)
        found[test] = "test"
        inner = assign_groups(prepared.labels[rest], prepared.groups[rest], [1 - INNER, INNER], seed=seed)
        found[rest] = np.array(["train", "val"], object)[inner]
        for side, what in enumerate(("learn from", "choose by")):
            if len(set(prepared.labels[rest[inner == side]])) < 2:
                raise FracturelabError(
                    f"{name}: expected both classes among the {int((inner == side).sum())} images to {what}. Received: "
                    "one; there are too few patients or groups for this"
                )
        return found.tolist()

    dealt = kfold(prepared.table.iloc[inside].reset_index(drop=True), folds=folds, seed=seed)
    parts = {f"fold {n}": (inside[rest], inside[test]) for n, (rest, test) in enumerate(dealt, 1)}
    if holdout:
        parts[HOLDOUT] = (inside, held)
    return {name: sides(name, rest, test) for name, (rest, test) in parts.items()}


def _settings(
    recipe: str, options: Mapping[str, Any] | None, *, weights: WeightsInfo | None, **more: Any
) -> dict[str, Any]:
    if recipe not in DEFAULTS:
        raise FracturelabError(f"expected the recipe v1 or v2. Received: {recipe!r}")
    if (recipe == "v2") != (weights is not None):
        raise FracturelabError(f"expected weights for v2 and none for v1. Received: {recipe} with weights={weights!r}")
    chosen = {**DEFAULTS[recipe], "augmentation": VIEWS, **(options or {})}
    return {**more, "recipe": recipe, "options": {**chosen, "augmentation": asdict(chosen["augmentation"])}}


def _job(
    prepared: Prepared,
    name: str,
    split: list[str],
    settings: Mapping[str, Any],
    weights: WeightsInfo | None,
    work: Path,
) -> dict[str, Any]:
    return {
        "name": name,
        "paths": prepared.table["path"].tolist(),
        "hashes": prepared.hashes.tolist(),
        "labels": prepared.labels.tolist(),
        "groups": prepared.groups.tolist(),
        "split": split,
        "size": prepared.size,
        "recipe": settings["recipe"],
        "options": settings["options"],
        "weights": fold_process.weights_job(weights) if weights is not None else None,
        "seed": settings["seed"],
        "threads": settings["threads"],
        "work": str(work),
        "code": fold_process.code_digest(),
    }


@contextlib.contextmanager
def _work_folder(work_dir: str | Path | None, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Path]:
    from fracturelab.system.folders import reports_folder
    from fracturelab.training.saving import locked, work_folder

    if work_dir is None:
        with work_folder(reports_folder(), prepared, settings) as folder:
            yield folder
        return
    folder = Path(work_dir).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "ab")  # noqa: SIM115 - held open while the run lasts
    except OSError as error:
        raise FracturelabError(f"{folder}: finished folds cannot be written ({error.strerror or error})") from error
    with lock:
        if not locked(lock):
            raise FracturelabError(f"{folder}: another run works there; wait for it, or name another folder")
        yield folder


def _file_name(name: str, key: str) -> str:
    return f"{name.replace(' ', '-')}-{key[:12]}"


def _finished(work: Path, name: str, key: str) -> dict[str, Any] | None:
    """The answer of a fit that an earlier run finished; a file that is not as it was written is named and not used."""
    from fracturelab.records import read_record

    path = work / f"{_file_name(name, key)}.json"
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except FracturelabError as error:
        warnings.warn(f"{name} is fitted again: {error}", stacklevel=3)
        return None
    return record["results"]["answer"] if record["results"].get("key") == key else None


def _keep(work: Path, name: str, key: str, answer: dict[str, Any]) -> dict[str, Any]:
    from fracturelab.records import write_record

    write_record(_file_name(name, key), kind="fold", results={"key": key, "answer": answer}, folder=work)
    return answer


def _sweep(work: Path) -> None:
    """Remove what only running fits need: features that they share, which can be large, and an empty folder."""
    import shutil

    shutil.rmtree(work / "stores", ignore_errors=True)
    with contextlib.suppress(OSError):
        (work / "checkpoints").rmdir()
