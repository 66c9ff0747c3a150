"""v1: the classic CNN, trained from scratch on balanced batches of augmented images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fracturelab.models.cnn import FILTERS, build_cnn
from fracturelab.pipeline import DEFAULT_AUGMENTATION, Augmentation
from fracturelab.training.epochs import Schedule, reloaded, set_seed
from fracturelab.training.fitting import Fit, finished_fit, train_stage
from fracturelab.training.prepare import Prepared, check_parts

FROM_SCRATCH = Schedule(epochs=32, learning_rate=1e-3, dropout=0.4, patience=None, plateau=None)


def train_v1(
    prepared: Prepared,
    *,
    seed: int = 0,
    epochs: int | None = None,
    schedule: Schedule = FROM_SCRATCH,
    augmentation: Augmentation | None = DEFAULT_AUGMENTATION,
    filters: Sequence[int] = FILTERS,
    work_dir: str | Path | None = None,
    progress: bool = True,
) -> Fit:
    """Train `build_cnn` on the training part; the validation part chooses the epoch and the threshold.

    Every batch holds as many fractured as normal images. Weighting the loss instead, as many projects do, learns less
    where fractures are rare.

    Args:
        prepared: Images, labels and split.
        seed: Initial weights, order, augmentation and dropout follow from it; two runs with one seed are equal.
        epochs: Number of epochs; None for that of the schedule.
        schedule: Settings of the training.
        augmentation: Limits of the random changes to each image; None shows the images unchanged.
        filters: Of each block of `build_cnn`.
        work_dir: Folder for checkpoints of this run alone, from which a stopped run continues; None keeps none.
        progress: Show a progress bar.

    Returns:
        The fit; its model is the reloaded checkpoint of the best epoch.

    Raises:
        FracturelabError: A class is missing in training or validation, or the loss is not finite from the start.
    """
    started = time.perf_counter()
    schedule = schedule if epochs is None else replace(schedule, epochs=epochs)
    set_seed(seed)
    check_parts(prepared)
    shape: dict[str, Any] = {"input_size": prepared.size, "classes": len(prepared.class_names), "filters": filters}
    model = build_cnn(**shape, dropout=schedule.dropout)
    run: dict[str, Any] = {"stage": "v1", "work_dir": work_dir, "progress": progress}
    history = train_stage(model, prepared, schedule=schedule, seed=seed, augmentation=augmentation, **run)
    shown = {"balance": "batches", "augment": augmentation is not None, "filters": list(filters)}
    recipe = {"recipe": "v1", **asdict(schedule), **shown}
    return finished_fit(reloaded(model), prepared, history, recipe=recipe, seed=seed, started=started)
