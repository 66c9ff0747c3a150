"""The small CNN for fracture types in PyTorch, trained as `types.train_types_cnn` trains its twin in Keras.

Both trainings use the same batches of the same augmented images in the same order, with the same optimizer, the same
rule for plateaus and the same choice of the best epoch. Only the framework differs, and the random draws of initial
weights and dropout.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.experiments.types import BLOCK_DROPOUT, TYPES
from fracturelab.models.types_cnn import build_types_cnn
from fracturelab.models.types_torch import build_types_torch, need_torch, to_keras
from fracturelab.pipeline import batches
from fracturelab.training.epochs import PLATEAU_FACTOR, Schedule, predict, reloaded, set_seed, validation_scores
from fracturelab.training.fitting import Fit, finished_fit
from fracturelab.training.prepare import Prepared, check_parts
from fracturelab.training.v2 import VIEW_AUGMENTATION

if TYPE_CHECKING:
    import torch


def train_types_torch(
    prepared: Prepared,
    *,
    seed: int = 0,
    schedule: Schedule = TYPES,
    block_dropout: float = BLOCK_DROPOUT,
    progress: bool = False,
) -> Fit:
    """Train `build_types_torch` in PyTorch, on the CPU.

    Args:
        prepared: From `prepare_types`.
        seed: Initial weights, order, augmentation and dropout follow from it.
        schedule: Settings of the training.
        block_dropout: Share of its activations that each block leaves out while training.
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
    check_parts(prepared)
    shape: dict[str, Any] = {"input_size": prepared.size, "classes": len(prepared.class_names)}
    shape |= {"block_dropout": block_dropout, "dropout": schedule.dropout}
    with _seeded(seed):
        model = build_types_torch(**shape)
        history, own = _run_epochs(model, prepared, schedule, seed=seed, progress=progress)
    twin = reloaded(to_keras(model, build_types_cnn(**shape)))
    difference = float(np.abs(predict(twin, prepared.images, rows=prepared.rows("val")) - own).max())
    recipe = {"recipe": "types-torch", **asdict(schedule), "block_dropout": block_dropout}
    recipe["largest_difference"] = difference
    return finished_fit(twin, prepared, history, recipe=recipe, seed=seed, started=started)


def _run_epochs(
    model: torch.nn.Sequential, prepared: Prepared, schedule: Schedule, *, seed: int, progress: bool
) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    """Train epoch by epoch; the model ends with its best epoch, whose validation probabilities are returned as well."""
    import torch

    from fracturelab.system.progress import tqdm

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, eps=1e-7, weight_decay=schedule.weight_decay
    )
    order = {"rows": prepared.rows("train"), "batch_size": schedule.batch_size, "balanced": True, "seed": seed}
    val = prepared.rows("val")
    history: list[dict[str, Any]] = []
    best, state, kept, since = float("inf"), {}, np.zeros(0, np.float32), 0
    for epoch in tqdm(range(schedule.epochs), desc="torch", unit="epoch", disable=not progress):
        rate = optimizer.param_groups[0]["lr"]
        changes = {"augmentation": VIEW_AUGMENTATION, "epoch": epoch}
        pairs = batches(prepared.images, prepared.labels, **order, **changes).as_numpy_iterator()  # type: ignore[arg-type]
        loss = train_epoch(model, optimizer, pairs)
        probabilities = torch_probabilities(model, prepared.images, rows=val)
        val_loss, val_auc = validation_scores(prepared.labels[val], probabilities)
        if not (np.isfinite(loss) and np.isfinite(val_loss)):
            if not history:
                raise FracturelabError("torch: the loss is not finite from the first epoch on; lower the learning rate")
            break
        scores = {"loss": loss, "val_loss": val_loss, "val_auc": val_auc, "learning_rate": rate}
        history.append({"stage": "torch", "epoch": epoch, **scores})
        since += 1
        if val_loss < best:
            best, kept, since = val_loss, probabilities, 0
            state = {name: array.clone() for name, array in model.state_dict().items()}
        elif schedule.plateau is not None and since % schedule.plateau == 0:
            optimizer.param_groups[0]["lr"] = rate * PLATEAU_FACTOR
        if schedule.patience is not None and since >= schedule.patience:
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
    """Probabilities of the PyTorch network for some images.

    Args:
        model: From `build_types_torch`.
        images: uint8 (n, size, size, 1); may be a memory map.
        rows: Indices of the images to use.
        batch_size: Images in a batch.

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
