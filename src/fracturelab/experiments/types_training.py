"""Train the small CNN for fracture types twice: in Keras on TensorFlow, and in PyTorch.

Both trainings see the same batches of the same augmented images in the same order, with the same optimizer, the same
plateau rule and the same choice of the best epoch: what differs is the framework, and the draws of weights and dropout.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.models.types_cnn import build_types_cnn
from fracturelab.models.types_torch import build_types_torch, need_torch, to_keras
from fracturelab.pipeline import batches
from fracturelab.training.fitting import (
    PLATEAU_FACTOR,
    Fit,
    check_parts,
    compile_model,
    fit_images,
    predict,
    reloaded,
    set_seed,
    validation_scores,
)
from fracturelab.training.prepare import Prepared
from fracturelab.training.v1 import finished_fit
from fracturelab.training.v2 import VIEWS

if TYPE_CHECKING:
    import tensorflow as tf
    import torch

_DECAY = 1e-4


def epoch_data(prepared: Prepared, *, batch_size: int, seed: int, epoch: int) -> tf.data.Dataset:
    """The batches of an epoch, the same for both frameworks: balanced by type, each image augmented by its own seed."""
    return batches(
        prepared.images,
        prepared.labels,
        rows=prepared.rows("train"),
        batch_size=batch_size,
        shuffle=True,
        balanced=True,
        augmentation=VIEWS,
        seed=seed,
        epoch=epoch,
    )


def train_types_cnn(
    prepared: Prepared,
    *,
    seed: int = 0,
    epochs: int = 30,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    block_dropout: float = 0.1,
    dropout: float = 0.4,
    patience: int = 10,
    plateau: int = 4,
    progress: bool = False,
) -> Fit:
    """Train `build_types_cnn` in Keras on TensorFlow.

    Args:
        prepared: From `prepare_types`.
        seed: Weights, order, augmentation and dropout follow from it; two runs with one seed are equal.
        epochs: Most epochs.
        batch_size: Images a batch.
        learning_rate: AdamW's first learning rate; lowered on a plateau of the validation loss.
        block_dropout: Of each block.
        dropout: Of the dense layer.
        patience: Epochs without a better validation loss before training stops.
        plateau: Epochs without a better validation loss before the learning rate is lowered.
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
    model = build_types_cnn(input_size=prepared.size, classes=classes, block_dropout=block_dropout, dropout=dropout)
    compile_model(model, learning_rate=learning_rate, weight_decay=_DECAY)

    model, history = fit_images(
        model,
        prepared,
        lambda epoch: epoch_data(prepared, batch_size=batch_size, seed=seed, epoch=epoch),
        stage="keras",
        epochs=epochs,
        seed=seed,
        patience=patience,
        plateau=plateau,
        progress=progress,
    )
    return finished_fit(
        model,
        prepared,
        history=history,
        candidates={},
        chosen="keras",
        weights=None,
        seed=seed,
        started=started,
        recipe={
            "recipe": "types-keras",
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "block_dropout": block_dropout,
            "dropout": dropout,
            "patience": patience,
            "plateau": plateau,
        },
    )


def train_types_torch(
    prepared: Prepared,
    *,
    seed: int = 0,
    epochs: int = 30,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    block_dropout: float = 0.1,
    dropout: float = 0.4,
    patience: int = 10,
    plateau: int = 4,
    progress: bool = False,
) -> Fit:
    """Train `build_types_torch` in PyTorch, on the processor, the way `train_types_cnn` trains its twin.

    Args:
        prepared: From `prepare_types`.
        seed: Weights, order, augmentation and dropout follow from it.
        epochs: Most epochs.
        batch_size: Images a batch.
        learning_rate: AdamW's first learning rate; lowered on a plateau of the validation loss.
        block_dropout: Of each block.
        dropout: Of the dense layer.
        patience: Epochs without a better validation loss before training stops.
        plateau: Epochs without a better validation loss before the learning rate is lowered.
        progress: Show a progress bar.

    Returns:
        The fit. Its model is the Keras twin with the weights of PyTorch's best epoch, saved and loaded again;
        `recipe["largest_difference"]` is how far its validation probabilities are from PyTorch's own.

    Raises:
        FracturelabError: PyTorch is not installed, a class is missing in training or validation, or the loss is not
            finite from the start.
    """
    started = time.perf_counter()
    set_seed(seed)
    labels, train, val = prepared.labels, prepared.rows("train"), prepared.rows("val")
    classes = len(prepared.class_names)
    check_parts(labels, train, val, classes)
    shape: dict[str, Any] = {"input_size": prepared.size, "classes": classes}
    with _seeded(seed):
        model = build_types_torch(**shape, block_dropout=block_dropout, dropout=dropout)
        history, own = _torch_epochs(
            model,
            lambda epoch: epoch_data(prepared, batch_size=batch_size, seed=seed, epoch=epoch),
            lambda: torch_probabilities(model, prepared.images, rows=val),
            labels[val],
            epochs=epochs,
            learning_rate=learning_rate,
            patience=patience,
            plateau=plateau,
            progress=progress,
        )
    twin = to_keras(model, build_types_cnn(**shape, block_dropout=block_dropout, dropout=dropout))
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        twin = reloaded(twin, Path(folder) / "types-torch.keras")
    difference = float(np.abs(predict(twin, prepared.images, rows=val) - own).max())
    return finished_fit(
        twin,
        prepared,
        history=history,
        candidates={},
        chosen="torch",
        weights=None,
        seed=seed,
        started=started,
        recipe={
            "recipe": "types-torch",
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "block_dropout": block_dropout,
            "dropout": dropout,
            "patience": patience,
            "plateau": plateau,
            "largest_difference": difference,
        },
    )


def _torch_epochs(
    model: torch.nn.Sequential,
    data: Callable[[int], tf.data.Dataset],
    answer: Callable[[], NDArray[np.float32]],
    labels: NDArray[np.int64],
    *,
    epochs: int,
    learning_rate: float,
    patience: int,
    plateau: int,
    progress: bool,
) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    """Train epoch by epoch; the model ends with its best epoch, whose validation probabilities are returned as well."""
    import torch

    from fracturelab.system.progress import tqdm

    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, eps=1e-7, weight_decay=_DECAY)
    history: list[dict[str, Any]] = []
    best, state, kept, since = float("inf"), {}, np.zeros(0, np.float32), 0
    for epoch in tqdm(range(epochs), desc="torch", unit="epoch", disable=not progress):
        rate = optimizer.param_groups[0]["lr"]
        loss = train_epoch(model, optimizer, data(epoch).as_numpy_iterator())
        answers = answer()
        val_loss, val_auc = validation_scores(labels, answers)
        if not (np.isfinite(loss) and np.isfinite(val_loss)):
            if not history:
                raise FracturelabError("torch: the loss is not finite from the first epoch on; lower the learning rate")
            break
        history.append(
            {
                "stage": "torch",
                "epoch": epoch,
                "loss": loss,
                "val_loss": val_loss,
                "val_auc": val_auc,
                "learning_rate": rate,
            }
        )
        since += 1
        if val_loss < best:
            best, kept, since = val_loss, answers, 0
            state = {name: array.clone() for name, array in model.state_dict().items()}
        elif since % plateau == 0:
            optimizer.param_groups[0]["lr"] = rate * PLATEAU_FACTOR
        if since >= patience:
            break
    model.load_state_dict(state)
    return history, kept


def train_epoch(
    model: torch.nn.Sequential, optimizer: torch.optim.Optimizer, pairs: Iterator[tuple[NDArray, NDArray]]
) -> float:
    """One pass over batches of float32 (n, size, size, 1) images and (n,) class numbers: PyTorch's usual loop.

    Returns:
        The mean loss of the images.
    """
    import torch

    model.train()
    total, seen = 0.0, 0
    for images, labels in pairs:
        logits = model(torch.tensor(images).permute(0, 3, 1, 2))
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total, seen = total + float(loss.detach()) * len(labels), seen + len(labels)
    return total / max(seen, 1)


def torch_probabilities(
    model: torch.nn.Sequential, images: NDArray[np.uint8], *, rows: NDArray[np.int64], batch_size: int = 64
) -> NDArray[np.float32]:
    """Ask the PyTorch network for the probabilities of some images.

    Args:
        model: From `build_types_torch`.
        images: uint8 (n, size, size, 1); may be a memory map.
        rows: Indices of the images to use.
        batch_size: Images a batch.

    Returns:
        float32 (len(rows), classes).
    """
    import torch

    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            batch = torch.tensor(images[rows[start : start + batch_size]], dtype=torch.float32)
            parts.append(torch.softmax(model(batch.permute(0, 3, 1, 2)), dim=1).numpy())
    return np.concatenate(parts)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """PyTorch's random state from a seed, and its deterministic operations, for as long as the block lasts."""
    need_torch()
    import torch

    state, deterministic = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        torch.use_deterministic_algorithms(deterministic)
