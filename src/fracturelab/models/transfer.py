"""Transfer learning as one flat graph: a pretrained backbone, averages of its last two scales, one dense layer: v2."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import build_backbone, feature_layers
from fracturelab.models.cnn import output_layer
from fracturelab.models.weight_files import load_into
from fracturelab.models.weights import WeightsInfo, resolve

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

FEATURES = "features"
STANDARDISE = "standardise"


def default_input_size(backbone: str, weights: WeightsInfo | None = None) -> int:
    """Side of the input in pixels, where none is given.

    It is that of the weights' description. Without one it is 320 for MobileNet and EfficientNet-Lite, which need little
    time and gain from the pixels of thin fractures (ImageNet MobileNet 0.75 on FracAtlas: 0.02 AUC above 224 pixels),
    and 224 for others.
    """
    if weights is not None and weights.input_size:
        return weights.input_size
    return 320 if backbone.startswith(("MobileNet", "EfficientNetLite")) else 224


def build_transfer_model(
    backbone: str = "ResNet50",
    *,
    weights: str | Path | WeightsInfo | None = "auto",
    input_size: int | None = None,
    backbone_options: Mapping[str, Any] | None = None,
    classes: int = 2,
    dropout: float = 0.0,
) -> keras.Model:
    """Build a backbone with a linear head on standardised features.

    The features are the global averages of the last activations at stride 16, which keep small structures, and at
    stride 32. They pass a batch norm that stays frozen (`training.head` sets it to the training images' moments),
    dropout, and one dense layer. This is a logistic regression, which `training.head` can solve exactly.

    Args:
        backbone: A name of `keras.applications`; not used where `weights` is a `WeightsInfo`, which names its own.
        weights: "auto", "imagenet", "bundled", "none" or None, a weights file, or what `weights.resolve` returned.
        input_size: Side of the square input in pixels; None for `default_input_size`.
        backbone_options: Options of the backbone, such as `{"alpha": 0.75}`.
        classes: 2 for one output P(fractured), more for one probability a class.
        dropout: Share of the features that training leaves out.

    Returns:
        An uncompiled, flat `keras.Model` from float32 (n, size, size, 1), grey levels 0..255, to "p_fracture" (n, 1),
        or to "p_class" (n, classes). The backbone is frozen; see `unfreeze`.

    Raises:
        FracturelabError: Unknown backbone, or weights that cannot be had or do not fit.
    """
    import keras
    from keras import layers

    info = weights if isinstance(weights, WeightsInfo) else resolve(backbone, weights, backbone_options)
    backbone = info.backbone
    if info.kind == "none":
        warnings.warn(info.sentence, stacklevel=2)
    size = default_input_size(backbone, info) if input_size is None else input_size
    base = build_backbone(
        backbone,
        input_size=size,
        options=info.options,
        weights_path="imagenet" if info.path == "imagenet" else None,
        scaling=info.scaling,
        trainable=False,
    )
    if info.path and info.path != "imagenet":
        load_into(base, info.path, sha256=info.sha256)
    averages = [
        layers.GlobalAveragePooling2D(name=f"average_{place}")(base.get_layer(name).output)
        for place, name in zip(("fine", "coarse"), feature_layers(base), strict=True)
    ]
    x = layers.Concatenate(name=FEATURES)(averages)
    x = layers.BatchNormalization(center=False, scale=False, epsilon=1e-9, trainable=False, name=STANDARDISE)(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    name = re.sub(r"[^A-Za-z0-9_]+", "_", backbone).lower()
    return keras.Model(base.input, output_layer(classes)(x), name=f"transfer_{name}")


def set_norm_moments(model: keras.Model, images: NDArray) -> None:
    """Set the moments of a random backbone's batch norms to those of some images, in one pass.

    With mean 0 and variance 1, as they are built, the signal of a deep random network fades (MobileNet: to 1e-20) or
    grows, and a control on random weights would give one output for all images. Pretrained weights have moments.

    Args:
        model: From `build_transfer_model`; only its batch norms change, and they stay frozen.
        images: (n, size, size, 1), grey levels 0..255; some thirty suffice.
    """
    import keras
    import numpy as np

    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name != STANDARDISE
    ]
    before = [(layer.trainable, layer.momentum) for layer in norms]
    for layer in norms:
        layer.trainable, layer.momentum = True, 0.0
    model(np.asarray(images, np.float32), training=True)
    for layer, (trainable, momentum) in zip(norms, before, strict=True):
        layer.trainable, layer.momentum = trainable, momentum


def freeze_line(model: keras.Model, *, narrow: bool = False) -> str:
    """Name of the layer up to which a transfer model stays frozen when its top block is trained.

    It is the last layer, at or before the fine feature layer, through which everything above must pass, and above
    which the backbone still has weights: what comes out of it can be computed once and kept.

    Args:
        model: From `build_transfer_model`.
        narrow: Where there is one with maps of the same size and at most half the channels, take the last such layer:
            its outputs need less room.
    """
    fine, coarse = feature_layers_of(model)
    operations = list(model.operations)  # in topological order
    places = {operation.name: place for place, operation in enumerate(operations)}
    weighted = [place for place in range(places[coarse] + 1) if getattr(operations[place], "weights", None)]
    lines: list[Any] = []
    farthest = 0  # place up to which an operation before this one is needed
    for place, operation in enumerate(operations[: places[fine] + 1]):
        if farthest <= place < weighted[-1] and len(operation.output.shape) == 4:
            lines.append(operation)
        followers = [node.operation.name for node in operation._outbound_nodes]
        farthest = max([farthest, *(places[name] for name in followers if name in places)])
    if not lines:
        raise FracturelabError(f"expected {model.name} to have a layer that everything passes through")
    _, side, _, channels = lines[-1].output.shape
    slim = [line for line in lines if line.output.shape[1] == side and line.output.shape[-1] <= channels / 2]
    return (slim if narrow and slim else lines)[-1].name


def feature_layers_of(model: keras.Model) -> tuple[str, str]:
    """Names of the two layers of a transfer model whose averages are its features."""
    inputs = (model.get_layer(f"average_{place}").input for place in ("fine", "coarse"))
    return tuple(tensor._keras_history.operation.name for tensor in inputs)


def output_of(model: keras.Model, name: str) -> keras.KerasTensor:
    """Output of the layer or operation of this name."""
    return next(operation for operation in model.operations if operation.name == name).output


def split_at(model: keras.Model, name: str) -> tuple[keras.Model, keras.Model]:
    """Cut a model in two at a layer everything passes through; both parts share its layers and weights.

    Returns:
        From the input to that layer's output, and from there to the model's output.
    """
    import keras

    middle = output_of(model, name)
    return keras.Model(model.input, middle, name="trunk"), keras.Model(middle, model.output, name="top")


def unfreeze(model: keras.Model, *, after: str) -> int:
    """Make the layers after a layer trainable, batch norm excepted: it keeps its moments and stays in inference mode.

    Args:
        model: A transfer model.
        after: Name of the layer up to which everything stays frozen.

    Returns:
        How many weights are trainable now.
    """
    import keras

    names = [operation.name for operation in model.operations]
    above = set(names[names.index(after) + 1 :])
    for layer in model.layers:
        layer.trainable = layer.name in above and not isinstance(layer, keras.layers.BatchNormalization)
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)
