"""A head on activation maps: it has an output for the image, and one for each cell of a grid on the image.

Features of two scales are joined at the finer one. The mean, the maximum and an attention-weighted mean over all cells
(Ilse et al., *Attention-based Deep Multiple Instance Learning*, 2018), and a soft maximum of the cells' own logits, go
into one linear unit. All layers are built into Keras, so that the model can be saved, opened and exported like others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fracturelab.errors import FracturelabError
from fracturelab.models.cnn import output_layer
from fracturelab.models.transfer import feature_layers_of

if TYPE_CHECKING:
    import keras

CELLS = "cells"
"""Name of the layer with the logits of the cells, (n, size / 16, size / 16, 1)."""
JOINED = "joined"
"""How the names of the layers begin that join both scales, one for each head."""
STANDARDISED = ("standardise_fine", "standardise_coarse")
_SHARPNESS = 2.0  # of the soft maximum
_SHARE = 0.3  # of the soft maximum in the first logit


def with_maps_head(transfer: keras.Model, *, heads: int = 1, width: int = 96, dropout: float = 0.5) -> keras.Model:
    """Put a head on maps onto the backbone of a transfer model.

    Args:
        transfer: From `build_transfer_model`, for two classes; its input size is a multiple of 32.
        heads: Number of heads side by side; `average_heads` fills several.
        width: Channels of the joined maps.
        dropout: Share of the pooled features that training leaves out.

    Returns:
        An uncompiled, flat `keras.Model` from float32 (n, size, size, 1), grey levels 0..255, to "p_fracture" (n, 1).
        It shares the backbone's layers. Its layer `CELLS` holds for each cell the logit of a fracture in it.

    Raises:
        FracturelabError: The maps of the two scales do not fit each other.
    """
    import keras
    from keras import layers

    fine, coarse = (transfer.get_layer(name).output for name in feature_layers_of(transfer))
    if fine.shape[1] % coarse.shape[1]:
        raise FracturelabError(f"expected an input size that 32 divides. Received: {transfer.input_shape[1]}")
    suffixes = [""] if heads == 1 else [f"_{number}" for number in range(heads)]
    pooled, cells = zip(*(_head(fine, coarse, width, suffix) for suffix in suffixes), strict=True)
    mean = cells[0] if heads == 1 else layers.Average(name=CELLS)(cells)
    x = layers.Dropout(dropout)(layers.Concatenate(name="pooled")([part for parts in pooled for part in parts]))
    output = output_layer(2)
    answer = output(layers.Concatenate(name="pooled_and_cells")([x, _soft_maximum(mean)]))
    kernel, bias = output.get_weights()
    kernel[:-1] *= 0.4
    kernel[-1] = -_SHARE / _SHARPNESS
    output.set_weights([kernel, bias])
    return keras.Model(transfer.input, answer, name=transfer.name.replace("transfer", "maps"))


def average_heads(transfer: keras.Model, models: Sequence[keras.Model]) -> keras.Model:
    """Put several trained heads beside each other; their logits and their cells are averaged.

    Args:
        transfer: The model whose backbone all heads were trained on.
        models: From `with_maps_head`, each with one trained head on that unchanged backbone.
    """
    model = with_maps_head(transfer, heads=len(models))
    outputs = [head.layers[-1].get_weights() for head in models]
    for number, head in enumerate(models):
        for layer in head.layers[:-1]:
            name = f"{layer.name}_{number}"
            if layer.weights and any(mine.name == name for mine in model.layers):
                model.get_layer(name).set_weights(layer.get_weights())
    kernels = np.concatenate([kernel[:-1] for kernel, _ in outputs] + [sum(kernel[-1:] for kernel, _ in outputs)])
    model.layers[-1].set_weights([kernels / len(models), np.mean([bias for _, bias in outputs], axis=0)])
    return model


def _head(
    fine: keras.KerasTensor, coarse: keras.KerasTensor, width: int, suffix: str
) -> tuple[list, keras.KerasTensor]:
    """Three pooled features (n, width), and the logits of the cells (n, h, w, 1)."""
    import keras
    from keras import layers

    side, projected = int(fine.shape[1]), []
    small = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    for name, maps in zip(STANDARDISED, (fine, coarse), strict=True):
        x = layers.BatchNormalization(center=False, scale=False, epsilon=1e-9, trainable=False, name=f"{name}{suffix}")(
            maps
        )
        x = layers.Dropout(0.1)(x)
        projected.append(
            layers.Conv2D(width, 1, kernel_initializer=small, name=name.replace("standardise", "project") + suffix)(x)
        )
    enlarged = layers.UpSampling2D(side // int(coarse.shape[1]), interpolation="bilinear")(projected[1])
    joined = layers.ReLU(name=f"{JOINED}{suffix}")(layers.Add()([projected[0], enlarged]))
    few = keras.initializers.Constant(-4.0)  # few cells hold a fracture
    cells = layers.Conv2D(1, 1, kernel_initializer=small, bias_initializer=few, name=f"{CELLS}{suffix}")(
        layers.Dropout(0.3)(joined)
    )
    hidden = layers.Conv2D(48, 1, activation="tanh", name=f"attention_hidden{suffix}")(joined)
    attention = layers.Reshape((side**2, 1))(layers.Conv2D(1, 1, name=f"attention{suffix}")(hidden))
    attended = layers.Dot(axes=1)([layers.Softmax(axis=1)(attention), layers.Reshape((side**2, width))(joined)])
    means = [layers.GlobalAveragePooling2D()(joined), layers.GlobalMaxPooling2D()(joined)]
    return [*means, layers.Flatten()(attended)], cells


def _soft_maximum(cells: keras.KerasTensor) -> keras.KerasTensor:
    """-log(1 + sum(exp(sharpness * cell))), (n, 1): the log softmax of a zero beside the cells.

    This form needs no layer but those of Keras.
    """
    from keras import layers

    count = cells.shape[1] * cells.shape[2]
    x = layers.Rescaling(_SHARPNESS)(layers.Reshape((count, 1))(cells))
    x = layers.Activation("log_softmax")(layers.Flatten()(layers.ZeroPadding1D((0, 1))(x)))
    return layers.Flatten()(layers.Cropping1D((count, 0))(layers.Reshape((count + 1, 1))(x)))
