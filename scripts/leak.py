"""v1 validated in two ways, over several seeds: how far is each validation score from the score outside?

Notebook 02 shows one seed step by step; this repeats it for its spread over seeds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fracturelab.experiments.leaky_split import augment_then_split, shared_with_training
from fracturelab.training.external import prepare_with_external, score
from fracturelab.training.prepare import Prepared
from fracturelab.training.v1 import FROM_SCRATCH, train_v1

RECORD = "leak-over-seeds"
FLAWED, HONEST = "augment, then split", "split by group"


def default_size(folder: str | Path | None) -> int:
    """Side of the images in pixels: 64 for the embedded default, so that both trainings take two minutes; else 128."""
    return 64 if folder is None else 128


def both_ways(
    folder: str | Path | None = None,
    *,
    size: int,
    copies: int,
    flawed_epochs: int,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: bool = False,
) -> dict[str, Any]:
    """Train v1 the flawed and the honest way, and score both on their validation images and outside.

    Args:
        folder: A folder of X-rays; None for the embedded default.
        size: Side of the images in pixels.
        copies: Augmented copies of the flawed way.
        flawed_epochs: Most epochs over the copies.
        epochs: Most epochs of the honest way.
        batch_size: Images a batch.
        seed: Of the split, the copies and the training.
        progress: Show progress bars.

    Returns:
        `seed`, and for each way `leak` (share of validation images with a copy in training), `epochs`, and the ROC AUC
        with its interval as `val` and `outside`.
    """
    prepared, outside = prepare_with_external(folder, size=size, seed=seed)
    flawed = augment_then_split(prepared, copies=copies, seed=seed)
    result: dict[str, Any] = {"seed": seed}
    ways: tuple[tuple[str, Prepared, dict[str, Any]], ...] = (
        (FLAWED, flawed, {"epochs": flawed_epochs, "augmentation": None}),
        (HONEST, prepared, {"epochs": epochs}),
    )
    for name, data, settings in ways:
        schedule = replace(FROM_SCRATCH, batch_size=batch_size, epochs=settings.pop("epochs"))
        fit = train_v1(data, seed=seed, schedule=schedule, progress=progress, **settings)
        inside = score(fit, *data.part("val"))[1]
        beyond = score(fit, outside.images, outside.labels, outside.groups)[1]
        result[name] = {
            "leak": shared_with_training(data),
            "epochs": len(fit.history),
            "val": inside.metrics["roc_auc"].to_dict(),
            "outside": beyond.metrics["roc_auc"].to_dict(),
        }
    return result


def over_seeds(
    seeds: Sequence[int],
    folder: str | Path | None = None,
    *,
    settings: Mapping[str, int],
    progress: bool = False,
    results: str | Path | None = None,
) -> Path:
    """Repeat `both_ways` over seeds and write the record `leak-over-seeds`.

    Args:
        seeds: The seeds.
        folder: A folder of X-rays; None for the embedded default.
        settings: Of `both_ways`: size, copies, flawed_epochs, epochs, batch_size.
        progress: Show progress bars.
        results: Where the record goes; None for the project's results.

    Returns:
        The record's file.
    """
    from fracturelab.datasets import fingerprint
    from fracturelab.records import write_record

    started = time.perf_counter()
    runs = [both_ways(folder, seed=seed, progress=progress, **settings) for seed in seeds]
    table = prepare_with_external(folder, size=settings["size"], seed=seeds[0])[0].table
    return write_record(
        RECORD,
        kind="study",
        data={"source": ", ".join(sorted(set(table["source"].dropna()))), "fingerprint": fingerprint(table)},
        seed=seeds[0],
        seconds=time.perf_counter() - started,
        settings=dict(settings),
        results={"model": "v1", "runs": runs},
        folder=results,
    )
