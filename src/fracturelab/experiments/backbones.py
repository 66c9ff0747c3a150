"""A backbone trained whole, from random weights: what is left where there are no weights to start from.

This is no transfer learning, and its score says nothing of the backbone's pretrained self.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fracturelab.models.cnn import NORM_MOMENTUM
from fracturelab.models.transfer import STANDARDISE, build_transfer_model, set_norm_moments
from fracturelab.models.weights import resolve
from fracturelab.pipeline import Augmentation, batches
from fracturelab.training.fitting import Fit, check_parts, compile_model, fit_images, set_seed
from fracturelab.training.prepare import Prepared
from fracturelab.training.v1 import finished_fit
from fracturelab.training.v2 import SETTLING, VIEWS

if TYPE_CHECKING:
    import keras


def train_whole(
    prepared: Prepared,
    *,
    backbone: str = "MobileNetV2",
    backbone_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    epochs: int = 30,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    dropout: float = 0.2,
    patience: int = 5,
    plateau: int = 3,
    augmentation: Augmentation | None = None,
    progress: bool = False,
) -> Fit:
    """Train every layer of a transfer model from random weights.

    Args:
        prepared: Images, labels and split; their size is the model's input size.
        backbone: A name of `keras.applications`.
        backbone_options: Options of the backbone.
        seed: Weights, order, augmentation and dropout follow from it.
        epochs: Most epochs.
        batch_size: Images a batch.
        learning_rate: AdamW's first learning rate; lowered on a plateau of the validation loss.
        dropout: Of the averaged features.
        patience: Epochs without a better validation loss before training stops.
        plateau: Epochs without a better validation loss before the learning rate is lowered.
        augmentation: How far augmented images may be; None for those of v2.
        progress: Show a progress bar.

    Returns:
        The fit; its model is the reloaded checkpoint of the epoch with the lowest validation loss.

    Raises:
        FracturelabError: Unknown backbone, a class is missing in training or validation, or the loss is not finite
            from the start.
    """
    started = time.perf_counter()
    set_seed(seed)
    labels, train, val = prepared.labels, prepared.rows("train"), prepared.rows("val")
    classes = len(prepared.class_names)
    check_parts(labels, train, val, classes)
    info = resolve(backbone, None, backbone_options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RANDOM WEIGHTS")  # that is what was asked for
        model = build_transfer_model(
            backbone,
            weights=info,
            input_size=prepared.size,
            backbone_options=backbone_options,
            classes=classes,
            dropout=dropout,
        )
    set_norm_moments(model, prepared.images[train[:SETTLING]])  # else the first epochs are validated on a faded signal
    unfreeze_whole(model)
    compile_model(model, learning_rate=learning_rate, weight_decay=1e-4)
    how = augmentation or VIEWS

    model, history = fit_images(
        model,
        prepared,
        lambda epoch: batches(
            prepared.images,
            labels,
            rows=train,
            batch_size=batch_size,
            balanced=True,
            augmentation=how,
            seed=seed,
            epoch=epoch,
        ),
        stage="whole",
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
        chosen="whole",
        weights=info,
        seed=seed,
        started=started,
        recipe={
            "recipe": "whole",
            "backbone": backbone,
            "backbone_options": dict(backbone_options or {}),
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "dropout": dropout,
            "patience": patience,
            "plateau": plateau,
        },
    )


def unfreeze_whole(model: keras.Model) -> None:
    """Make every layer of a transfer model trainable, its batch norms included, and let these follow a short training.

    Keras's averages lag behind the weights for hundreds of steps, which is as many as there are. The norm that
    standardises features is left alone: as it was born it changes nothing.

    Args:
        model: From `build_transfer_model`.
    """
    import keras

    for layer in model.layers:
        layer.trainable = layer.name != STANDARDISE
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            layer.momentum = NORM_MOMENTUM
