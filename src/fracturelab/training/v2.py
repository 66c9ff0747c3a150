"""v2: transfer learning that is never worse than its own frozen probe on the validation images.

1. `fit_probe`: features of several views of each image, computed once, and an exactly solved logistic head on them.
2. `fine_tune`: from that head, the top block of the backbone at a low learning rate, with batch norm in inference mode,
   on activations at the freeze line that were computed once.
3. `choose`: both were saved, reloaded and scored on the validation images; v2 is the better one.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab.models.transfer import (
    FEATURES,
    build_transfer_model,
    freeze_line,
    set_norm_moments,
    split_at,
    unfreeze,
)
from fracturelab.models.weights import WeightsInfo, resolve
from fracturelab.pipeline import Augmentation
from fracturelab.training.epochs import Schedule, reloaded, set_seed
from fracturelab.training.features import DEFAULT_STORE, FeatureStore, compute, remove
from fracturelab.training.fitting import Activations, Candidate, Fit, chosen_fit, train_stage, validate
from fracturelab.training.head import cross_validated_strength, solve, write_head
from fracturelab.training.prepare import Prepared, check_parts

if TYPE_CHECKING:
    import keras

SETTLING = 32
"""Training images that set the batch norms of a random backbone."""
VIEW_AUGMENTATION = Augmentation(rotation=10.0, shift=0.04, zoom=0.08, contrast=0.15, brightness=0.05)
FINE_TUNING = Schedule(epochs=10, learning_rate=1e-5, dropout=0.0, patience=3, plateau=2)
"""High learning rates undo transfer, and dropout of the features costs accuracy."""


@dataclass(frozen=True)
class TransferSettings:
    """Settings of a v2.

    Attributes:
        weights: The weights that the backbone starts from, with the name of the backbone.
        seed: Augmented views, order, dropout, and the folds that choose the strength of L2 follow from it.
        views: Views of each training image: itself, its mirror image, then augmented ones.
        augmentation: Limits of the augmented views.
        schedule: Settings of fine-tuning. Without epochs no activations are stored for it.
        store: Where features are kept.
    """

    weights: WeightsInfo
    seed: int = 0
    views: int = 2
    augmentation: Augmentation = VIEW_AUGMENTATION
    schedule: Schedule = FINE_TUNING
    store: FeatureStore = DEFAULT_STORE


@dataclass(frozen=True)
class Probe(Candidate):
    """A transfer model with a solved head on frozen features, and what `fine_tune` continues from.

    Attributes:
        settings: As given to `fit_probe`.
        strength: Strength of L2 of the head.
        freeze_line: Name of the last layer that stays frozen in fine-tuning.
        views: Views of each training image that the head was solved on; fewer where the store has no room.
        activations: For fine-tuning; None where there is no room for them, or no fine-tuning.
    """

    settings: TransferSettings
    strength: float
    freeze_line: str
    views: int
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
    check_parts(prepared)
    if not isinstance(weights, WeightsInfo):
        weights = resolve(backbone, weights)
        if progress and weights.kind != "none":
            print(weights.sentence)
    probe = fit_probe(
        prepared, TransferSettings(weights, seed, views, augmentation, schedule, store), progress=progress
    )
    candidates: list[Candidate] = [probe]
    if schedule.epochs:
        candidates.append(fine_tune(probe, prepared, work_dir=work_dir, progress=progress))
    recipe = {
        "recipe": "v2",
        "backbone": weights.backbone,
        "backbone_options": dict(weights.options),
        "views": probe.views,
        "strength": probe.strength,
        "freeze_line": probe.freeze_line,
        "views_kept_for_fine_tuning": len(probe.activations.train) if probe.activations else 0,
        "fine_tune_epochs": schedule.epochs,
        **{name: value for name, value in asdict(schedule).items() if name != "epochs"},
    }
    return chosen_fit(candidates, prepared, recipe=recipe, weights=weights, seed=seed, started=started)


def frozen_model(prepared: Prepared, weights: WeightsInfo, *, dropout: float = 0.0) -> keras.Model:
    """Build a transfer model for some images; the batch norms of a random backbone are set by training images."""
    classes = len(prepared.class_names)
    model = build_transfer_model(weights=weights, input_size=prepared.size, classes=classes, dropout=dropout)
    if weights.kind == "none":
        set_norm_moments(model, prepared.images[prepared.rows("train")[:SETTLING]])
    return model


def fit_probe(prepared: Prepared, settings: TransferSettings, *, progress: bool = True) -> Probe:
    """Compute features of a frozen backbone and solve a logistic head on them.

    If fine-tuning follows (`settings.schedule.epochs` above 0), the activations at the freeze line are stored in the
    same pass.

    Args:
        prepared: Images, labels and split; their size is the model's input size.
        settings: Weights, seed, views and so on.
        progress: Show progress bars.

    Returns:
        The probe with its validation scores.

    Raises:
        FracturelabError: A class is missing in training or validation, or the features cannot be stored.
    """
    seed, schedule, store = settings.seed, settings.schedule, settings.store
    set_seed(seed)
    train, val = check_parts(prepared)
    model = frozen_model(prepared, settings.weights, dropout=schedule.dropout)
    line = freeze_line(model)
    parts = {FEATURES: split_at(model, FEATURES)[0]}
    both = {**parts, line: split_at(model, line)[0]}

    # A shared store holds all images, so that fits on other splits of them use it too.
    everything = np.arange(len(prepared.labels))
    stored, stored_val = (everything, everything) if store.shared else (train, val)
    own, own_val = (train, val) if store.shared else (np.arange(len(train)), np.arange(len(val)))
    n = len(everything) if store.shared else len(train) + len(val)
    views = max(1, min(settings.views, store.views_within(parts[FEATURES], images=n, dtype="float32")))
    kept = min(views, store.views_within(both[line], images=n, dtype="float16")) if schedule.epochs else 0
    common: dict[str, Any] = {"seed": seed, "augmentation": settings.augmentation, "store": store, "progress": progress}
    activations = None
    if kept:
        common["half"] = (line,)
        of_train = compute(both, prepared, rows=stored, views=kept, **common)[line]
        of_val = compute(both, prepared, rows=stored_val, views=1, **common)[line][0]
        activations = Activations(of_train, own, of_val, own_val)
    features = compute(parts, prepared, rows=stored, views=views, **common)[FEATURES]

    classes, labels, groups = len(prepared.class_names), prepared.labels[stored], prepared.groups[stored]
    strength, losses = cross_validated_strength(features, labels, groups, rows=own, seed=seed, classes=classes)
    write_head(model, solve(features, labels, rows=own, strength=strength, classes=classes))
    model = reloaded(model)
    val_loss, val_auc = validate(model, prepared)
    scores = {"loss": losses.get(strength), "val_loss": val_loss, "val_auc": val_auc}
    history = [{"stage": "probe", "epoch": 0, **scores, "learning_rate": None}]
    return Probe("probe", model, val_loss, val_auc, history, settings, strength, line, views, activations)


def fine_tune(
    probe: Probe, prepared: Prepared, *, work_dir: str | Path | None = None, progress: bool = True
) -> Candidate:
    """Train the layers above the freeze line from a probe's head, as the probe's schedule says.

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
    settings, stored, name = probe.settings, probe.activations, "fine-tuned"
    schedule, seed = settings.schedule, settings.seed
    set_seed(seed)
    model = reloaded(probe.model)
    unfreeze(model, after=probe.freeze_line)
    top = model if stored is None else split_at(model, probe.freeze_line)[1]
    where: dict[str, Any] = {"stored": stored, "work_dir": work_dir, "progress": progress}
    changes = settings.augmentation
    history = train_stage(top, prepared, stage=name, schedule=schedule, seed=seed, augmentation=changes, **where)
    model = reloaded(model)
    if stored is not None and not settings.store.shared:
        remove([*stored.train, stored.val])
    return Candidate(name, model, *validate(model, prepared), history)
