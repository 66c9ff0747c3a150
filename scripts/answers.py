"""The stored answers of several models on FracAtlas' fixed test and validation parts: numbers, no pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError, UnreadableImageError

if TYPE_CHECKING:
    import pandas as pd

    from fracturelab.prediction import Predictor

NAME = "answers-fracatlas"
KNOWN = ("image", "part", "label", "group", "hardware", "region", "view")


def collect(table: pd.DataFrame, models: Mapping[str, Predictor], *, progress: bool = True) -> pd.DataFrame:
    """P(fractured) of each model for the X-rays of the fixed parts.

    Args:
        table: FracAtlas' table.
        models: Name to model.
        progress: Show progress bars.

    Returns:
        The columns of `KNOWN`, and one for each model with four decimals; a row an X-ray, by name.

    Raises:
        FracturelabError: The table has no X-ray of the fixed parts, or a file cannot be read.
    """
    import numpy as np

    from fracturelab.audit import usable_rows
    from fracturelab.images import load_images
    from fracturelab.splits import with_fracatlas_parts

    fixed = with_fracatlas_parts(table)
    fixed = fixed[fixed["split"].isin(["val", "test"]) & fixed["label"].notna()].reset_index(drop=True)
    if fixed.empty:
        raise FracturelabError("expected X-rays of FracAtlas' fixed parts. Received: none")
    grouped, unreadable = usable_rows(fixed, progress=progress)
    for path, reason in unreadable.itertuples(index=False):
        raise UnreadableImageError(path, reason)
    known = grouped.assign(image=[Path(path).stem for path in grouped["path"]], part=grouped["split"])
    known["group"] = [f"g{number}" for number in known.groupby("group", sort=False).ngroup()]
    known["hardware"] = known["hardware"].astype("Int64")
    answers = known.reindex(columns=KNOWN)
    for name, model in models.items():
        images = load_images(grouped["path"].tolist(), model.input_size, progress=progress)
        answers[name] = np.round(model.predict(images).astype(float), 4)
    return answers.sort_values("image", ignore_index=True)


def described(model: Predictor) -> dict[str, Any]:
    """What a record keeps of a model."""
    from fracturelab.system.files import sha256_of

    kept = {key: model.card.get(key) for key in ("name", "backbone", "input_size", "seed")}
    parts = (model.card.get("data") or {}).get("parts") or {}
    weights = (model.card.get("weights") or {}).get("name")
    return {**kept, "threshold": model.threshold, "sha256": sha256_of(model.path), "weights": weights, "parts": parts}


def write_answers(answers: pd.DataFrame, models: Mapping[str, Predictor], *, seconds: float, folder: Path) -> Path:
    """Write the table and the record that describes it.

    Args:
        answers: From `collect`.
        models: The models, as there.
        seconds: How long it took.
        folder: Where both go.

    Returns:
        The table's file; the record lies beside it.
    """
    from fracturelab.records import write_record
    from fracturelab.system.files import sha256_of, write_text

    path = folder / f"{NAME}.csv"
    write_text(path, answers.to_csv(index=False, lineterminator="\n"))
    counts = answers.groupby("part")["label"].agg(["size", "sum"])
    write_record(
        NAME,
        kind="answers",
        data={"source": "FracAtlas", "n": len(answers), "sha256": sha256_of(path)},
        seconds=seconds,
        results={
            "models": {name: described(model) for name, model in models.items()},
            "parts": {part: {"n": int(row["size"]), "fractured": int(row["sum"])} for part, row in counts.iterrows()},
        },
        folder=folder,
    )
    return path
