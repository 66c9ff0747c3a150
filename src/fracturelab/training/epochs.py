"""Training epoch by epoch: seeds, early stopping, and checkpoints from which a stopped run continues."""

from __future__ import annotations

import random
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.files import load_model, save_model
from fracturelab.models.inference import compiled
from fracturelab.system.progress import tqdm
from fracturelab.system.quiet import load_tensorflow
from fracturelab.training.checkpoints import read_state, write_state

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

PLATEAU_FACTOR = 0.3
"""The learning rate is multiplied by this on a plateau of the validation loss."""


@dataclass(frozen=True)
class Schedule:
    """The settings of a training with AdamW. Each recipe has its own; change one with `dataclasses.replace`.

    Attributes:
        epochs: Most epochs.
        learning_rate: The first learning rate.
        dropout: Share of the last features that training leaves out.
        patience: Epochs without a lower validation loss before training stops; None never stops early.
        plateau: Epochs without a lower validation loss before the learning rate is lowered. With None the rate falls
            along a half cosine over all epochs instead.
        batch_size: Images in a batch.
        weight_decay: Weight decay of AdamW.
    """

    epochs: int
    learning_rate: float
    dropout: float
    patience: int | None
    plateau: int | None
    batch_size: int = 32
    weight_decay: float = 1e-4


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and make TensorFlow's operations deterministic in this process."""
    load_tensorflow()
    import keras
    import tensorflow as tf

    random.seed(seed)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def predict(model: keras.Model, images: ArrayLike, *, rows: ArrayLike | None = None, batch_size: int = 32) -> NDArray:
    """Run a model over images, batch by batch.

    Args:
        model: A model of this project, or a part of one.
        images: (n, ...) inputs; may be a memory map.
        rows: Indices of the inputs to use; None for all.
        batch_size: Inputs in a batch.

    Returns:
        float32 (n, outputs), or (n,) where the model has one output for each input.
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
    """Mean log loss with equal weight for every class, and ROC AUC (one against the rest; None where undefined)."""
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
    """Compile for probabilities: AdamW with clipped gradients, and cross-entropy for two or for more classes."""
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
    schedule: Schedule,
    seed: int,
    work_dir: str | Path | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train a compiled model epoch by epoch; it ends with the weights of its best epoch.

    The validation loss after each epoch decides. The best weights are kept. The learning rate is lowered after
    `schedule.plateau` epochs without a lower loss. Training stops after `schedule.patience` such epochs. It also stops,
    with a warning, at a loss that is not finite; the best epoch is kept. A call with the `work_dir` of a stopped call
    continues after the last finished epoch and ends with the same weights.

    Args:
        model: Compiled; its optimizer holds the first learning rate.
        epoch_data: Returns the batches of an epoch, by its number from 0.
        validate: Returns validation loss and AUC of the current model.
        stage: Name of the stage in the history.
        schedule: Epochs, patience and plateau are used.
        seed: The dropout of an epoch follows from (seed, epoch).
        work_dir: Folder for checkpoints of this run alone, from which a stopped run continues; None keeps none.
        progress: Show one progress bar for all epochs.

    Returns:
        The history, a dict for each epoch. If a loss was not finite, the last dict holds a `warning`.

    Raises:
        FracturelabError: The loss is not finite in the first epoch, or a checkpoint cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as temporary:
        folder = Path(work_dir or temporary) / stage
        folder.mkdir(parents=True, exist_ok=True)
        state = read_state(folder, stage)
        model.optimizer.build(model.trainable_variables)
        first_rate = float(model.optimizer.learning_rate)
        if state["next"]:
            model.load_weights(str(folder / state["last"]))
        epochs, patience, plateau = schedule.epochs, schedule.patience, schedule.plateau
        bar = tqdm(total=epochs, initial=state["next"], desc=stage, unit="epoch", disable=not progress, mininterval=1.0)
        while state["next"] < epochs and not state["stopped"]:
            epoch = state["next"]
            if plateau is None:
                model.optimizer.learning_rate = first_rate * (1 + np.cos(np.pi * epoch / epochs)) / 2
            rate = float(model.optimizer.learning_rate)
            reseed_dropout(model, seed=seed, epoch=epoch)
            logs = model.fit(epoch_data(epoch), epochs=1, verbose=0, shuffle=False)
            loss = float(logs.history["loss"][-1])
            val_loss, val_auc = validate()
            scores = {"loss": loss, "val_loss": val_loss, "val_auc": val_auc}
            state["next"] = epoch + 1
            if np.isfinite(loss) and np.isfinite(val_loss):
                state["history"].append({"stage": stage, "epoch": epoch, **scores, "learning_rate": rate})
                better = state["best"] is None or val_loss < state["best"]["val_loss"]
                state["since"] = 0 if better else state["since"] + 1
                if better:
                    state["best"] = {"epoch": epoch, "val_loss": val_loss}
                elif plateau is not None and state["since"] % plateau == 0:
                    model.optimizer.learning_rate = rate * PLATEAU_FACTOR
                state["stopped"] = patience is not None and state["since"] >= patience
            elif state["best"] is None:
                raise FracturelabError(
                    f"{stage}: the loss is not finite from the first epoch on; lower the learning rate"
                )
            else:
                best = state["best"]["epoch"]
                warning = (
                    f"{stage}: the loss of epoch {epoch} is not finite; training stops, the best epoch, {best}, stands"
                )
                warnings.warn(warning, stacklevel=2)
                state["history"][-1]["warning"] = warning
                state["stopped"] = True
            write_state(model, folder, state)
            bar.set_postfix({name: "-" if value is None else f"{value:.3f}" for name, value in scores.items()})
            bar.update()
        bar.close()
        model.load_weights(str(folder / state["best"]["file"]))
        return state["history"]


def reseed_dropout(model: keras.Model, *, seed: int, epoch: int) -> None:
    """Set the random state of every dropout layer from (seed, epoch), so that a resumed run draws the same.

    Args:
        model: A flat model; layers inside nested models are left alone.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
    """
    for number, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            words = np.random.SeedSequence([seed, epoch, number]).generate_state(2)
            generator.state.assign(words.astype(np.uint32))


def reloaded(model: keras.Model) -> keras.Model:
    """Save a model and load it again, so that the evaluated model is the one that a user will open."""
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        return load_model(save_model(model, Path(folder) / "model.keras", {}))
