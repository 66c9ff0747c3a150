"""What came out of the fits of a cross-validation: scores of images and of studies, fold by fold, and their spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.training.prepare import Prepared

if TYPE_CHECKING:
    import pandas as pd

    from fracturelab.evaluation import Evaluation, Spread
    from fracturelab.models.weights import WeightsInfo

SCORES = ("accuracy", "precision", "recall", "f1", "roc_auc", "kappa")
"""What is reported for each fold."""
HOLDOUT = "holdout"


@dataclass(frozen=True)
class Part:
    """What one fit said about images that it had not seen.

    Attributes:
        name: "fold 1" and so on, or "holdout".
        rows: (n,) which images of the table.
        probabilities: (n,) P(fractured).
        images: Scores of images.
        studies: Scores of studies; None where no study has several images.
        fit: How the fit came about: threshold, history, candidates, seconds and so on.
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
        settings: All that the numbers follow from, besides the images.
        weights: What v2 started from.
        seconds: Of all fits together, those of an earlier, stopped run included.
        warnings: What a table of scores would pass over in silence.
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
        """At which levels there are scores: "images", and "studies" where a study has several images."""
        return ("images", "studies") if all(part.studies is not None for part in self.folds) else ("images",)

    def scores(self, level: str = "images") -> pd.DataFrame:
        """One row a fold: n, and each of `SCORES`."""
        import pandas as pd

        found = [_at(part, level) for part in self.folds]
        rows = [{"n": one.n, **{name: one.metrics[name].value for name in SCORES}} for one in found]
        return pd.DataFrame(rows, index=[part.name for part in self.folds])

    def spread(self, level: str = "images") -> dict[str, Spread]:
        """Mean, standard deviation and range of each score over the folds."""
        from fracturelab.evaluation import summary_over_seeds

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
            "spread": {level: {name: one._asdict() for name, one in self.spread(level).items()} for level in levels},
            "warnings": list(self.warnings),
        }
        if self.holdout is not None:
            held = {"images": self.holdout.images, "studies": self.holdout.studies}
            results["evaluations"] = {
                HOLDOUT if level == "images" else f"{HOLDOUT}, studies": one.to_record()
                for level, one in held.items()
                if one is not None
            }
        return results


def score_part(prepared: Prepared, name: str, split: list[str], answer: Mapping[str, Any]) -> Part:
    """Score what one fit said.

    Args:
        prepared: The images.
        name: Name of the fit.
        split: "train", "val", "test" or "" for each image.
        answer: As `apart.fit_apart` gives it.

    Returns:
        Scores of images at the fit's threshold, and of studies at one that is chosen on validation studies.
    """
    from fracturelab.evaluation import choose_threshold, evaluate, study_scores

    test, val = (np.flatnonzero(np.array(split, object) == side) for side in ("test", "val"))
    p_test, p_val = np.array(answer["p_test"], float), np.array(answer["p_val"], float)
    images = evaluate(prepared.labels[test], p_test, threshold=answer["threshold"], groups=prepared.groups[test])
    studies = None
    if _has_studies(prepared):
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
    return Part(name, test, p_test, images, studies, answer)


def _at(part: Part, level: str) -> Evaluation:
    found = {"images": part.images, "studies": part.studies}.get(level)
    if found is None:
        raise FracturelabError(f"expected scores of images, or of studies where there are some. Received: {level!r}")
    return found


def _has_studies(prepared: Prepared) -> bool:
    """Whether a study has several images, and none of them two labels."""
    table = prepared.table.dropna(subset="study").groupby(["group", "study"])["label"]
    return bool(len(table) and (table.size() > 1).any() and not (table.nunique() > 1).any())


def mixed_studies(prepared: Prepared) -> list[str]:
    """Say whether studies cannot be scored because they hold images of both labels."""
    table = prepared.table.dropna(subset="study").groupby(["group", "study"])["label"]
    mixed = int((table.nunique() > 1).sum()) if len(table) else 0
    return [f"{mixed} studies hold images of both labels: studies are not scored."] if mixed else []


def record_folds(name: str, found: CrossValidation, *, source: str | None = None, folder: Any = None) -> Path:
    """Write the record of a cross-validation.

    Args:
        name: Name of the record.
        found: What came out.
        source: Name of the data set; what the table says if None.
        folder: Where to; the project's results if None.

    Returns:
        The file.
    """
    from fracturelab.datasets import fingerprint
    from fracturelab.records import write_record

    table = found.prepared.table
    tested = sum(part.images.n for part in found.folds)
    return write_record(
        name,
        kind="cross-validation",
        data={
            "source": source or ", ".join(sorted(set(table["source"].dropna()))),
            "fingerprint": fingerprint(table),
            "n": len(table),
            "in_folds": tested,
            "groups": int(table["group"].nunique()),
            "held_out": found.holdout.images.n if found.holdout is not None else 0,
            "unreadable": len(found.prepared.unreadable),
        },
        weights=found.weights.to_dict() if found.weights is not None else None,
        seed=int(found.settings["seed"]),
        seconds=found.seconds,
        settings=found.settings,
        results=found.to_results(),
        folder=folder,
    )
