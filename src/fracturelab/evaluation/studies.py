"""Probabilities of studies from those of their images, and the spread of a score over runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fracturelab.errors import FracturelabError
from fracturelab.evaluation.checks import finite_probabilities


class Spread(NamedTuple):
    """One score over several seeds or folds. `sd` is None with one value, and all but `n` are None with no value."""

    mean: float | None
    sd: float | None
    min: float | None
    max: float | None
    n: int

    def __str__(self) -> str:
        if self.mean is None:
            return "undefined"
        if self.sd is None:
            return f"{self.mean:.3f} (one run)"
        return f"{self.mean:.3f} ± {self.sd:.3f} ({self.min:.3f} to {self.max:.3f}, {self.n} runs)"


def study_scores(table: pd.DataFrame, probabilities: ArrayLike) -> pd.DataFrame:
    """P(fractured) of each study: the mean over its images, as MURA scores studies (Rajpurkar et al. 2018).

    Args:
        table: The images: `label`, `group` and `study`; an image without a study is a study of its own.
        probabilities: (n,) or (n, 1) P(fractured), a row of the table each.

    Returns:
        One row a study, in order of appearance: `study`, `label`, `group`, `p_fracture`, `images`.

    Raises:
        FracturelabError: A study holds images of both labels, or lengths differ.
    """
    scores = finite_probabilities(probabilities, n=len(table))
    # A study name is unique within its patient only (MURA: study1, study2, ...).
    study = table["study"].astype(object).to_numpy()
    group = table["group"].astype(object).to_numpy()
    keys = [
        ("image", i) if pd.isna(s) else ("study", "" if pd.isna(g) else g, s)
        for i, (s, g) in enumerate(zip(study, group, strict=True))
    ]
    codes, _ = pd.factorize(pd.Series(keys, dtype=object))
    frame = table.assign(p_fracture=scores).groupby(codes, sort=True)
    mixed = frame["label"].nunique(dropna=False) > 1
    if mixed.any():
        names = [str(study[np.flatnonzero(codes == code)[0]]) for code in mixed.index[mixed][:3]]
        raise FracturelabError(f"expected one label a study. Received: both labels in {', '.join(names)}")
    first = frame[["study", "label", "group"]].nth(0).reset_index(drop=True)
    return first.assign(p_fracture=frame["p_fracture"].mean().to_numpy(), images=frame.size().to_numpy())


def summary_over_seeds(values: Iterable[float | None]) -> Spread:
    """Mean, standard deviation (n - 1) and range of one score over seeds or folds.

    Args:
        values: The scores; undefined ones (None, nan) are left out.

    Returns:
        The `Spread`.

    Examples:
        >>> print(summary_over_seeds([0.81, 0.84, 0.78]))
        0.810 ± 0.030 (0.780 to 0.840, 3 runs)
    """
    known = np.array([v for v in values if v is not None and np.isfinite(v)], dtype=float)
    if known.size == 0:
        return Spread(None, None, None, None, 0)
    sd = float(known.std(ddof=1)) if known.size > 1 else None
    return Spread(float(known.mean()), sd, float(known.min()), float(known.max()), int(known.size))
