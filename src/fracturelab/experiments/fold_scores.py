"""Scores of a cross-validation: of images and of studies, for each fold, and their spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.evaluation import Evaluation, Spread, choose_threshold, evaluate, study_scores, summary_over_seeds
from fracturelab.models.weights import WeightsInfo
from fracturelab.records import write_record
from fracturelab.training.prepare import Prepared
from fracturelab.training.saving import describe_source

SCORES = ("accuracy", "precision", "recall", "f1", "roc_auc", "kappa")
"""Scores that are reported for each fold."""
HOLDOUT = "holdout"


@dataclass(frozen=True)
class Part:
    """Probabilities and scores of one fit on images that it was not trained on.

    Attributes:
        name: "fold 1" and so on, or "holdout".
        rows: (n,) which images of the table.
        probabilities: (n,) P(fractured).
        images: Scores of images.
        studies: Scores of studies; None where no study has several images.
        fit: Threshold, history, candidates, seconds and so on of the fit.
    """

    name: str
    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    images: Evaluation
    studies: Evaluation | None
    fit: Mapping[str, Any]


@dataclass(frozen=True)
class CrossValidation:
    """K folds, and the holdout test where there is one.

    Attributes:
        prepared: The images.
        folds: One part a fold.
        holdout: The fit on all folds, tested on images that no fold held; None where it was not asked for.
        settings: Everything that the numbers follow from, except the images.
        weights: The weights that v2 started from.
        seconds: Sum over all fits, with those of an earlier, stopped run.
        warnings: Sentences on what the scores hide.
    """

    prepared: Prepared
    folds: tuple[Part, ...]
    holdout: Part | None
    settings: Mapping[str, Any]
    weights: WeightsInfo | None
    seconds: float
    warnings: tuple[str, ...] = ()

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of the scores: "images", and "studies" where a study has several images."""
        return ("images", "studies") if all(part.studies is not None for part in self.folds) else ("images",)

    def scores(self, level: str = "images") -> pd.DataFrame:
        """One row a fold: n, and each of `SCORES`."""
        evaluations = [_at(part, level) for part in self.folds]
        rows = [{"n": scores.n, **{name: scores.metrics[name].value for name in SCORES}} for scores in evaluations]
        return pd.DataFrame(rows, index=[part.name for part in self.folds])

    def spread(self, level: str = "images") -> dict[str, Spread]:
        """Mean, standard deviation and range of each score over the folds."""
        table = self.scores(level)
        return {name: summary_over_seeds(table[name]) for name in SCORES}

    def to_results(self) -> dict[str, Any]:
        """For a record."""
        levels = self.levels
        results: dict[str, Any] = {
            "model": f"cross-validation: {self.settings['recipe']}",
            "folds": [
                {
                    "name": part.name,
                    **{level: _at(part, level).to_record() for level in levels},
                    "fit": {key: value for key, value in part.fit.items() if not key.startswith("p_")},
                }
                for part in self.folds
            ],
            "spread": {level: self.spread(level) for level in levels},
            "warnings": list(self.warnings),
        }
        if self.holdout is not None:
            held = {"images": self.holdout.images, "studies": self.holdout.studies}
            results["evaluations"] = {
                HOLDOUT if level == "images" else f"{HOLDOUT}, studies": scores.to_record()
                for level, scores in held.items()
                if scores is not None
            }
        return results


def score_part(prepared: Prepared, name: str, split: list[str], result: Mapping[str, Any]) -> Part:
    """Score the probabilities of one fit.

    Args:
        prepared: The images.
        name: Name of the fit.
        split: "train", "val", "test" or "" for each image.
        result: From `fold_process.fit_in_process`.

    Returns:
        Scores of images at the fit's threshold, and of studies at one that is chosen on validation studies.
    """
    test, val = (np.flatnonzero(np.array(split, object) == side) for side in ("test", "val"))
    p_test, p_val = np.array(result["p_test"], float), np.array(result["p_val"], float)
    images = evaluate(prepared.labels[test], p_test, threshold=result["threshold"], groups=prepared.groups[test])
    studies, labels = None, _study_labels(prepared)
    if (labels["size"] > 1).any() and not (labels["nunique"] > 1).any():
        tested, chosen = (
            study_scores(prepared.table.iloc[rows].reset_index(drop=True), p)
            for rows, p in ((test, p_test), (val, p_val))
        )
        studies = evaluate(
            tested["label"].to_numpy(int),
            tested["p_fracture"],
            groups=tested["group"],
            threshold=choose_threshold(chosen["label"].to_numpy(int), chosen["p_fracture"]),
        )
    return Part(name, test, p_test, images, studies, result)


def _at(part: Part, level: str) -> Evaluation:
    scores = {"images": part.images, "studies": part.studies}.get(level)
    if scores is None:
        raise FracturelabError(f"expected scores of images, or of studies where there are some. Received: {level!r}")
    return scores


def _study_labels(prepared: Prepared) -> pd.DataFrame:
    """For each study the number of its images (`size`) and of its labels (`nunique`)."""
    return prepared.table.dropna(subset="study").groupby(["group", "study"])["label"].agg(["size", "nunique"])


def mixed_studies(prepared: Prepared) -> list[str]:
    """Warn of studies that cannot be scored because they hold images of both labels."""
    mixed = int((_study_labels(prepared)["nunique"] > 1).sum())
    return [f"{mixed} studies hold images of both labels: studies are not scored."] if mixed else []


def record_folds(name: str, result: CrossValidation, *, folder: Any = None) -> Path:
    """Write the record of a cross-validation.

    Args:
        name: Name of the record.
        result: From `cross_validate`.
        folder: Folder of the record; the project's results if None.

    Returns:
        The file.
    """
    return write_record(
        name,
        kind="cross-validation",
        data={
            **describe_source(result.prepared),
            "in_folds": sum(part.images.n for part in result.folds),
            "groups": int(result.prepared.table["group"].nunique()),
            "held_out": result.holdout.images.n if result.holdout is not None else 0,
        },
        weights=result.weights.to_dict() if result.weights is not None else None,
        seed=int(result.settings["seed"]),
        seconds=result.seconds,
        settings=result.settings,
        results=result.to_results(),
        folder=folder,
    )
