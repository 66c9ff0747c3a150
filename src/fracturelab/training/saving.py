"""The card of a fitted model and the record of its run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.datasets import fingerprint
from fracturelab.prediction.likeness import describe
from fracturelab.records import package_versions, plain, write_record
from fracturelab.training.epochs import predict
from fracturelab.training.prepare import CLASS_NAMES, Prepared

if TYPE_CHECKING:
    import keras

    from fracturelab.training.fitting import Fit

NOT_CLINICAL = "For teaching and research. Not for clinical use."
_BATCH = 32
_TIMINGS = 3


def describe_source(prepared: Prepared) -> dict[str, Any]:
    """Name the source of some images, the fingerprint of their files, and how many were read and could not be read."""
    table = prepared.table
    sources = ", ".join(sorted(set(table["source"].dropna())))
    unreadable = len(prepared.unreadable)
    return {"source": sources, "fingerprint": fingerprint(table), "n": len(table), "unreadable": unreadable}


def describe_data(prepared: Prepared) -> dict[str, Any]:
    """Describe the data of a fit for its record.

    Returns:
        What `describe_source` returns, `parts` (images and fractured ones of each part, or the images of
        each class where the classes are others), and `train_hashes` and `val_hashes` (sha256 of each file).
    """
    parts = {}
    for name in ("train", "val", "test"):
        rows = prepared.rows(name)
        counts = np.bincount(prepared.labels[rows], minlength=len(prepared.class_names)).tolist()
        if prepared.class_names == CLASS_NAMES:
            parts[name] = {"n": len(rows), "fractured": counts[1]}
        else:
            parts[name] = {"n": len(rows), "classes": dict(zip(prepared.class_names, counts, strict=True))}
    return {
        **describe_source(prepared),
        "parts": parts,
        "train_hashes": sorted(prepared.hashes[prepared.rows("train")].tolist()),
        "val_hashes": sorted(prepared.hashes[prepared.rows("val")].tolist()),
    }


def evaluate_parts(fit: Fit) -> dict[str, Any]:
    """Scores of a fit on its validation and its test part, where these have images, as records hold them."""
    evaluations = {part: fit.evaluate(part) for part in ("val", "test") if len(fit.prepared.rows(part))}
    return {
        part: scores.to_record() if hasattr(scores, "to_record") else scores.to_dict()
        for part, scores in evaluations.items()
    }


def cost_of(model: keras.Model, images: NDArray[np.uint8]) -> dict[str, Any]:
    """Measure the size of a model and the time that it takes on this machine.

    Args:
        model: A model of this project.
        images: (n, size, size, 1); one batch of them is used.

    Returns:
        `parameters`: number of weights; `ms_per_image`: milliseconds for each image of a batch, None without images.
        The fastest of several timings counts, since other programs may use the machine.
    """
    batch = np.asarray(images[:_BATCH])
    seconds = []
    for _ in range(_TIMINGS + 1 if len(batch) else 0):  # the first one is a warm-up
        started = time.perf_counter()
        predict(model, batch, batch_size=_BATCH)
        seconds.append(time.perf_counter() - started)
    speed = round(1000 * min(seconds[1:]) / len(batch), 3) if seconds else None
    return {"parameters": model.count_params(), "ms_per_image": speed}


def card_of(fit: Fit, *, name: str, evaluations: Mapping[str, Any]) -> dict[str, Any]:
    """Gather what a user of the model must know.

    Args:
        fit: The fit.
        name: Name of the model.
        evaluations: From `evaluate_parts`.

    Returns:
        The card, made of plain JSON values.
    """
    prepared = fit.prepared
    data = describe_data(prepared)
    train_hashes, val_hashes = data.pop("train_hashes"), data.pop("val_hashes")
    likeness = describe(prepared.images, prepared.rows("train"), prepared.rows("val"))
    card = {
        "name": name,
        "kind": str(fit.recipe["recipe"]),
        "use": NOT_CLINICAL,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": "uint8 or float grey levels 0..255, (n, size, size, 1), bone bright, letterboxed; scaling is inside",
        "input_size": prepared.size,
        "output": "P(fractured)",
        "threshold": fit.threshold,
        "backbone": fit.recipe.get("backbone"),
        "map": fit.recipe.get("map"),
        "weights": fit.weights,
        "recipe": fit.recipe,
        "chosen": fit.chosen,
        "candidates": fit.candidates,
        "seed": fit.seed,
        "seconds": round(fit.seconds, 1),
        "data": {**data, "licence": "not known"},
        "metrics": evaluations,
        "warnings": list(fit.warnings),
        "likeness": likeness,
        "licence": {"weights": "follows the licence of the data and of the starting weights", "code": "Apache-2.0"},
        "versions": package_versions(),
        "train_hashes": train_hashes,
        "val_hashes": val_hashes,
    }
    return plain(card)


def record_fit(
    name: str,
    fit: Fit,
    *,
    evaluations: Mapping[str, Any],
    model: str | None = None,
    cost: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Write the record of a fit.

    Args:
        name: Name of the record.
        fit: The fit.
        evaluations: From `evaluate_parts`, and others.
        model: Name of the model in tables; its recipe if None.
        cost: From `cost_of`; measured here if None.
        folder: Folder of the record; the project's results if None.

    Returns:
        The file.

    Raises:
        FracturelabError: It cannot be written.
    """
    return write_record(
        name,
        kind="training",
        data=describe_data(fit.prepared),
        weights=fit.weights.to_dict() if fit.weights is not None else None,
        seed=fit.seed,
        seconds=fit.seconds,
        settings=fit.recipe,
        results={
            "model": model or str(fit.recipe["recipe"]),
            "threshold": fit.threshold,
            "chosen": fit.chosen,
            "candidates": fit.candidates,
            "history": fit.history.to_dict("records"),
            "evaluations": dict(evaluations),
            "warnings": list(fit.warnings),
            **(cost or cost_of(fit.model, fit.prepared.images)),
        },
        folder=folder,
    )
