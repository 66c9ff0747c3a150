"""v1: the classic CNN, trained from scratch on balanced batches of augmented images."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any, Literal

from fracturelab.models.cnn import build_cnn
from fracturelab.pipeline import Augmentation, batches
from fracturelab.training.fitting import (
    Fit,
    check_parts,
    class_weights,
    compile_model,
    fit_images,
    history_table,
    predict,
    set_seed,
    validation_scores,
)
from fracturelab.training.prepare import Prepared, known_to_weights, shared_groups


def train_v1(
    prepared: Prepared,
    *,
    seed: int = 0,
    epochs: int = 32,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    balance: Literal["batches", "weights", "none"] = "batches",
    augmentation: Augmentation | None = None,
    augment: bool = True,
    dropout: float = 0.4,
    work_dir: str | Path | None = None,
    progress: bool = True,
) -> Fit:
    """Train `build_cnn` on the training part; the validation part chooses epoch and threshold.

    Args:
        prepared: Images, labels and split.
        seed: Weights, order, augmentation and dropout follow from it; two runs with one seed are equal.
        epochs: Number of epochs; the learning rate falls along a half cosine over all of them.
        batch_size: Images a batch.
        learning_rate: AdamW's first learning rate.
        balance: "batches" shows as many fractured as normal images; "weights" weighs the loss instead, as many
            projects do, and does worse where fractures are rare; "none" does neither.
        augmentation: How far views may be from their image; None for the defaults.
        augment: Whether to augment at all. The flawed run of notebook 02 brings augmented copies of its own.
        dropout: Of the pooled values.
        work_dir: Where checkpoints go, so that a stopped run can go on; a folder of this run alone. None keeps none.
        progress: Show a progress bar.

    Returns:
        The fit; its model is the reloaded checkpoint of the best epoch.

    Raises:
        FracturelabError: A class is missing in training or validation, or the loss is not finite from the start.
    """
    started = time.perf_counter()
    set_seed(seed)
    labels, train, val = prepared.labels, prepared.rows("train"), prepared.rows("val")
    classes = len(prepared.class_names)
    check_parts(labels, train, val, classes)
    model = build_cnn(input_size=prepared.size, classes=classes, dropout=dropout)
    compile_model(model, learning_rate=learning_rate, weight_decay=1e-4)
    how = (augmentation or Augmentation()) if augment else None

    def epoch_data(epoch: int) -> Any:
        return batches(
            prepared.images,
            labels,
            rows=train,
            batch_size=batch_size,
            shuffle=True,
            balanced=balance == "batches",
            augmentation=how,
            seed=seed,
            epoch=epoch,
        )

    model, history = fit_images(
        model,
        prepared,
        epoch_data,
        stage="v1",
        work_dir=work_dir,
        epochs=epochs,
        seed=seed,
        patience=epochs,
        plateau=None,
        class_weight=class_weights(labels[train]) if balance == "weights" else None,
        progress=progress,
    )
    return finished_fit(
        model,
        prepared,
        history=history,
        candidates={},
        chosen="v1",
        weights=None,
        seed=seed,
        started=started,
        recipe={
            "recipe": "v1",
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "balance": balance,
            "augment": augment,
            "dropout": dropout,
        },
    )


def finished_fit(
    model: Any,
    prepared: Prepared,
    *,
    history: list[dict[str, Any]],
    candidates: dict[str, dict[str, float | None]],
    chosen: str,
    weights: Any,
    seed: int,
    started: float,
    recipe: dict[str, Any],
) -> Fit:
    """Choose the threshold on the validation images and gather everything into a `Fit`."""
    from fracturelab.evaluation import choose_threshold

    val = prepared.rows("val")
    labels = prepared.labels[val]
    probabilities = predict(model, prepared.images, rows=val)
    loss, auc = validation_scores(labels, probabilities)
    threshold = choose_threshold(labels, probabilities) if probabilities.ndim == 1 else 0.5
    return Fit(
        model=model,
        threshold=float(threshold),
        history=history_table(history),
        candidates={**candidates, chosen: {"val_loss": loss, "val_auc": auc}},
        chosen=chosen,
        weights=weights,
        recipe={**recipe, "input_size": prepared.size},
        seconds=time.perf_counter() - started,
        seed=seed,
        warnings=(*(row["warning"] for row in history if "warning" in row), *_leaks(prepared, weights)),
    )


def _leaks(prepared: Prepared, weights: Any) -> list[str]:
    found = [*shared_groups(prepared), *known_to_weights(prepared, weights)]
    if not prepared.leaks_on_purpose:
        for sentence in found:
            warnings.warn(sentence, stacklevel=4)
    return found
