"""What stays of a fit: the model file with its card, and the run's record."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.experiments.fold_process import code_digest
from fracturelab.models.files import save_model
from fracturelab.prediction.likeness import describe
from fracturelab.records import package_versions, plain, write_record
from fracturelab.training.fitting import Fit, predict
from fracturelab.training.prepare import CLASS_NAMES, Prepared

if TYPE_CHECKING:
    import keras

NOT_CLINICAL = "For teaching and research. Not for clinical use."


def describe_data(prepared: Prepared, *, source: str | None = None) -> dict[str, Any]:
    """Say which data a fit saw: source, fingerprint, numbers of images, and the sha256 of each that trained it.

    Args:
        prepared: What was trained on.
        source: Name of the data set; what the table says if None.

    Returns:
        `source`, `fingerprint`, `n`, `unreadable`, `parts` (images and fractured ones of each part, or those of
        each class where the classes are others), `train_hashes`, `val_hashes`.
    """
    from fracturelab.datasets import fingerprint

    parts = {}
    for name in ("train", "val", "test"):
        rows = prepared.rows(name)
        counts = np.bincount(prepared.labels[rows], minlength=len(prepared.class_names)).tolist()
        if prepared.class_names == CLASS_NAMES:
            parts[name] = {"n": len(rows), "fractured": counts[1]}
        else:
            parts[name] = {"n": len(rows), "classes": dict(zip(prepared.class_names, counts, strict=True))}
    return {
        "source": source or ", ".join(sorted(set(prepared.table["source"].dropna()))),
        "fingerprint": fingerprint(prepared.table),
        "n": len(prepared.table),
        "unreadable": len(prepared.unreadable),
        "parts": parts,
        "train_hashes": sorted(prepared.hashes[prepared.rows("train")].tolist()),
        "val_hashes": sorted(prepared.hashes[prepared.rows("val")].tolist()),
    }


def evaluate_parts(fit: Fit, prepared: Prepared, *, parts: Sequence[str] = ("val", "test")) -> dict[str, Any]:
    """Score a fit on parts of its data that are not empty, with intervals over groups.

    Args:
        fit: The fit.
        prepared: Its data.
        parts: Names of parts.

    Returns:
        Name of the part to its scores, as `Evaluation.to_record` gives them; for other classes than normal and
        fractured as `MulticlassEvaluation.to_dict` does.
    """
    from fracturelab.evaluation import evaluate, multiclass_metrics

    found = {}
    for name in parts:
        rows = prepared.rows(name)
        if len(rows):
            probabilities = predict(fit.model, prepared.images, rows=rows)
            labels, groups = prepared.labels[rows], prepared.groups[rows]
            if prepared.class_names == CLASS_NAMES:
                found[name] = evaluate(labels, probabilities, threshold=fit.threshold, groups=groups).to_record()
            else:
                found[name] = multiclass_metrics(
                    labels, probabilities, class_names=prepared.class_names, groups=groups
                ).to_dict()
    return found


def cost_of(model: keras.Model, images: NDArray[np.uint8], *, batch_size: int = 32, repeats: int = 3) -> dict[str, Any]:
    """What an answer costs: the model's size, and how long it takes here.

    Args:
        model: Any of this project's models.
        images: (n, size, size, 1) to answer for; one batch of them is used.
        batch_size: Images a batch.
        repeats: How often the batch is timed, after once to warm up; the fastest counts, since others may share the
            machine.

    Returns:
        `parameters`: number of weights; `ms_per_image`: milliseconds an image in such a batch, None without images.
    """
    batch = np.asarray(images[:batch_size])
    seconds = []
    for _ in range(repeats + 1 if len(batch) else 0):
        started = time.perf_counter()
        predict(model, batch, batch_size=batch_size)
        seconds.append(time.perf_counter() - started)
    speed = round(1000 * min(seconds[1:]) / len(batch), 3) if seconds else None
    return {"parameters": model.count_params(), "ms_per_image": speed}


def card_of(
    fit: Fit,
    prepared: Prepared,
    *,
    name: str,
    evaluations: Mapping[str, Any],
    source: str | None = None,
    data_licence: str | None = None,
) -> dict[str, Any]:
    """Gather what a user of the model must know.

    Args:
        fit: The fit.
        prepared: Its data.
        name: Name of the model.
        evaluations: From `evaluate_parts`.
        source: Name of the data set.
        data_licence: Licence of the data, where known.

    Returns:
        The card, made of plain JSON values.
    """
    data = describe_data(prepared, source=source)
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
        "weights": fit.weights.to_dict() if fit.weights is not None else None,
        "recipe": fit.recipe,
        "chosen": fit.chosen,
        "candidates": fit.candidates,
        "seed": fit.seed,
        "seconds": round(fit.seconds, 1),
        "data": {**data, "licence": data_licence or "not known"},
        "metrics": evaluations,
        "warnings": list(fit.warnings),
        "likeness": likeness.to_dict() if likeness is not None else None,
        "licence": {"weights": "follows the licence of the data and of the starting weights", "code": "Apache-2.0"},
        "versions": package_versions(),
        "train_hashes": train_hashes,
        "val_hashes": val_hashes,
    }
    return plain(card)


def save_fit(fit: Fit, path: str | Path, card: Mapping[str, Any]) -> Path:
    """Save the model with its card beside it.

    Raises:
        FracturelabError: The place cannot be written, or the name does not end in `.keras`.
    """
    return save_model(fit.model, path, card)


def record_fit(
    name: str,
    fit: Fit,
    prepared: Prepared,
    *,
    evaluations: Mapping[str, Any],
    source: str | None = None,
    model: str | None = None,
    cost: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Write the record of a fit.

    Args:
        name: Name of the record.
        fit: The fit.
        prepared: Its data.
        evaluations: From `evaluate_parts`, and others.
        source: Name of the data set.
        model: What tables call the model; its recipe if None.
        cost: From `cost_of`, where it was measured already; measured here if None.
        folder: Where to; the project's results if None.

    Returns:
        The file.

    Raises:
        FracturelabError: It cannot be written.
    """
    return write_record(
        name,
        kind="training",
        data=describe_data(prepared, source=source),
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
            **(cost or cost_of(fit.model, prepared.images)),
        },
        folder=folder,
    )


@contextlib.contextmanager
def work_folder(reports: str | Path, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Lend the folder for checkpoints of one run: the same data, split, settings and code find it again, no others do.

    A run that was stopped goes on there. The folder is removed when the run is done, and kept when it fails. While
    another process works on the very same run, this one gets a folder of its own.

    Args:
        reports: The reports folder.
        prepared: The data.
        settings: All that the fit follows from.

    Yields:
        The folder.

    Raises:
        FracturelabError: It cannot be made.
    """
    split = prepared.table["split"].fillna("").tolist()
    data = [prepared.hashes.tolist(), prepared.labels.tolist(), split, prepared.size]
    content = [*data, package_versions(), code_digest()]
    key = hashlib.sha256(json.dumps([content, plain(dict(settings))], sort_keys=True).encode()).hexdigest()
    folder = Path(reports) / "checkpoints" / key[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "lock", "ab")  # noqa: SIM115 - held open while the run lasts
    except OSError as error:
        raise FracturelabError(f"{folder}: checkpoints cannot be written ({error.strerror or error})") from error
    with lock:
        if locked(lock):
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with tempfile.TemporaryDirectory(prefix=f"{key[:16]}-", dir=folder.parent) as own:
                yield Path(own)


def locked(file: IO[bytes]) -> bool:
    """Lock an open file for as long as it is open, unless another process has; without locks, take it as locked."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
