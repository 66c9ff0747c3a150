"""What every recipe shares: seeds, the loop over epochs, early stopping, checkpoints a stopped run goes on from."""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.files import load_model, save_model
from fracturelab.models.inference import compiled
from fracturelab.models.weights import WeightsInfo
from fracturelab.training.checkpoints import read_state, write_state

if TYPE_CHECKING:
    import keras
    import pandas as pd
    import tensorflow as tf

    from fracturelab.training.prepare import Prepared

PLATEAU_FACTOR = 0.3  # what the learning rate is multiplied with on a plateau


@dataclass(frozen=True)
class Fit:
    """A fitted model and how it came about.

    Attributes:
        model: The reloaded checkpoint of the best epoch.
        threshold: From this P(fractured) on an image is called fractured; chosen on validation images.
        history: Columns stage, epoch, loss, val_loss, val_auc, learning_rate.
        candidates: Name of each candidate and its validation scores; the model is the best of them.
        chosen: Name of the chosen candidate.
        weights: What the model started from; None from scratch.
        recipe: Settings of the run, for its record.
        seconds: Wall-clock time of the fit.
        seed: Seed of the fit.
        warnings: Sentences about what its scores would hide, such as a loss that was not finite.
    """

    model: keras.Model
    threshold: float
    history: pd.DataFrame
    candidates: dict[str, dict[str, float | None]]
    chosen: str
    weights: WeightsInfo | None
    recipe: dict[str, Any]
    seconds: float
    seed: int
    warnings: tuple[str, ...] = ()


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and make TensorFlow's operations deterministic in this process."""
    import keras
    import tensorflow as tf

    random.seed(seed)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def predict(model: keras.Model, images: ArrayLike, *, rows: ArrayLike | None = None, batch_size: int = 32) -> NDArray:
    """Run a model over images, a batch at a time.

    Args:
        model: Any of this project's models, or a part of one.
        images: (n, ...) inputs; may be a memory map.
        rows: Indices of the inputs to use; None for all.
        batch_size: Inputs a batch.

    Returns:
        float32 (n, outputs), or (n,) where the model has one output a row.
    """
    images = images if isinstance(images, np.ndarray) else np.asarray(images)
    rows = np.arange(len(images)) if rows is None else np.asarray(rows, np.int64)
    forward = compiled(model)
    parts = [
        forward(images[rows[start : start + batch_size]].astype(np.float32)).numpy()
        for start in range(0, len(rows), batch_size)
    ]
    result = np.concatenate(parts) if parts else np.zeros((0, *model.output_shape[1:]), np.float32)
    return result[:, 0] if result.ndim == 2 and result.shape[1] == 1 else result


def validation_scores(labels: ArrayLike, probabilities: NDArray) -> tuple[float, float | None]:
    """Mean log loss, every class weighing the same, and ROC AUC (one class against the rest; None where undefined)."""
    from sklearn.metrics import roc_auc_score

    labels = np.asarray(labels, np.int64)
    table = np.stack([1 - probabilities, probabilities], 1) if probabilities.ndim == 1 else probabilities
    if not np.isfinite(table).all():
        return float("nan"), None
    classes = np.unique(labels)
    losses = -np.log(np.clip(table[np.arange(len(labels)), labels], 1e-7, 1.0))
    loss = float(np.mean([losses[labels == value].mean() for value in classes]))
    if len(classes) < table.shape[1]:
        return loss, None
    scores = table[:, 1] if table.shape[1] == 2 else table
    return loss, float(roc_auc_score(labels, scores, multi_class="ovr"))


def compile_model(model: keras.Model, *, learning_rate: float, weight_decay: float = 0.0) -> None:
    """Compile for probabilities: AdamW, gradients clipped, cross-entropy for two or for more classes."""
    import keras

    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, global_clipnorm=1.0)
    two = model.output_shape[-1] == 1
    model.compile(optimizer=optimizer, loss="binary_crossentropy" if two else "sparse_categorical_crossentropy")


def run_epochs(
    model: keras.Model,
    epoch_data: Callable[[int], tf.data.Dataset],
    validate: Callable[[], tuple[float, float | None]],
    *,
    stage: str,
    epochs: int,
    seed: int,
    patience: int,
    plateau: int | None,
    folder: Path,
    class_weight: Mapping[int, float] | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train a compiled model epoch by epoch; it ends with the weights of its best epoch.

    After each epoch the validation loss decides: the best weights are kept, the learning rate is lowered after
    `plateau` epochs without a better one (where that is None it falls along a half cosine over all epochs instead),
    training stops after `patience`. A loss that is not finite stops it as
    well, with a warning; the best epoch stands. Called again with a folder in which an earlier call was stopped, it
    goes on after that call's last finished epoch and ends with the same weights.

    Args:
        model: Compiled; its optimizer's learning rate is the first one.
        epoch_data: Batches of an epoch, by its number from 0.
        validate: Validation loss and AUC of the model as it is.
        stage: Name of the stage in the history.
        epochs: Most epochs.
        seed: Dropout of an epoch follows from (seed, epoch).
        patience: Epochs without a better validation loss before training stops.
        plateau: Epochs without a better validation loss before the learning rate is lowered; None for a half cosine.
        folder: Where checkpoints go. It belongs to this run alone.
        class_weight: Weight of each class in the loss.
        progress: One progress bar for all epochs.

    Returns:
        The history, a dict an epoch. Where a loss that was not finite stopped training, the last one says so as
        `warning`.
    """
    from fracturelab.system.progress import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    state = read_state(folder, stage)
    model.optimizer.build(model.trainable_variables)
    first_rate = float(model.optimizer.learning_rate)
    if state["next"]:
        model.load_weights(str(folder / state["last"]))
    bar = tqdm(total=epochs, initial=state["next"], desc=stage, unit="epoch", disable=not progress, mininterval=1.0)
    while state["next"] < epochs and not state["stopped"]:
        epoch = state["next"]
        if plateau is None:
            model.optimizer.learning_rate = first_rate * (1 + np.cos(np.pi * epoch / epochs)) / 2
        rate = float(model.optimizer.learning_rate)
        reseed_dropout(model, seed=seed, epoch=epoch)
        logs = model.fit(epoch_data(epoch), epochs=1, verbose=0, shuffle=False, class_weight=class_weight)
        loss = float(logs.history["loss"][-1])
        val_loss, val_auc = validate()
        row = {
            "stage": stage,
            "epoch": epoch,
            "loss": loss,
            "val_loss": val_loss,
            "val_auc": val_auc,
            "learning_rate": rate,
        }
        state["next"] = epoch + 1
        if not (np.isfinite(loss) and np.isfinite(val_loss)):
            if state["best"] is None:
                raise FracturelabError(
                    f"{stage}: the loss is not finite from the first epoch on; lower the learning rate"
                )
            said = (
                f"{stage}: the loss of epoch {epoch} is not finite; training stops, the best epoch, "
                f"{state['best']['epoch']}, stands"
            )
            warnings.warn(said, stacklevel=2)
            state["history"][-1]["warning"] = said
            state["stopped"] = True
        else:
            state["history"].append(row)
            better = state["best"] is None or val_loss < state["best"]["val_loss"]
            state["since"] = 0 if better else state["since"] + 1
            if better:
                state["best"] = {"epoch": epoch, "val_loss": val_loss}
            elif plateau is not None and state["since"] % plateau == 0:
                model.optimizer.learning_rate = rate * PLATEAU_FACTOR
            state["stopped"] = state["since"] >= patience
        write_state(model, folder, state)
        bar.set_postfix(
            loss=f"{loss:.3f}", val_loss=f"{val_loss:.3f}", val_auc="-" if val_auc is None else f"{val_auc:.3f}"
        )
        bar.update()
    bar.close()
    model.load_weights(str(folder / state["best"]["file"]))
    return state["history"]


def fit_images(
    model: keras.Model,
    prepared: Prepared,
    epoch_data: Callable[[int], tf.data.Dataset],
    *,
    stage: str,
    work_dir: str | Path | None = None,
    **settings: Any,
) -> tuple[keras.Model, list[dict[str, Any]]]:
    """Train a compiled model that sees images; the validation images of `prepared` choose its epoch.

    Args:
        model: Compiled.
        prepared: Its images.
        epoch_data: Batches of an epoch, by its number from 0.
        stage: Name of the stage in the history.
        work_dir: Where checkpoints go, in a folder named after the stage; None keeps none.
        settings: Further arguments of `run_epochs`.

    Returns:
        The best epoch's model, saved and loaded again, and the history of `run_epochs`.
    """
    val = prepared.rows("val")

    def validate() -> tuple[float, float | None]:
        return validation_scores(prepared.labels[val], predict(model, prepared.images, rows=val))

    with tempfile.TemporaryDirectory(prefix="fracturelab-") as temporary:
        folder = Path(work_dir) if work_dir is not None else Path(temporary)
        history = run_epochs(model, epoch_data, validate, stage=stage, folder=folder / stage, **settings)
        return reloaded(model, Path(temporary) / f"{stage}.keras"), history


def reseed_dropout(model: keras.Model, *, seed: int, epoch: int) -> None:
    """Set the random state of every dropout layer from (seed, epoch), so that a resumed run draws the same.

    Args:
        model: A flat model; layers inside of nested models are left alone.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
    """
    for number, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            words = np.random.SeedSequence([seed, epoch, number]).generate_state(2)
            generator.state.assign(words.astype(np.uint32))


def reloaded(model: keras.Model, path: Path) -> keras.Model:
    """Save a model and load it again: what is evaluated is what a user will open."""
    save_model(model, path, {})
    return load_model(path)


def history_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The history of one or several stages as a table."""
    import pandas as pd

    columns = ["stage", "epoch", "loss", "val_loss", "val_auc", "learning_rate"]
    return pd.DataFrame(rows, columns=columns)


def class_weights(labels: ArrayLike) -> dict[int, float]:
    """Weights that make every class count the same: n / (classes * n of the class)."""
    values, counts = np.unique(np.asarray(labels, np.int64), return_counts=True)
    return {
        int(value): float(counts.sum() / (len(values) * count)) for value, count in zip(values, counts, strict=True)
    }


def check_parts(labels: NDArray[np.int64], train: NDArray[np.int64], val: NDArray[np.int64], classes: int) -> None:
    """Refuse to train where a class is missing on a side."""
    for name, rows in (("training", train), ("validation", val)):
        missing = sorted(set(range(classes)) - set(labels[rows].tolist()))
        if missing:
            raise FracturelabError(
                f"expected every class among the {name} images. Received: {len(rows)}, none of class {missing[0]}"
            )
