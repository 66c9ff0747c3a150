"""What stays of a fit: the model file with its card, and the run's record."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fracturelab.errors import FracturelabError
from fracturelab.models.files import save_model
from fracturelab.records import package_versions, plain, write_record
from fracturelab.training.fitting import Fit, predict
from fracturelab.training.prepare import Prepared

NOT_CLINICAL = "For teaching and research. Not for clinical use."


def describe_data(prepared: Prepared, *, source: str | None = None) -> dict[str, Any]:
    """Say which data a fit saw: source, fingerprint, numbers of images, and the sha256 of each that trained it.

    Args:
        prepared: What was trained on.
        source: Name of the data set; what the table says if None.

    Returns:
        `source`, `fingerprint`, `n`, `unreadable`, `parts` (images and fractured ones of each part), `train_hashes`,
        `val_hashes`.
    """
    from fracturelab.datasets import fingerprint

    parts = {}
    for name in ("train", "val", "test"):
        rows = prepared.rows(name)
        parts[name] = {"n": len(rows), "fractured": int((prepared.labels[rows] != 0).sum())}
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
        Name of the part to its scores, as `Evaluation.to_record` gives them.
    """
    from fracturelab.evaluation import evaluate

    found = {}
    for name in parts:
        rows = prepared.rows(name)
        if len(rows):
            probabilities = predict(fit.model, prepared.images, rows=rows)
            scores = evaluate(
                prepared.labels[rows], probabilities, threshold=fit.threshold, groups=prepared.groups[rows]
            )
            found[name] = scores.to_record()
    return found


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
    name: str, fit: Fit, prepared: Prepared, *, evaluations: Mapping[str, Any], source: str | None = None,
    folder: str | Path | None = None,
) -> Path:  # fmt: skip
    """Write the record of a fit.

    Args:
        name: Name of the record.
        fit: The fit.
        prepared: Its data.
        evaluations: From `evaluate_parts`, and others.
        source: Name of the data set.
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
            "model": str(fit.recipe["recipe"]),
            "threshold": fit.threshold,
            "chosen": fit.chosen,
            "candidates": fit.candidates,
            "history": fit.history.to_dict("records"),
            "evaluations": dict(evaluations),
        },
        folder=folder,
    )


@contextlib.contextmanager
def work_folder(reports: str | Path, prepared: Prepared, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Lend the folder for checkpoints of one run: the same data, split and settings find it again, others never do.

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
    content = [prepared.hashes.tolist(), prepared.labels.tolist(), split, prepared.size, package_versions()]
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
