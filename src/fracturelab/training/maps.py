"""v2 with a head on maps, which may learn where fractures are from their outlines as well."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.models.maps import CELLS, STANDARDISED, with_maps_head
from fracturelab.models.transfer import feature_layers_of, freeze_line, output_of, unfreeze
from fracturelab.models.weights import WeightsInfo, resolve
from fracturelab.pipeline import view_batches
from fracturelab.system.progress import tqdm
from fracturelab.training.epochs import Schedule, reloaded, reseed_dropout, set_seed
from fracturelab.training.features import DEFAULT_STORE, FeatureStore, compute, remove, view_of
from fracturelab.training.fitting import Candidate, Fit, chosen_fit, validate
from fracturelab.training.prepare import Prepared, check_parts
from fracturelab.training.v2 import VIEW_AUGMENTATION, frozen_model

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
        layers: Names of the layers: the freeze line, and the end of the backbone.
        line: float16 (n, h, w, channels) for each view: at the freeze line.
        coarse: float16 (n, h / 2, w / 2, channels) for each view: at the end of the backbone.
        cells: int8 (n, h, w, 1) for each view: 1 fracture, 0 none, -1 not known; None without outlines.
    """

    layers: tuple[str, str]
    line: Sequence[np.memmap]
    coarse: Sequence[np.memmap]
    cells: Sequence[NDArray] | None


def train_maps(
    prepared: Prepared,
    fractures: Fractures | None = None,
    *,
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
        weights: The weights that the backbone starts from; see `weights.resolve`. EfficientNetLite2 is the backbone
            where they do not name another.
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
    check_parts(prepared)
    info = weights if isinstance(weights, WeightsInfo) else resolve("EfficientNetLite2", weights)
    transfer = frozen_model(prepared, info)
    stored = store_maps(transfer, prepared, fractures, views=views, seed=seed, store=store, progress=progress)
    head = fit_head(transfer, stored, prepared, seed=seed, progress=progress)
    candidates = [head, fit_last_blocks(head.model, stored, prepared, seed=seed, progress=progress)]
    remove([*stored.line, *stored.coarse])
    recipe = {
        "recipe": "maps",
        "backbone": info.backbone,
        "backbone_options": info.options,
        "views": views,
        "map": CELLS,
        "head": asdict(HEAD),
        "last_blocks": asdict(LAST_BLOCKS),
        "outlines": OUTLINES if stored.cells else None,
    }
    return chosen_fit(candidates, prepared, recipe=recipe, weights=info, seed=seed, started=started)


def store_maps(
    model: keras.Model, prepared: Prepared, fractures: Fractures | None, *, views: int = 4, seed: int = 0, **files: Any
) -> MapStore:
    """Compute the activations of all images, and what is known of their cells, for each view.

    Args:
        model: From `build_transfer_model`.
        prepared: The images; row i of every array is image i.
        fractures: Where the fractures are; None for arrays without cells.
        views: Views of each image: itself, its mirror image, then augmented ones.
        seed: Augmented views follow from it.
        files: `runtime`, `store` and `progress` of `features.compute`.
    """
    import keras

    layers = freeze_line(model, narrow=True), feature_layers_of(model)[1]
    rows = np.arange(len(prepared.labels))
    parts = {name: keras.Model(model.input, output_of(model, name)) for name in layers}
    drawn: dict[str, Any] = {"rows": rows, "seed": seed}
    arrays = compute(parts, prepared, views=views, half=layers, augmentation=VIEW_AUGMENTATION, **drawn, **files)
    line, coarse = (arrays[name] for name in layers)
    if fractures is None:
        return MapStore(layers, line, coarse, None)
    side, cells = line[0].shape[1], []
    outlines = (fractures.masks[..., None] > 0) * np.uint8(255)
    moved = replace(VIEW_AUGMENTATION, contrast=0.0, brightness=0.0)
    for view in range(views):
        grey = view_of(outlines, view=view, augmentation=moved, **drawn)
        step = grey.shape[1] // side
        share = grey.reshape(len(rows), side, step, side, step, 1).mean((2, 4)) / 255
        cells.append((share >= _COVERED).astype(np.int8))
        cells[-1][~fractures.known] = -1
    return MapStore(layers, line, coarse, cells)


def fit_head(
    transfer: keras.Model,
    stored: MapStore,
    prepared: Prepared,
    *,
    seed: int = 0,
    schedule: Schedule = HEAD,
    progress: bool = True,
) -> Candidate:
    """Train a head on maps; the backbone is frozen.

    Args:
        transfer: From `build_transfer_model`.
        stored: Its activations.
        prepared: The images.
        seed: Initial weights, order and dropout follow from it.
        schedule: Settings of the training.
        progress: Show a progress bar.
    """
    set_seed(seed)
    model = with_maps_head(transfer, dropout=schedule.dropout)
    inputs = [output_of(model, name) for name in stored.layers]
    _set_moments(model, inputs, stored, prepared.rows("train"))
    return _fit(model, inputs, stored, prepared, "maps", schedule=schedule, seed=seed, progress=progress)


def fit_last_blocks(
    start: keras.Model,
    stored: MapStore,
    prepared: Prepared,
    *,
    seed: int,
    schedule: Schedule = LAST_BLOCKS,
    progress: bool,
) -> Candidate:
    """Train head and last blocks from where `fit_head` ended; arguments as there. `start` stays as it is."""
    set_seed(seed)
    model = reloaded(start)
    unfreeze(model, after=stored.layers[0])
    inputs = [output_of(model, stored.layers[0])]
    return _fit(model, inputs, stored, prepared, "maps, last blocks", schedule=schedule, seed=seed, progress=progress)


def _fit(
    model: keras.Model,
    inputs: list[Any],
    stored: MapStore,
    prepared: Prepared,
    name: str,
    *,
    schedule: Schedule,
    seed: int,
    progress: bool,
) -> Candidate:
    """Train a model from some of its layers on; the learning rate rises for a quarter of the steps, then falls."""
    import keras

    train = prepared.rows("train")
    trained = keras.Model(inputs, [model.output, output_of(model, CELLS)])
    steps = schedule.epochs * -(-len(train) // schedule.batch_size)
    rise = {"warmup_target": schedule.learning_rate, "warmup_steps": steps // 4}
    rate = keras.optimizers.schedules.CosineDecay(schedule.learning_rate / 25, steps - steps // 4, **rise)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=schedule.weight_decay, global_clipnorm=1.0)
    weights = [1.0, 0.0 if stored.cells is None else OUTLINES]
    trained.compile(optimizer=optimizer, loss=["binary_crossentropy", cell_loss], loss_weights=weights)
    optimizer.build(trained.trainable_variables)  # else the first step is traced twice
    none = np.broadcast_to(np.int8(0), (len(stored.line), *stored.line[0].shape[:3], 1))
    stores: list[Any] = [*[stored.line, stored.coarse][: len(inputs)], none if stored.cells is None else stored.cells]

    def pair(*tensors: tf.Tensor) -> Any:
        *activations, cells, labels = tensors
        return tuple(activations) if len(inputs) > 1 else activations[0], (labels[:, None], cells)

    history = []
    for epoch in tqdm(range(schedule.epochs), desc=name, unit="epoch", disable=not progress, mininterval=1.0):
        reseed_dropout(trained, seed=seed, epoch=epoch)
        order: dict[str, Any] = {"batch_size": schedule.batch_size, "seed": seed, "epoch": epoch}
        data = view_batches(stores, prepared.labels[train], rows=train, finish=pair, **order)
        loss = trained.fit(data, verbose=0, shuffle=False).history["loss"][-1]
        history.append({"stage": name, "epoch": epoch, "loss": loss})
    model = reloaded(model)
    loss, auc = validate(model, prepared)
    history[-1] |= {"val_loss": loss, "val_auc": auc}
    return Candidate(name, model, loss, auc, history)


def cell_loss(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of cells, (n, h, w, 1) both; cells with a fracture weigh more, those not known nothing."""
    import tensorflow as tf

    loss = tf.nn.weighted_cross_entropy_with_logits(tf.maximum(truth, 0.0), logits, _FRACTURED_CELL)
    return tf.where(truth < 0, 0.0, loss)


def _set_moments(model: keras.Model, inputs: list[Any], stored: MapStore, rows: NDArray[np.int64]) -> None:
    """Standardise the maps by every eighth training image."""
    import keras

    maps = keras.Model(inputs, [model.get_layer(name).output for name in STANDARDISED])
    kept = [np.asarray(store[0][rows[::8]], np.float32) for store in (stored.line, stored.coarse)]
    for name, values in zip(STANDARDISED, maps.predict(kept, batch_size=32, verbose=0), strict=True):
        flat = values.reshape(-1, values.shape[-1])
        model.get_layer(name).set_weights([flat.mean(0), (flat.std(0) + 1e-3) ** 2])
