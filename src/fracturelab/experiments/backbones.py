"""A backbone of which every layer is trained from random weights, for comparison where there are no weights.

This is no transfer learning; the score says nothing about the pretrained backbone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fracturelab.models.cnn import NORM_MOMENTUM
from fracturelab.models.transfer import STANDARDISE, build_transfer_model, set_norm_moments
from fracturelab.models.weights import resolve
from fracturelab.pipeline import Augmentation
from fracturelab.training.epochs import Schedule
from fracturelab.training.fitting import Fit, train_network
from fracturelab.training.prepare import Prepared
from fracturelab.training.v2 import SETTLING, VIEW_AUGMENTATION

if TYPE_CHECKING:
    import keras

WHOLE = Schedule(epochs=30, learning_rate=1e-3, dropout=0.2, patience=5, plateau=3)


def train_whole(
    prepared: Prepared,
    *,
    backbone: str = "MobileNetV2",
    backbone_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    schedule: Schedule = WHOLE,
    augmentation: Augmentation = VIEW_AUGMENTATION,
    progress: bool = False,
) -> Fit:
    """Train every layer of a transfer model from random weights.

    Args:
        prepared: Images, labels and split; their size is the model's input size.
        backbone: A name of `keras.applications`.
        backbone_options: Options of the backbone.
        seed: Initial weights, order, augmentation and dropout follow from it.
        schedule: Settings of the training.
        augmentation: Limits of the random changes to each image.
        progress: Show a progress bar.

    Returns:
        The fit; its model is the reloaded checkpoint of the epoch with the lowest validation loss.

    Raises:
        FracturelabError: Unknown backbone, a class is missing in training or validation, or the loss is not finite
            from the start.
    """
    info = resolve(backbone, None, backbone_options)
    settings: dict[str, Any] = {
        "input_size": prepared.size,
        "classes": len(prepared.class_names),
        "dropout": schedule.dropout,
    }

    def build() -> keras.Model:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="RANDOM WEIGHTS")  # random weights are the purpose here
            model = build_transfer_model(backbone, weights=info, backbone_options=info.options, **settings)
        # Otherwise the signal fades in the first epochs.
        set_norm_moments(model, prepared.images[prepared.rows("train")[:SETTLING]])
        unfreeze_whole(model)
        return model

    recipe = {"backbone": backbone, "backbone_options": dict(backbone_options or {})}
    options: dict[str, Any] = {"recipe": recipe, "weights": info, "augmentation": augmentation, "progress": progress}
    return train_network(build, prepared, name="whole", schedule=schedule, seed=seed, **options)


def unfreeze_whole(model: keras.Model) -> None:
    """Make every layer of a transfer model trainable, with batch norms that adapt within a short training.

    Keras's moving averages lag behind the weights for hundreds of steps, which may be the whole training. The norm that
    standardises features stays as it is: without moments it changes nothing.

    Args:
        model: From `build_transfer_model`.
    """
    import keras

    for layer in model.layers:
        layer.trainable = layer.name != STANDARDISE
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            layer.momentum = NORM_MOMENTUM
