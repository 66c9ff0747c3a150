"""Cross-validation: K fits, each scored on patients that it was not trained on, then one fit on all of them and a test.

The protocol follows Rajpurkar et al. 2018 (MURA) and the many projects that cross-validate on it. Folds are stratified
by label, with whole patients on one side. Images are mirrored with even odds and turned by up to 10 degrees. Images are
scored, and studies by the mean over their images. The images of a fold choose nothing: epoch, candidate and threshold
are chosen on a validation part that is split off, by patient, from the other folds.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.experiments import fold_process
from fracturelab.experiments.fold_scores import HOLDOUT, CrossValidation, mixed_studies, score_part
from fracturelab.models.weights import WeightsInfo
from fracturelab.pipeline import Augmentation
from fracturelab.records import read_record, write_record
from fracturelab.splits import assign_groups, kfold
from fracturelab.system.folders import reports_folder
from fracturelab.system.workers import unordered
from fracturelab.training.checkpoints import locked, work_folder
from fracturelab.training.prepare import Prepared, known_to_weights
from fracturelab.training.v1 import FROM_SCRATCH
from fracturelab.training.v2 import FINE_TUNING

FOLD_AUGMENTATION = Augmentation(flip=0.5, rotation=10.0, shift=0.0, zoom=0.0, contrast=0.0, brightness=0.0)
SIZE = 224
VALIDATION_SHARE = 0.15
"""Share of the other folds' images that choose epoch, candidate and threshold."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "v1": {"schedule": FROM_SCRATCH},
    "v2": {"views": 4, "schedule": replace(FINE_TUNING, epochs=3)},
}


@dataclass(frozen=True)
class Parallel:
    """Where the fits of a cross-validation run.

    Attributes:
        threads: Threads of each fit. The last digits of its numbers depend on it, so it is the same on every machine.
        workers: Fits at the same time on this machine.
        dask: Address of a Dask scheduler whose workers make the fits instead; they need the images at the same paths.
    """

    threads: int = 2
    workers: int = 1
    dask: str | None = None


DEFAULT_PARALLEL = Parallel()


def with_holdout(table: pd.DataFrame, holdout: str) -> pd.DataFrame:
    """Choose the images that a cross-validation tests on at its end.

    Args:
        table: The data set's table.
        holdout: "none", "test" for the test part, or "val" for a published validation part.

    Returns:
        The table, in which the images to hold out have the split "test".

    Raises:
        FracturelabError: "val" without a published validation part.
    """
    split = table["split"]
    if holdout == "none":
        return table.assign(split=split.mask(split == "test"))
    if holdout == "test":
        return table
    if not (split == "val").any():
        raise FracturelabError("expected a published validation part for --holdout val. Received: none in this folder")
    return table.assign(split=split.mask(split == "test").mask(split == "val", "test"))


def cross_validate(
    prepared: Prepared,
    *,
    folds: int = 5,
    recipe: str = "v2",
    options: Mapping[str, Any] | None = None,
    weights: WeightsInfo | None = None,
    seed: int = 0,
    holdout: bool = True,
    parallel: Parallel = DEFAULT_PARALLEL,
    work_dir: str | Path | None = None,
    report: Callable[[str], None] | None = None,
) -> CrossValidation:
    """Fit and score each fold, then fit on all of them and test on the holdout.

    Every fit runs in its own process with the same number of threads, so that the numbers do not depend on where it
    runs. Each result is written when its fit is done. A stopped run that is started again with the same images and
    settings continues with the first missing fit.

    Args:
        prepared: The images; those of the part "test" are the holdout, all others are assigned to the folds anew.
        folds: Number of folds.
        recipe: "v1" or "v2".
        options: Arguments of the recipe that replace `DEFAULTS`: `schedule`, `augmentation`, and `views` of v2.
        weights: The weights that v2 starts from.
        seed: Decides folds and fits.
        holdout: Whether to fit on all folds and test on the holdout.
        parallel: Where the fits run.
        work_dir: Where finished fits are kept. None for a folder that the same run uses again while it is not finished;
            it is removed at the end.
        report: Called with a line for each finished fit.

    Returns:
        Scores of every fold and of the holdout.

    Raises:
        FracturelabError: Too few images or groups for the folds, weights missing for v2, a folder that cannot be
            written, or workers that cannot make the fits.
    """
    threads = parallel.threads
    settings = _settings(recipe, options, weights=weights, folds=folds, seed=seed, threads=threads)
    splits = fold_splits(prepared, folds=folds, seed=seed, holdout=holdout)
    cautions = [*known_to_weights(prepared, weights), *mixed_studies(prepared)]
    with _work_folder(work_dir, prepared, {**settings, "holdout": holdout}) as work:
        jobs = {name: _job(prepared, name, split, settings, weights, work) for name, split in splits.items()}
        results = {name: result for name, job in jobs.items() if (result := _finished(work, job)) is not None}
        if results and report is not None:
            report(f"found finished in {work}: {', '.join(results)}")
        todo = [job for name, job in jobs.items() if name not in results]
        where: dict[str, Any] = {"workers": parallel.workers, "dask": parallel.dask, "local": "threading"}
        fits = unordered(fold_process.fit_in_process, todo, **where) if todo else ()
        try:
            for number, result in fits:
                job = todo[number]
                results[job.name] = result
                write_record(job.file_name, kind="fold", results={"key": job.key, "answer": result}, folder=work)
                if report is not None:
                    part = score_part(prepared, job.name, splits[job.name], result)
                    auc = part.images.metrics["roc_auc"]
                    report(f"{job.name}: ROC AUC {auc} on {part.images.n} images, {result['seconds']:.0f} s")
        except BaseException:
            fold_process.stop()
            raise
        finally:  # the features that running fits share, which can be large, and an empty folder
            shutil.rmtree(work / "stores", ignore_errors=True)
            with contextlib.suppress(OSError):
                (work / "checkpoints").rmdir()
    parts = {name: score_part(prepared, name, splits[name], results[name]) for name in jobs}
    last = parts.pop(HOLDOUT, None)
    raised = [text for name in jobs for text in results[name]["warnings"]]
    return CrossValidation(
        prepared=prepared,
        folds=tuple(parts.values()),
        holdout=last,
        settings=settings,
        weights=weights,
        seconds=sum(result["seconds"] for result in results.values()),
        warnings=tuple(dict.fromkeys((*cautions, *raised))),
    )


def fold_splits(prepared: Prepared, *, folds: int, seed: int, holdout: bool = True) -> dict[str, list[str]]:
    """Assign every image to a part, for each fit.

    Args:
        prepared: The images and their split.
        folds: Number of folds.
        seed: Decides them.
        holdout: Whether to add the fit on all folds.

    Returns:
        "fold 1" and so on, and "holdout", each to a list with "train", "val", "test", or "" for an image left out. No
        group is in two parts. Over the folds every image that is not held out is in one "test".

    Raises:
        FracturelabError: A part would lack a class, or there is no holdout.
    """
    split = prepared.table["split"].fillna("").to_numpy(object)
    inside, held = np.flatnonzero(np.isin(split, ("train", "val"))), np.flatnonzero(split == "test")
    if not len(inside):
        raise FracturelabError("expected images outside the test part to make folds of. Received: none")
    if holdout and not len(held):
        raise FracturelabError("expected a test part to hold out. Received: none")

    def parts(name: str, rest: NDArray[np.int64], test: NDArray[np.int64]) -> list[str]:
        assigned = np.full(len(split), "", object)
        assigned[test] = "test"
        shares = [1 - VALIDATION_SHARE, VALIDATION_SHARE]
        inner = assign_groups(prepared.labels[rest], prepared.groups[rest], shares, seed=seed)
        assigned[rest] = np.array(["train", "val"], object)[inner]
        for part, purpose in enumerate(("learn from", "choose by")):
            if len(set(prepared.labels[rest[inner == part]])) < 2:
                raise FracturelabError(
                    f"{name}: expected both classes among the {int((inner == part).sum())} images to {purpose}. "
                    "Received: one; there are too few patients or groups for this"
                )
        return assigned.tolist()

    dealt = kfold(prepared.table.iloc[inside].reset_index(drop=True), folds=folds, seed=seed)
    rows = {f"fold {n}": (inside[rest], inside[test]) for n, (rest, test) in enumerate(dealt, 1)}
    if holdout:
        rows[HOLDOUT] = (inside, held)
    return {name: parts(name, rest, test) for name, (rest, test) in rows.items()}


def _settings(
    recipe: str, options: Mapping[str, Any] | None, *, weights: WeightsInfo | None, **more: Any
) -> dict[str, Any]:
    if recipe not in DEFAULTS:
        raise FracturelabError(f"expected the recipe v1 or v2. Received: {recipe!r}")
    if (recipe == "v2") != (weights is not None):
        raise FracturelabError(f"expected weights for v2 and none for v1. Received: {recipe} with weights={weights!r}")
    chosen = {**DEFAULTS[recipe], "augmentation": FOLD_AUGMENTATION, **(options or {})}
    plain = {name: asdict(chosen[name]) for name in ("schedule", "augmentation")}
    return {**more, "recipe": recipe, "options": {**chosen, **plain}}


def _job(
    prepared: Prepared,
    name: str,
    split: list[str],
    settings: Mapping[str, Any],
    weights: WeightsInfo | None,
    work: Path,
) -> fold_process.Job:
    side = pd.array([part or None for part in split], dtype=prepared.table["split"].dtype)
    table = prepared.table.assign(split=side)[["path", "label", "group", "split"]]
    kept = {key: settings[key] for key in ("recipe", "options", "seed", "threads")}
    code = fold_process.code_digest()
    return fold_process.Job(name, table, prepared.hashes, prepared.size, kept, weights, str(work), code)


@contextlib.contextmanager
def _work_folder(work_dir: str | Path | None, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Path]:
    if work_dir is None:
        with work_folder(reports_folder(), prepared, settings) as folder:
            yield folder
        return
    folder = Path(work_dir).absolute()
    with locked(folder, "finished folds") as free:
        if not free:
            raise FracturelabError(f"{folder}: another run works there; wait for it, or name another folder")
        yield folder


def _finished(work: Path, job: fold_process.Job) -> dict[str, Any] | None:
    """The result of a fit that an earlier run finished; a changed file is reported and not used."""
    path = work / f"{job.file_name}.json"
    if not path.exists():
        return None
    try:
        results = read_record(path)["results"]
    except FracturelabError as error:
        warnings.warn(f"{job.name} is fitted again: {error}", stacklevel=3)
        return None
    return results["answer"] if results.get("key") == job.key else None
