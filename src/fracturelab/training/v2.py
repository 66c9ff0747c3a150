"""v2: transfer learning that cannot do worse than its own frozen probe.

1. The probe: features of several views of each image, computed once; a logistic head on them, solved exactly.
2. Fine-tuning: from that head, the backbone's top block at a low rate with batch norm in inference mode, fed with
   activations at the freeze line that were computed once.
3. Both are saved, reloaded and scored on the validation images; v2 is the better one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fracturelab.models.transfer import (
    FEATURES,
    build_transfer_model,
    freeze_line,
    set_norm_moments,
    split_at,
    unfreeze,
)
from fracturelab.models.weights import WeightsInfo, resolve
from fracturelab.pipeline import Augmentation, batches, epoch_views, read_batches
from fracturelab.training import features
from fracturelab.training.fitting import (
    Fit,
    check_parts,
    compile_model,
    predict,
    reloaded,
    run_epochs,
    set_seed,
    validation_scores,
)
from fracturelab.training.head import cross_validated_strength, solve, write_head
from fracturelab.training.prepare import Prepared
from fracturelab.training.v1 import finished_fit

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SETTLING = 32  # training images that a random backbone's batch norms are set by
VIEWS = Augmentation(rotation=10.0, shift=0.04, zoom=0.08, contrast=0.15, brightness=0.05)


def train_v2(
    prepared: Prepared,
    *,
    backbone: str = "ResNet50",
    backbone_options: Mapping[str, Any] | None = None,
    weights: str | Path | WeightsInfo | None = "auto",
    seed: int = 0,
    views: int = 2,
    fine_tune_epochs: int = 10,
    learning_rate: float = 1e-5,
    batch_size: int = 32,
    dropout: float = 0.0,
    patience: int = 3,
    plateau: int = 2,
    augmentation: Augmentation | None = None,
    store_limit: int = 4 * 2**30,
    store_dir: str | Path | None = None,
    shared_stores: bool = False,
    work_dir: str | Path | None = None,
    progress: bool = True,
) -> Fit:
    """Train a transfer model on the training part; the validation part chooses between probe and fine-tuned model.

    Args:
        prepared: Images, labels and split; their size is the model's input size.
        backbone: A name of `keras.applications`.
        backbone_options: Options of the backbone.
        weights: What the backbone starts from; see `weights.resolve`.
        seed: Views, order and dropout follow from it; two runs with one seed are equal.
        views: Views of each training image: itself, its mirror image, then augmented ones.
        fine_tune_epochs: Most epochs of fine-tuning; 0 for the probe alone.
        learning_rate: Of fine-tuning. High rates undo transfer.
        batch_size: Images a batch.
        dropout: Of the features while fine-tuning; dropout there costs accuracy.
        patience: Epochs without a better validation loss before fine-tuning stops.
        plateau: Epochs without a better validation loss before the learning rate is lowered.
        augmentation: How far augmented views may be; None for `VIEWS`.
        store_limit: Most bytes that the features, and that the activations at the freeze line, may take on disk each.
            Beyond that fewer views are kept; if not even one view's activations fit, the whole network runs in every
            epoch of fine-tuning.
        store_dir: Where features are kept; None for `features.default_store_dir()`.
        shared_stores: Compute features and activations of all images at once, so that fits on other splits of the same
            images find them in `store_dir`, even while they run at the same time; whoever made the folder removes it.
        work_dir: Where checkpoints go, so that a stopped run can go on; a folder of this run alone. None keeps none.
        progress: Show progress bars, and say which weights were chosen where `weights` left that open.

    Returns:
        The fit; `candidates` has the validation scores of "probe" and "fine-tuned". With few validation images the
        choice between two close ones is partly luck.

    Raises:
        FracturelabError: Weights that cannot be had, or a class that is missing in training or validation.
    """
    started = time.perf_counter()
    set_seed(seed)
    labels, groups, train, val = prepared.labels, prepared.groups, prepared.rows("train"), prepared.rows("val")
    classes = len(prepared.class_names)
    check_parts(labels, train, val, classes)
    info = weights if isinstance(weights, WeightsInfo) else resolve(backbone, weights, backbone_options)
    model = build_transfer_model(
        backbone,
        weights=info,
        input_size=prepared.size,
        backbone_options=backbone_options,
        classes=classes,
        dropout=dropout,
    )
    if progress and not isinstance(weights, WeightsInfo) and info.kind != "none":
        print(info.sentence)
    if info.kind == "none":
        set_norm_moments(model, prepared.images[train[:SETTLING]])
    line = freeze_line(model)
    trunk, top = split_at(model, line)
    how = augmentation or VIEWS
    everything = np.arange(len(labels))
    stored = (everything, everything) if shared_stores else (train, val)
    own, held_rows = (train, val) if shared_stores else (np.arange(len(train)), np.arange(len(val)))
    rows_stored = len(everything) if shared_stores else len(train) + len(val)
    parts = {FEATURES: _up_to(model, FEATURES)}
    views = max(1, _views_that_fit(parts[FEATURES], "float32", rows=rows_stored, views=views, limit=store_limit))
    kept = _views_that_fit(trunk, "float16", rows=rows_stored, views=views, limit=store_limit)
    kept = kept if fine_tune_epochs else 0
    both = {**parts, line: trunk}
    settings: dict[str, Any] = {
        "seed": seed,
        "augmentation": how,
        "folder": store_dir,
        "progress": progress,
        "alone": shared_stores,
    }
    activations: list[np.memmap] = []
    if kept:
        stores = features.compute(both, prepared, rows=stored[0], views=kept, dtypes={line: "float16"}, **settings)
        activations = stores[line]
        held = features.compute(both, prepared, rows=stored[1], views=1, dtypes={line: "float16"}, **settings)[line]
    train_features = features.compute(parts, prepared, rows=stored[0], views=views, **settings)[FEATURES]

    of_stored = labels[stored[0]]
    strength, losses = cross_validated_strength(
        train_features, of_stored, groups[stored[0]], rows=own, seed=seed, classes=classes
    )
    head = solve(train_features, of_stored, rows=own, strength=strength, classes=classes)
    write_head(model, head)

    candidates: dict[str, dict[str, float | None]] = {}
    models: dict[str, keras.Model] = {}
    history: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as temporary:
        folder = Path(work_dir) if work_dir is not None else Path(temporary)

        def score(name: str) -> None:
            models[name] = reloaded(model, Path(temporary) / f"{name}.keras")
            loss, auc = validation_scores(labels[val], predict(models[name], prepared.images, rows=val))
            candidates[name] = {"val_loss": loss, "val_auc": auc}

        score("probe")
        history.append(
            {"stage": "probe", "epoch": 0, "loss": losses.get(strength), **candidates["probe"], "learning_rate": None}
        )
        if fine_tune_epochs:
            unfreeze(model, after=line)
            trained = top if kept else model
            compile_model(trained, learning_rate=learning_rate, weight_decay=1e-4)

            def epoch_data(epoch: int) -> Any:
                if not kept:
                    return batches(
                        prepared.images,
                        labels,
                        rows=train,
                        batch_size=batch_size,
                        balanced=True,
                        augmentation=how,
                        seed=seed,
                        epoch=epoch,
                    )
                return activation_batches(
                    activations, labels[train], rows=own, batch_size=batch_size, seed=seed, epoch=epoch
                )

            def validate() -> tuple[float, float | None]:
                answers = predict(top, held[0], rows=held_rows) if kept else predict(model, prepared.images, rows=val)
                return validation_scores(labels[val], answers)

            history += run_epochs(
                trained,
                epoch_data,
                validate,
                stage="fine-tuned",
                epochs=fine_tune_epochs,
                seed=seed,
                patience=patience,
                plateau=plateau,
                folder=folder / "fine-tuned",
                progress=progress,
            )
            score("fine-tuned")
            if kept and not shared_stores:
                features.remove([*activations, *held])
    chosen = _better(candidates)
    return finished_fit(
        models[chosen],
        prepared,
        history=history,
        candidates=candidates,
        chosen=chosen,
        weights=info,
        seed=seed,
        started=started,
        recipe={
            "recipe": "v2",
            "backbone": backbone,
            "backbone_options": dict(backbone_options or {}),
            "views": views,
            "strength": strength,
            "freeze_line": line,
            "views_kept_for_fine_tuning": kept,
            "fine_tune_epochs": fine_tune_epochs,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "dropout": dropout,
            "patience": patience,
            "plateau": plateau,
        },
    )


def _better(candidates: Mapping[str, Mapping[str, float | None]]) -> str:
    """The candidate with the higher validation AUC; the probe where they are equal or there is none."""
    tuned = candidates.get("fine-tuned")
    if tuned is None or tuned["val_auc"] is None:
        return "probe"
    probe = candidates["probe"]["val_auc"]
    return "fine-tuned" if probe is None or tuned["val_auc"] > probe else "probe"


def _up_to(model: keras.Model, layer: str) -> keras.Model:
    import keras

    return keras.Model(model.input, model.get_layer(layer).output, name=layer)


def _views_that_fit(part: keras.Model, dtype: str, *, rows: int, views: int, limit: int) -> int:
    size = features.store_bytes(part.output.shape[1:], images=rows, views=1, dtype=dtype)
    return min(views, limit // size)


def activation_batches(
    stores: Sequence[NDArray],
    labels: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rows: NDArray[np.int64] | None = None,
) -> tf.data.Dataset:
    """One balanced epoch of stored activations; which view of an image comes follows from (seed, epoch, image).

    Args:
        stores: Activations (n, h, w, channels) of each view, usually memory maps.
        labels: (n,) class of each image.
        batch_size: Images a batch.
        seed: Seed of the run.
        epoch: Number of the epoch.
        rows: (n,) where each image stands in the stores; None where it stands in the labels.

    Returns:
        Batches of float32 (b, h, w, channels) and float32 (b,) labels.
    """
    import tensorflow as tf

    order, view = epoch_views(labels, views=len(stores), seed=seed, epoch=epoch)
    places = np.arange(len(labels)) if rows is None else rows

    def read(part: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        index, views = order[part], view[part]
        batch = np.empty((len(index), *stores[0].shape[1:]), np.float32)
        for number, store in enumerate(stores):
            mine = views == number
            batch[mine] = store[places[index[mine]]]
        return batch, labels[index].astype(np.float32)

    specs = [tf.TensorSpec((None, *stores[0].shape[1:]), tf.float32), tf.TensorSpec((None,), tf.float32)]
    return read_batches(read, specs, n=len(order), batch_size=batch_size, finish=lambda *pair: pair)
