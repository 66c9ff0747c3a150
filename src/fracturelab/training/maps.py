"""v2 with a head on maps, which may learn where fractures are from their outlines as well."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.models.maps import CELLS, STANDARDISED, with_maps_head
from fracturelab.models.transfer import build_transfer_model, feature_layers_of, freeze_line, set_norm_moments, unfreeze
from fracturelab.models.weights import WeightsInfo, resolve
from fracturelab.pipeline import Augmentation, epoch_views, read_batches
from fracturelab.system.progress import tqdm
from fracturelab.training.epochs import (
    Schedule,
    check_parts,
    predict,
    reloaded,
    reseed_dropout,
    set_seed,
    validation_scores,
)
from fracturelab.training.features import DEFAULT_STORE, FeatureStore, compute, remove, view_of
from fracturelab.training.fitting import Fit, finished_fit
from fracturelab.training.prepare import Prepared
from fracturelab.training.v2 import SETTLING, VIEW_AUGMENTATION, Candidate, choose

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from fracturelab.datasets.fractures import Fractures

HEAD = Schedule(epochs=8, learning_rate=2e-3, dropout=0.5, patience=None, plateau=None, weight_decay=0.05)
"""The backbone is frozen."""
LAST_BLOCKS = Schedule(epochs=3, learning_rate=2e-5, dropout=0.5, patience=None, plateau=None, weight_decay=1e-4)
"""The layers above the freeze line are trained as well."""
OUTLINES = 10.0  # weight of the cells' loss
_FRACTURED_CELL = 5.0  # weight of a cell with a fracture against one without
_COVERED = 0.1  # share of a cell from which an outline makes it one with a fracture


@dataclass(frozen=True)
class MapStore:
    """Activations of every view of every image that a head on maps is trained on; row i is image i of the data set.

    Attributes:
        line: float16 (n, h, w, channels) for each view: at the freeze line.
        coarse: float16 (n, h / 2, w / 2, channels) for each view: at the end of the backbone.
        cells: int8 (n, h, w, 1) for each view: 1 fracture, 0 none, -1 not known; None without outlines.
    """

    line: Sequence[np.memmap]
    coarse: Sequence[np.memmap]
    cells: Sequence[NDArray] | None


def train_maps(
    prepared: Prepared,
    fractures: Fractures | None = None,
    *,
    backbone: str = "EfficientNetLite2",
    weights: str | Path | WeightsInfo | None = "auto",
    seed: int = 0,
    views: int = 4,
    store: FeatureStore = DEFAULT_STORE,
    progress: bool = True,
) -> Fit:
    """Train a head on the maps of a frozen backbone, then the last blocks as well; validation images choose.

    Args:
        prepared: Images of two classes; their size is a multiple of 32.
        fractures: Where the fractures are, from `datasets.fractures`; None trains without.
        backbone: Name of the backbone; not used where `weights` is a `WeightsInfo`.
        weights: The weights that the backbone starts from; see `weights.resolve`.
        seed: Initial weights, augmented views, order and dropout follow from it.
        views: Views of each training image: itself, its mirror image, then augmented ones.
        store: Where activations are kept.
        progress: Show progress bars.

    Returns:
        The fit; `candidates` has the validation scores of "maps" and "maps, last blocks".

    Raises:
        FracturelabError: The weights cannot be had, or a class is missing in training or validation.
    """
    started = time.perf_counter()
    set_seed(seed)
    info = weights if isinstance(weights, WeightsInfo) else resolve(backbone, weights)
    transfer = build_transfer_model(
        info.backbone, weights=info, backbone_options=info.options, input_size=prepared.size
    )
    if info.kind == "none":
        set_norm_moments(transfer, prepared.images[check_parts(prepared)[0][:SETTLING]])
    stored = store_maps(transfer, prepared, fractures, views=views, seed=seed, store=store, progress=progress)
    head = fit_head(transfer, stored, prepared, seed=seed, progress=progress)
    candidates = [
        head,
        fit_last_blocks(
            head.model, stored, prepared, line=freeze_line(transfer, narrow=True), seed=seed, progress=progress
        ),
    ]
    best = choose(candidates)
    remove([*stored.line, *stored.coarse])
    recipe = {
        "map": CELLS,
        "head": asdict(HEAD),
        "last_blocks": asdict(LAST_BLOCKS),
        "outlines": OUTLINES if stored.cells else None,
    }
    return finished_fit(
        best.model,
        prepared,
        [row for candidate in candidates for row in candidate.history],
        recipe={
            "recipe": "maps",
            "backbone": info.backbone,
            "backbone_options": info.options,
            "views": views,
            **recipe,
        },
        candidates={candidate.name: candidate.scores for candidate in candidates},
        chosen=best.name,
        weights=info,
        seed=seed,
        started=started,
    )


def store_maps(
    transfer: keras.Model,
    prepared: Prepared,
    fractures: Fractures | None = None,
    *,
    views: int = 4,
    seed: int = 0,
    augmentation: Augmentation = VIEW_AUGMENTATION,
    store: FeatureStore = DEFAULT_STORE,
    progress: bool = True,
) -> MapStore:
    """Compute the activations of all images, and what is known of their cells, for each view."""
    import keras

    line, coarse = freeze_line(transfer, narrow=True), feature_layers_of(transfer)[1]
    rows = np.arange(len(prepared.labels))
    parts = {name: keras.Model(transfer.input, _output(transfer, name)) for name in (line, coarse)}
    common: dict[str, Any] = {"rows": rows, "views": views, "seed": seed, "augmentation": augmentation}
    arrays = compute(parts, prepared, half=(line, coarse), store=store, progress=progress, **common)
    cells = None
    if fractures is not None:
        side = arrays[line][0].shape[1]
        moved = replace(augmentation, contrast=0.0, brightness=0.0)
        cells = []
        for view in range(views):
            drawn = view_of(
                (fractures.masks[..., None] > 0) * np.uint8(255), view=view, rows=rows, seed=seed, augmentation=moved
            )
            step = drawn.shape[1] // side
            share = drawn.reshape(len(rows), side, step, side, step, 1).mean((2, 4)) / 255
            cells.append((share >= _COVERED).astype(np.int8))
            cells[-1][~fractures.known] = -1
    return MapStore(arrays[line], arrays[coarse], cells)


def fit_head(
    transfer: keras.Model,
    stored: MapStore,
    prepared: Prepared,
    *,
    seed: int = 0,
    schedule: Schedule = HEAD,
    targets: NDArray[np.float32] | None = None,
    progress: bool = True,
) -> Candidate:
    """Train a head on maps; the backbone is frozen.

    Args:
        transfer: From `build_transfer_model`.
        stored: Its activations.
        prepared: The images.
        seed: Initial weights, order and dropout follow from it.
        schedule: Settings of the training.
        targets: float32 (views, n), probabilities that a teacher gives for each view; None for the labels.
        progress: Show a progress bar.
    """
    set_seed(seed)
    line, (_, coarse) = freeze_line(transfer, narrow=True), feature_layers_of(transfer)
    model = with_maps_head(transfer, dropout=schedule.dropout)
    inputs = [_output(model, line), _output(model, coarse)]
    _set_moments(model, inputs, stored, check_parts(prepared)[0])
    return _fit(
        model, inputs, stored, prepared, "maps", schedule=schedule, seed=seed, targets=targets, progress=progress
    )


def fit_last_blocks(
    start: keras.Model,
    stored: MapStore,
    prepared: Prepared,
    *,
    line: str,
    seed: int = 0,
    schedule: Schedule = LAST_BLOCKS,
    targets: NDArray[np.float32] | None = None,
    progress: bool = True,
) -> Candidate:
    """Train head and last blocks from where `fit_head` ended; arguments as there. `start` stays as it is."""
    set_seed(seed)
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        model = reloaded(start, Path(folder) / "start.keras")
    unfreeze(model, after=line)
    inputs = [_output(model, line)]
    name = "maps, last blocks"
    return _fit(model, inputs, stored, prepared, name, schedule=schedule, seed=seed, targets=targets, progress=progress)


def _fit(
    model: keras.Model,
    inputs: list[Any],
    stored: MapStore,
    prepared: Prepared,
    name: str,
    *,
    schedule: Schedule,
    seed: int,
    targets: NDArray[np.float32] | None,
    progress: bool,
) -> Candidate:
    import keras

    train, val = check_parts(prepared)
    labels = prepared.labels[train]
    truth = np.broadcast_to(labels, (len(stored.line), len(train))) if targets is None else targets[:, train]
    trained = keras.Model(inputs, [model.output, _output(model, CELLS)])
    steps = schedule.epochs * -(-len(train) // schedule.batch_size)
    rise = {"warmup_target": schedule.learning_rate, "warmup_steps": steps // 4}
    rate = keras.optimizers.schedules.CosineDecay(schedule.learning_rate / 25, steps - steps // 4, **rise)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=schedule.weight_decay, global_clipnorm=1.0)
    weights = [1.0, 0.0 if stored.cells is None else OUTLINES]
    trained.compile(optimizer=optimizer, loss=["binary_crossentropy", cell_loss], loss_weights=weights)
    history = []
    for epoch in tqdm(range(schedule.epochs), desc=name, unit="epoch", disable=not progress, mininterval=1.0):
        reseed_dropout(trained, seed=seed, epoch=epoch)
        data = _batches(stored, len(inputs), labels, truth, rows=train, schedule=schedule, seed=seed, epoch=epoch)
        loss = trained.fit(data, verbose=0, shuffle=False).history["loss"][-1]
        history.append({"stage": name, "epoch": epoch, "loss": loss})
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        model = reloaded(model, Path(folder) / "maps.keras")
    loss, auc = validation_scores(prepared.labels[val], predict(model, prepared.images, rows=val))
    history[-1] |= {"val_loss": loss, "val_auc": auc}
    return Candidate(name, model, loss, auc, history)


def cell_loss(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of cells, (n, h, w, 1) both; cells with a fracture weigh more, those not known nothing."""
    import tensorflow as tf

    loss = tf.nn.weighted_cross_entropy_with_logits(tf.maximum(truth, 0.0), logits, _FRACTURED_CELL)
    return tf.where(truth < 0, 0.0, loss)


def _batches(
    stored: MapStore,
    inputs: int,
    labels: NDArray[np.int64],
    truth: NDArray,
    *,
    rows: NDArray[np.int64],
    schedule: Schedule,
    seed: int,
    epoch: int,
) -> tf.data.Dataset:
    """One balanced epoch of (activations, (P(fractured), cells))."""
    import tensorflow as tf

    order, view = epoch_views(labels, views=len(stored.line), seed=seed, epoch=epoch)
    stores = [stored.line, stored.coarse][:inputs]
    shapes = [store[0].shape[1:] for store in stores] + [(*stored.line[0].shape[1:3], 1)]

    def read(part: slice) -> tuple[NDArray, ...]:
        index, views = order[part], view[part]
        arrays = [np.zeros((len(index), *shape), np.float32) for shape in shapes]
        known = [*stores, stored.cells] if stored.cells is not None else stores
        for array, store in zip(arrays, known, strict=False):
            for number in np.unique(views):
                array[views == number] = store[number][rows[index[views == number]]]
        return *arrays, truth[views, index].astype(np.float32)[:, None]

    def pair(*tensors: Any) -> Any:
        *activations, cells, answers = tensors
        return tuple(activations) if inputs > 1 else activations[0], (answers, cells)

    specs = [tf.TensorSpec((None, *shape), tf.float32) for shape in [*shapes, (1,)]]
    return read_batches(read, specs, n=len(order), batch_size=schedule.batch_size, finish=pair)


def _output(model: keras.Model, name: str) -> Any:
    return next(operation for operation in model.operations if operation.name == name).output


def _set_moments(model: keras.Model, inputs: list[Any], stored: MapStore, rows: NDArray[np.int64]) -> None:
    """Standardise the maps by every eighth training image."""
    import keras

    sample = rows[::8]
    maps = keras.Model(inputs, [model.get_layer(name).output for name in STANDARDISED])
    kept = [np.asarray(store[0][sample], np.float32) for store in (stored.line, stored.coarse)]
    for name, values in zip(STANDARDISED, maps.predict(kept, batch_size=32, verbose=0), strict=True):
        flat = values.reshape(-1, values.shape[-1])
        model.get_layer(name).set_weights([flat.mean(0), (flat.std(0) + 1e-3) ** 2])
