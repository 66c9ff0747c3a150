"""v2: transfer learning that is never worse than its own frozen probe on the validation images.

1. `fit_probe`: features of several views of each image, computed once, and an exactly solved logistic head on them.
2. `fine_tune`: from that head, the top block of the backbone at a low learning rate, with batch norm in inference mode,
   on activations at the freeze line that were computed once.
3. `choose`: both were saved, reloaded and scored on the validation images; v2 is the better one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from fracturelab.training.epochs import (
    Schedule,
    check_parts,
    compile_model,
    predict,
    reloaded,
    run_epochs,
    set_seed,
    validation_scores,
)
from fracturelab.training.features import DEFAULT_STORE, FeatureStore, compute, remove
from fracturelab.training.fitting import Fit, finished_fit
from fracturelab.training.head import cross_validated_strength, solve, write_head
from fracturelab.training.prepare import Prepared

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SETTLING = 32
"""Training images that set the batch norms of a random backbone."""
VIEW_AUGMENTATION = Augmentation(rotation=10.0, shift=0.04, zoom=0.08, contrast=0.15, brightness=0.05)
FINE_TUNING = Schedule(epochs=10, learning_rate=1e-5, dropout=0.0, patience=3, plateau=2)
"""High learning rates undo transfer, and dropout of the features costs accuracy."""


@dataclass(frozen=True)
class Candidate:
    """A trained model that v2 may choose.

    Attributes:
        name: "probe" or "fine-tuned".
        model: The saved and reloaded model.
        val_loss: Log loss on the validation images, with equal weight for both classes.
        val_auc: ROC AUC on the validation images; None where undefined.
        history: A dict for each epoch.
    """

    name: str
    model: keras.Model
    val_loss: float
    val_auc: float | None
    history: list[dict[str, Any]]

    @property
    def scores(self) -> dict[str, float | None]:
        """Validation loss and AUC."""
        return {"val_loss": self.val_loss, "val_auc": self.val_auc}


@dataclass(frozen=True)
class Activations:
    """Stored activations at the freeze line, on which fine-tuning trains the layers above it.

    Attributes:
        train: float16 (n, h, w, channels) for each view.
        train_rows: Row of each training image in these arrays.
        val: float16 (m, h, w, channels) of the unchanged images.
        val_rows: Row of each validation image in that array.
    """

    train: list[np.memmap]
    train_rows: NDArray[np.int64]
    val: np.memmap
    val_rows: NDArray[np.int64]


@dataclass(frozen=True)
class Probe(Candidate):
    """A transfer model with a solved head on frozen features, and what `fine_tune` continues from.

    Attributes:
        weights: The weights of the backbone.
        strength: Strength of L2 of the head.
        freeze_line: Name of the last layer that stays frozen in fine-tuning.
        views: Views of each training image that the head was solved on.
        seed: Seed of the run.
        augmentation: Limits of the augmented views.
        schedule: Settings of the fine-tuning that follows.
        store: Where features are kept.
        activations: For fine-tuning; None where there is no room for them, or no fine-tuning.
    """

    weights: WeightsInfo
    strength: float
    freeze_line: str
    views: int
    seed: int
    augmentation: Augmentation
    schedule: Schedule
    store: FeatureStore
    activations: Activations | None


def train_v2(
    prepared: Prepared,
    *,
    backbone: str = "ResNet50",
    weights: str | Path | WeightsInfo | None = "auto",
    seed: int = 0,
    views: int = 2,
    augmentation: Augmentation = VIEW_AUGMENTATION,
    schedule: Schedule = FINE_TUNING,
    store: FeatureStore = DEFAULT_STORE,
    work_dir: str | Path | None = None,
    progress: bool = True,
) -> Fit:
    """Train a transfer model on the training part; the validation part chooses between probe and fine-tuned model.

    Args:
        prepared: Images, labels and split; their size is the model's input size.
        backbone: A name of `keras.applications`; not used where `weights` is a `WeightsInfo`, which names its own.
        weights: The weights that the backbone starts from; see `weights.resolve`.
        seed: Augmented views, order and dropout follow from it; two runs with one seed are equal.
        views: Views of each training image: itself, its mirror image, then augmented ones.
        augmentation: Limits of the augmented views.
        schedule: Settings of fine-tuning; `replace(FINE_TUNING, epochs=0)` trains the probe alone.
        store: Where features are kept.
        work_dir: Folder for checkpoints of this run alone, from which a stopped run continues; None keeps none.
        progress: Show progress bars, and print the chosen weights where `weights` left the choice open.

    Returns:
        The fit; `candidates` has the validation scores of "probe" and "fine-tuned". With few validation images the
        choice between two close candidates is partly luck.

    Raises:
        FracturelabError: The weights cannot be had, or a class is missing in training or validation.
    """
    started = time.perf_counter()
    probe = fit_probe(
        prepared,
        backbone=backbone,
        weights=weights,
        seed=seed,
        views=views,
        augmentation=augmentation,
        schedule=schedule,
        store=store,
        progress=progress,
    )
    candidates: list[Candidate] = [probe]
    if schedule.epochs:
        candidates.append(fine_tune(probe, prepared, work_dir=work_dir, progress=progress))
    best = choose(candidates)
    return finished_fit(
        best.model,
        prepared,
        [row for candidate in candidates for row in candidate.history],
        recipe=_recipe(probe),
        candidates={candidate.name: candidate.scores for candidate in candidates},
        chosen=best.name,
        weights=probe.weights,
        seed=seed,
        started=started,
    )


def fit_probe(
    prepared: Prepared,
    *,
    backbone: str = "ResNet50",
    weights: str | Path | WeightsInfo | None = "auto",
    seed: int = 0,
    views: int = 2,
    augmentation: Augmentation = VIEW_AUGMENTATION,
    schedule: Schedule = FINE_TUNING,
    store: FeatureStore = DEFAULT_STORE,
    progress: bool = True,
) -> Probe:
    """Compute features of a frozen backbone and solve a logistic head on them.

    If fine-tuning follows (`schedule.epochs` above 0), the activations at the freeze line are stored in the same pass.

    Args:
        prepared: Images, labels and split; their size is the model's input size.
        backbone: As in `train_v2`.
        weights: As in `train_v2`.
        seed: Decides augmented views and the folds that choose the strength of L2.
        views: Views of each training image: itself, its mirror image, then augmented ones.
        augmentation: Limits of the augmented views.
        schedule: Settings of the fine-tuning that follows.
        store: Where features are kept.
        progress: Show progress bars, and print the chosen weights where `weights` left the choice open.

    Returns:
        The probe with its validation scores.

    Raises:
        FracturelabError: The weights cannot be had, or a class is missing in training or validation.
    """
    set_seed(seed)
    train, val = check_parts(prepared)
    info = weights if isinstance(weights, WeightsInfo) else resolve(backbone, weights)
    classes = len(prepared.class_names)
    settings: dict[str, Any] = {"input_size": prepared.size, "classes": classes, "dropout": schedule.dropout}
    model = build_transfer_model(info.backbone, weights=info, backbone_options=info.options, **settings)
    if progress and not isinstance(weights, WeightsInfo) and info.kind != "none":
        print(info.sentence)
    if info.kind == "none":
        set_norm_moments(model, prepared.images[train[:SETTLING]])
    line = freeze_line(model)
    parts = {FEATURES: split_at(model, FEATURES)[0]}
    both = {**parts, line: split_at(model, line)[0]}

    # A shared store holds all images, so that fits on other splits of them use it too.
    everything = np.arange(len(prepared.labels))
    stored, stored_val = (everything, everything) if store.shared else (train, val)
    own, own_val = (train, val) if store.shared else (np.arange(len(train)), np.arange(len(val)))
    n = len(everything) if store.shared else len(train) + len(val)
    views = max(1, min(views, store.views_within(parts[FEATURES], images=n, dtype="float32")))
    kept = min(views, store.views_within(both[line], images=n, dtype="float16")) if schedule.epochs else 0
    common: dict[str, Any] = {"seed": seed, "augmentation": augmentation, "store": store, "progress": progress}
    activations = None
    if kept:
        common["half"] = (line,)
        of_train = compute(both, prepared, rows=stored, views=kept, **common)[line]
        of_val = compute(both, prepared, rows=stored_val, views=1, **common)[line][0]
        activations = Activations(of_train, own, of_val, own_val)
    features = compute(parts, prepared, rows=stored, views=views, **common)[FEATURES]

    labels, groups = prepared.labels[stored], prepared.groups[stored]
    strength, losses = cross_validated_strength(features, labels, groups, rows=own, seed=seed, classes=classes)
    write_head(model, solve(features, labels, rows=own, strength=strength, classes=classes))
    model, val_loss, val_auc = _reloaded_with_scores(model, prepared, "probe")
    scores = {"loss": losses.get(strength), "val_loss": val_loss, "val_auc": val_auc}
    return Probe(
        name="probe",
        model=model,
        val_loss=val_loss,
        val_auc=val_auc,
        history=[{"stage": "probe", "epoch": 0, **scores, "learning_rate": None}],
        weights=info,
        strength=strength,
        freeze_line=line,
        views=views,
        seed=seed,
        augmentation=augmentation,
        schedule=schedule,
        store=store,
        activations=activations,
    )


def fine_tune(
    probe: Probe, prepared: Prepared, *, work_dir: str | Path | None = None, progress: bool = True
) -> Candidate:
    """Train the layers above the freeze line from a probe's head, as the probe's `schedule` says.

    Stored activations that no other fit shares are deleted at the end.

    Args:
        probe: From `fit_probe`; its model stays as it is.
        prepared: The images of the probe.
        work_dir: Folder for checkpoints of this run alone, from which a stopped run continues; None keeps none.
        progress: Show a progress bar.

    Returns:
        The best epoch with its validation scores.

    Raises:
        FracturelabError: The loss is not finite from the start, or a checkpoint cannot be written.
    """
    set_seed(probe.seed)
    train, val = check_parts(prepared)
    labels, schedule, stored = prepared.labels, probe.schedule, probe.activations
    order: dict[str, Any] = {"batch_size": schedule.batch_size, "seed": probe.seed}

    def epoch_data(epoch: int) -> Any:
        if stored is not None:
            return activation_batches(stored.train, labels[train], rows=stored.train_rows, **order, epoch=epoch)
        changes: dict[str, Any] = {"balanced": True, "augmentation": probe.augmentation}
        return batches(prepared.images, labels, rows=train, **changes, **order, epoch=epoch)

    def validate() -> tuple[float, float | None]:
        images, rows = (prepared.images, val) if stored is None else (stored.val, stored.val_rows)
        return validation_scores(labels[val], predict(trained, images, rows=rows))

    with tempfile.TemporaryDirectory(prefix="fracturelab-") as temporary:
        model = reloaded(probe.model, Path(temporary) / "start.keras")
        trained = model if stored is None else split_at(model, probe.freeze_line)[1]
        unfreeze(model, after=probe.freeze_line)
        compile_model(trained, learning_rate=schedule.learning_rate, weight_decay=schedule.weight_decay)
        folder = Path(temporary if work_dir is None else work_dir) / "fine-tuned"
        settings: dict[str, Any] = {"stage": "fine-tuned", "schedule": schedule, "seed": probe.seed}
        history = run_epochs(trained, epoch_data, validate, **settings, folder=folder, progress=progress)
    candidate = Candidate("fine-tuned", *_reloaded_with_scores(model, prepared, "fine-tuned"), history)
    if stored is not None and not probe.store.shared:
        remove([*stored.train, stored.val])
    return candidate


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the highest validation AUC; the first of them where it is equal or undefined."""
    return max(candidates, key=lambda candidate: -1.0 if candidate.val_auc is None else candidate.val_auc)


def activation_batches(
    stores: Sequence[NDArray],
    labels: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rows: NDArray[np.int64] | None = None,
) -> tf.data.Dataset:
    """One balanced epoch of stored activations; which view of an image is used follows from (seed, epoch, image).

    Args:
        stores: Activations (n, h, w, channels) of each view, usually memory maps.
        labels: (n,) class of each image.
        batch_size: Images in a batch.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.
        rows: (n,) row of each image in the stores; None where it is its place in the labels.

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


def _reloaded_with_scores(model: keras.Model, prepared: Prepared, name: str) -> tuple[keras.Model, float, float | None]:
    with tempfile.TemporaryDirectory(prefix="fracturelab-") as folder:
        model = reloaded(model, Path(folder) / f"{name}.keras")
    val = prepared.rows("val")
    return model, *validation_scores(prepared.labels[val], predict(model, prepared.images, rows=val))


def _recipe(probe: Probe) -> dict[str, Any]:
    """Settings of a v2 for its record."""
    schedule = asdict(probe.schedule)
    return {
        "recipe": "v2",
        "backbone": probe.weights.backbone,
        "backbone_options": dict(probe.weights.options),
        "views": probe.views,
        "strength": probe.strength,
        "freeze_line": probe.freeze_line,
        "views_kept_for_fine_tuning": len(probe.activations.train) if probe.activations else 0,
        "fine_tune_epochs": schedule.pop("epochs"),
        **schedule,
    }
